"""The SPDE prior against the Matern covariance, dense algebra and its own promises."""

import math

import numpy as np
import pytest
import torch

from sciprob.errors import ConfigError, SciprobWarning, ShapeError, UnsupportedProblemError
from sciprob.operators import store
from sciprob.operators.base import Capability
from sciprob.priors.fe_matern import FEMatern, FEMaternRoot
from sciprob.priors.matern import matern_correlation
from sciprob.spaces import FESpace, box_mesh
from sciprob.testing import OperatorConformance


def matern(distance, std, length, nu):
    return std**2 * matern_correlation(torch.tensor(distance), length, nu).numpy()


def small(smoothness=1.0, **settings):
    """119 nodes on [0, 2] x [0, 1]."""
    space = FESpace(box_mesh((16, 6), (0.0, 0.0), (2.0, 1.0)), name="m")
    return FEMatern(space, **({"std": 1.5, "length": 0.4, "mean": 0.5, "smoothness": smoothness} | settings))


class TestRootConforms(OperatorConformance):
    def make(self):
        return small().root, self.noise((119,))


class TestSmoothRootConforms(OperatorConformance):
    def make(self):
        return small(smoothness=3.0).root, self.noise((119,))


@pytest.mark.parametrize(("nu", "tolerance"), [(1.0, 0.015), (3.0, 0.01)])
def test_covariance_in_the_interior_is_matern(nu, tolerance):
    """Columns of the covariance at three inner nodes, 5 or more length scales from the boundary."""
    space = FESpace(box_mesh((48, 48), (0.0, 0.0), (1.0, 1.0)))
    prior = FEMatern(space, std=2.0, length=0.1, smoothness=nu)
    points = space.mesh.points
    for target in ([0.5, 0.5], [0.5, 0.51], [0.48, 0.5]):
        node = int(np.argmin(np.linalg.norm(points - target, axis=1)))
        unit = torch.zeros(space.size, dtype=torch.float64)
        unit[node] = 1.0
        distance = np.linalg.norm(points - points[node], axis=1)
        column = prior.covariance(unit).numpy()
        assert np.abs(column - matern(distance, 2.0, 0.1, nu)).max() < tolerance * 4.0


def test_unnormalised_std_in_the_interior_and_the_boundary_treatment():
    """Without scaling: right std inside; Neumann doubles the variance at the sides, Robin does not."""
    space = FESpace(box_mesh((40, 40), (0.0, 0.0), (1.0, 1.0)))
    on_sides = np.unique(space.mesh.boundary_facets)
    middle = int(np.argmin(np.linalg.norm(space.mesh.points - 0.5, axis=1)))
    for nu in (1.0, 3.0):
        variances = {
            kind: FEMatern(
                space, std=2.0, length=0.12, smoothness=nu, boundary=kind, normalise=False
            ).variance() / 4.0
            for kind in ("neumann", "robin")
        }  # fmt: skip
        assert float(variances["robin"][middle]) == pytest.approx(1.0, abs=0.01)
        assert float(variances["neumann"][on_sides].mean()) > 2.0
        assert float(variances["robin"].min()) > 0.75
        assert float(variances["robin"].max()) < 1.5


def test_covariance_in_three_dimensions():
    space = FESpace(box_mesh((10, 10, 10), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    assert FEMatern(space, length=0.2, normalise=False).root.alpha == 2
    prior = FEMatern(space, std=1.0, length=0.25, smoothness=2.5)
    node = int(np.argmin(np.linalg.norm(space.mesh.points - 0.5, axis=1)))
    unit = torch.zeros(space.size, dtype=torch.float64)
    unit[node] = 1.0
    distance = np.linalg.norm(space.mesh.points - space.mesh.points[node], axis=1)
    assert np.abs(prior.covariance(unit).numpy() - matern(distance, 1.0, 0.25, 2.5)).max() < 0.1


@pytest.mark.parametrize("smoothness", [1.0, 3.0])
def test_std_is_exact_at_every_node(smoothness):
    std = torch.linspace(0.5, 2.0, 119, dtype=torch.float64)
    prior = small(smoothness, std=std)
    dense = prior.root.to_dense()
    torch.testing.assert_close(dense.square().sum(1), std**2, rtol=1e-10, atol=0)
    torch.testing.assert_close(prior.variance(), std**2, rtol=1e-14, atol=0)
    plain = small(smoothness, normalise=False)
    torch.testing.assert_close(plain.variance(), plain.root.to_dense().square().sum(1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("smoothness", [1.0, 3.0])
def test_density_is_that_of_the_dense_normal(smoothness):
    prior = small(smoothness)
    assert Capability.PRIOR_LOG_PROB in prior.capabilities
    dense = prior.root.to_dense()
    m = prior.sample((2, 3), generator=torch.Generator().manual_seed(1))
    reference = torch.distributions.MultivariateNormal(prior.mean, dense @ dense.T)
    torch.testing.assert_close(prior.log_prob(m), reference.log_prob(m), rtol=1e-8, atol=0)
    # The residual xi^T xi has the right law, and the gradient is -C^{-1} (m - mean).
    point = m[0, 0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(prior.log_prob(point), point)
    expected = -torch.linalg.solve(dense @ dense.T, m[0, 0] - prior.mean)
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("smoothness", [1.0, 3.0])
def test_solve_and_determinant(smoothness):
    root = small(smoothness).root
    xi = torch.randn(4, 119, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(root.solve(root(xi)), xi, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(root.log_abs_det(), torch.linalg.slogdet(root.to_dense())[1], rtol=1e-10, atol=0)
    torch.testing.assert_close(root.T.to_dense(), root.to_dense().T, rtol=1e-12, atol=1e-13)


def test_draws_have_the_right_moments():
    prior = small()
    n = 20_000
    draws = prior.sample((n,), generator=torch.Generator().manual_seed(3))
    covariance = prior.root.to_dense() @ prior.root.to_dense().T
    standard_error = 1.5 / math.sqrt(n)
    assert float((draws.mean(0) - 0.5).abs().max()) < 4.5 * standard_error
    assert float((torch.cov(draws.T) - covariance).abs().max()) < 5 * math.sqrt(2) * 1.5**2 / math.sqrt(n)
    again = prior.sample((2,), generator=torch.Generator().manual_seed(3))
    assert torch.equal(again, prior.sample((2,), generator=torch.Generator().manual_seed(3)))


def test_stored_and_restored_root_gives_the_same_numbers():
    for smoothness in (1.0, 3.0):
        root = small(smoothness).root
        kind, settings, tensors = store.describe(root)
        assert kind == "fe-matern-root"
        restored = store.restore(kind, settings, tensors)
        assert isinstance(restored, FEMaternRoot)
        xi = torch.randn(3, 119, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
        assert torch.equal(restored(xi), root(xi))
        assert torch.equal(restored.solve(xi), root.solve(xi))
        assert torch.equal(restored.log_abs_det(), root.log_abs_det())
        assert restored.codomain.name == "m"


def test_dtype_follows_the_input():
    prior = small()
    xi = torch.randn(2, 119, generator=torch.Generator().manual_seed(5))
    assert prior.root(xi).dtype == torch.float32
    single = prior.float()
    assert single.sample((2,), generator=torch.Generator().manual_seed(6)).dtype == torch.float32
    assert single.log_prob(single.mean).dtype == torch.float32


def test_wrong_settings_are_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"one of \[1.0, 3.0\], got 2.0"):
        small(2.0)
    with pytest.raises(ConfigError, match="`length` of a Matern prior should be a positive number, got -1"):
        small(length=-1.0)
    with pytest.raises(ConfigError, match="`std` of a Matern prior should be a positive number, got 0"):
        small(std=0.0)
    with pytest.raises(ConfigError, match="'robin' or 'neumann', got 'dirichlet'"):
        small(boundary="dirichlet")
    with pytest.raises(ShapeError, match=r"`mean` should be one number or nodal values \(119,\), got \(3,\)"):
        small(mean=torch.zeros(3))
    mesh = box_mesh((4, 4), (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(UnsupportedProblemError, match="needs P1 elements, got degree 2"):
        FEMatern(FESpace(mesh, 2), length=0.5)
    with pytest.warns(SciprobWarning, match="length 0.1 is not resolved by cells of diameter 0.35"):
        FEMatern(FESpace(mesh), length=0.1)
