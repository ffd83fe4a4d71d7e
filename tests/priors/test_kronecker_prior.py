"""Separable priors on grids: dense normals, densities, ranks, moments, null space."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.operators.store import describe, restore
from sciprob.priors import KroneckerPrior
from sciprob.priors.kernels import GaussianMixture, Matern, StationaryKernel, StudentMixture, covariance
from sciprob.priors.kronecker import legendre
from sciprob.spaces import GridSpace
from sciprob.testing import OperatorConformance

KERNELS: tuple[StationaryKernel, ...] = (
    GaussianMixture([0.7, 0.3], [0.0, 2.3], [2.0, 5.0]),
    StudentMixture([1.0, 0.4], [0.0, 1.1], [0.5, 1.0]),
    Matern(0.6, 1.5, 0.8),
)


def grid(*shape: int, centring: str = "node") -> GridSpace:
    d = len(shape)
    upper = (1.0, 2.0, 0.7)[:d]
    return GridSpace(shape, name="u", dims=("x", "y", "z")[:d], lower=(0.0,) * d, upper=upper, centring=centring)


def prior(*shape: int, **settings) -> KroneckerPrior:
    return KroneckerPrior(grid(*shape), KERNELS[: len(shape)], **settings)


def dense_covariance(space: GridSpace, nugget: float = 0.0) -> Tensor:
    """prod_j k_j(x_j - x'_j) over all pairs of points, entry by entry."""
    axes = torch.meshgrid(*(space.axis(i) for i in range(len(space.shape))), indexing="ij")
    total = torch.ones(space.size, space.size, dtype=torch.float64)
    for i, kernel in enumerate(KERNELS[: len(space.shape)]):
        x = axes[i].flatten()
        lags = x[:, None] - x
        white = nugget * kernel.derivatives(torch.zeros((), dtype=torch.float64), 0)[0]
        total = total * (kernel.derivatives(lags, 0)[0] + white * (lags == 0))
    return total.detach()


class TestKroneckerRootConforms(OperatorConformance):
    def make(self):
        p = prior(5, 7, cut=0.05)
        assert p.white.shape != p.space.shape
        return p.root, self.noise(p.white.shape)


class TestSquareKroneckerRootConforms(OperatorConformance):
    def make(self):
        return prior(3, 4, 5, nugget=1e-6).root, self.noise((3, 4, 5))


@pytest.mark.parametrize("shape", [(9,), (5, 7), (7, 5), (3, 4, 5)])
@pytest.mark.parametrize("nugget", [0.0, 1e-6])
def test_covariance_is_the_product_of_the_kernels(shape: tuple[int, ...], nugget: float) -> None:
    p = prior(*shape, nugget=nugget)
    expected = dense_covariance(p.space, nugget)
    root = p.root.to_dense()
    scale = float(expected.max())
    torch.testing.assert_close(root @ root.mT, expected, rtol=0, atol=1e-11 * scale)
    torch.testing.assert_close(p.variance().flatten(), expected.diagonal(), rtol=1e-10, atol=0)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(p.covariance(x).flatten(1), x.flatten(1) @ expected, rtol=0, atol=1e-10 * scale)


@pytest.mark.parametrize("shape", [(9,), (5, 7), (3, 4, 5)])
def test_density_is_that_of_the_dense_normal(shape: tuple[int, ...]) -> None:
    p = prior(*shape, nugget=1e-5, mean=0.3)
    assert Capability.PRIOR_LOG_PROB in p.capabilities
    reference = MultivariateNormal(torch.full((p.space.size,), 0.3).double(), dense_covariance(p.space, 1e-5))
    m = p.sample((2, 3), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(p.log_prob(m), reference.log_prob(m.flatten(2)), rtol=1e-8, atol=0)
    point = m[0, 0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(p.log_prob(point), point)
    precision = torch.linalg.inv(dense_covariance(p.space, 1e-5))
    expected = -(precision @ (m[0, 0] - 0.3).flatten()).reshape(shape)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_log_determinant_is_that_of_the_factors_where_the_dense_one_loses_digits() -> None:
    """Eigenvalues are products of those of the factors; their logarithms add up exactly."""
    p = prior(20, 30, nugget=1e-8)
    values = [
        torch.linalg.eigvalsh(covariance(k, p.space.axis(i), p.space.axis(i)).detach())
        + 1e-8 * k.derivatives(torch.zeros((), dtype=torch.float64), 0)[0].detach()
        for i, k in enumerate(KERNELS[:2])
    ]
    expected = 0.5 * (values[0][:, None] * values[1]).log().sum()
    assert float(p.root.log_abs_det()) == pytest.approx(float(expected), rel=1e-8)


def test_smooth_kernels_need_few_white_variables() -> None:
    p = KroneckerPrior(grid(60, 50), (GaussianMixture(1.0, 0.0, 4.0), GaussianMixture([1.0, 1.0], [0.0, 5.0], 1.0)))
    assert p.white.size < 20 * 40
    assert Capability.PRIOR_LOG_PROB not in p.capabilities
    with pytest.raises(UnsupportedProblemError, match="no density"):
        p.log_prob(p.mean)
    coarse = KroneckerPrior(grid(60, 50), p_kernels := (GaussianMixture(1.0, 0.0, 4.0),) * 2, cut=1e-6)
    fine = KroneckerPrior(grid(60, 50), p_kernels)
    assert coarse.white.size < fine.white.size
    torch.testing.assert_close(coarse.variance(), fine.variance(), rtol=1e-3, atol=0)


def test_draws_have_the_right_moments_and_are_repeatable() -> None:
    p = prior(5, 4, mean=0.5)
    n = 20_000
    draws = p.sample((n,), generator=torch.Generator().manual_seed(3)).flatten(1)
    covariance_ = dense_covariance(p.space)
    std = covariance_.diagonal().sqrt()
    assert float(((draws.mean(0) - 0.5) / std).abs().max()) < 4.5 / math.sqrt(n)
    error = (torch.cov(draws.mT) - covariance_) / (std[:, None] * std)
    assert float(error.abs().max()) < 5 * math.sqrt(2 / n)
    again = p.sample((2,), generator=torch.Generator().manual_seed(3))
    assert torch.equal(again, p.sample((2,), generator=torch.Generator().manual_seed(3)))


def test_swapping_axes_swaps_the_field() -> None:
    p = prior(5, 7, nugget=1e-6)
    swapped_grid = GridSpace((7, 5), name="u", dims=("x", "y"), lower=(0.0, 0.0), upper=(2.0, 1.0))
    swapped = KroneckerPrior(swapped_grid, KERNELS[1::-1], nugget=1e-6)
    m = p.sample((3,), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(swapped.log_prob(m.mT), p.log_prob(m), rtol=1e-9, atol=0)


def test_density_integrates_over_draws_to_the_entropy() -> None:
    """-E log p = (N / 2) (1 + log 2 pi) + log |det L|; the quadratic form is chi squared."""
    p = prior(5, 7, nugget=1e-6)
    draws = p.sample((4000,), generator=torch.Generator().manual_seed(4))
    entropy = 0.5 * 35 * (1 + math.log(2 * math.pi)) + float(p.root.log_abs_det())
    standard_error = math.sqrt(35 / 2 / 4000)
    assert abs(float(-p.log_prob(draws).mean()) - entropy) < 4 * standard_error


def test_polynomials_are_free_and_the_rest_is_not() -> None:
    """With a null space of two functions per axis, bilinear fields cost little and a wave costs what it did."""
    space, kernels = grid(12, 15), (GaussianMixture(1.0, 3.0, 1.0), GaussianMixture(1.0, 2.0, 1.0))
    plain = KroneckerPrior(space, kernels, nugget=1e-6)
    free = KroneckerPrior(space, kernels, nugget=1e-6, null_space=2, null_std=1e3)
    x, y = space.axis(0)[:, None], space.axis(1)
    bilinear = 1.0 + 2 * x - y + 3 * x * y

    def cost(p: KroneckerPrior, m: Tensor) -> float:
        return float(p.root.solve(m).square().sum())

    assert cost(free, bilinear) < 1e-3 < cost(plain, bilinear)
    assert cost(plain, bilinear) > 100 * cost(free, bilinear)
    wave = torch.sin(6 * math.pi * x) * torch.sin(4 * math.pi * y)
    assert cost(free, wave) == pytest.approx(cost(plain, wave), rel=0.2)
    one_axis = KroneckerPrior(space, kernels, nugget=1e-6, null_space=(2, 0))
    assert cost(one_axis, torch.ones_like(x) * torch.sin(4 * math.pi * y)) < 1.0 < cost(one_axis, bilinear)


def test_legendre_polynomials_are_orthogonal_and_one_at_the_end() -> None:
    nodes = torch.linspace(2.0, 5.0, 2001, dtype=torch.float64)
    basis = legendre(nodes, 5)
    torch.testing.assert_close(basis[-1], torch.ones(5).double())
    weights = torch.full((2001,), 2 / 2000, dtype=torch.float64)
    weights[[0, -1]] /= 2
    gram = basis.mT @ (weights[:, None] * basis)
    torch.testing.assert_close(gram, torch.diag(2 / (2 * torch.arange(5).double() + 1)), rtol=0, atol=1e-4)
    assert legendre(nodes, 0).shape == (2001, 0)


def test_stored_root_gives_the_same_numbers() -> None:
    p = prior(5, 7, nugget=1e-6)
    kind, settings, tensors = describe(p.root)
    again = restore(kind, settings, tensors)
    xi = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert torch.equal(again(xi), p.root(xi))
    assert again.codomain == p.space


def test_dtype_follows_the_input_and_the_module() -> None:
    p = prior(5, 7)
    assert p.root(torch.zeros(p.white.shape)).dtype == torch.float32
    single = prior(5, 7, nugget=1e-3).float()
    assert single.sample((2,), generator=torch.Generator().manual_seed(6)).dtype == torch.float32
    assert single.log_prob(single.mean).dtype == torch.float32


def test_cells_and_batches() -> None:
    p = KroneckerPrior(grid(4, 3, centring="cell"), KERNELS[:2], nugget=1e-6)
    assert p.log_prob(torch.zeros(2, 0, 4, 3, dtype=torch.float64)).shape == (2, 0)
    torch.testing.assert_close(p.variance().flatten(), dense_covariance(p.space, 1e-6).diagonal())


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"one kernel per axis, got 1"):
        KroneckerPrior(grid(4, 3), KERNELS[:1])
    with pytest.raises(ConfigError, match="`nugget` of a Kronecker prior should be finite and not negative, got -1"):
        prior(4, 3, nugget=-1.0)
    with pytest.raises(ConfigError, match="not periodic"):
        KroneckerPrior(grid(4, 3, centring="periodic"), KERNELS[:2])
    with pytest.raises(ShapeError, match=r"`mean` should be a number or of shape \(4, 3\), got \(3,\)"):
        prior(4, 3, mean=torch.zeros(3))
    with pytest.raises(ConfigError, match=r"one per axis of \(4, 3\), got \[1, 2, 3\]"):
        prior(4, 3, null_space=[1, 2, 3])
    with pytest.raises(ConfigError, match="nugget is below the rounding"):
        KroneckerPrior(grid(100), (GaussianMixture(1.0, 0.0, 1.0),), nugget=1e-19)
    with pytest.raises(ShapeError, match="no batch axes"):
        KroneckerPrior(grid(5), (GaussianMixture(torch.ones(2, 1), 0.0, 1.0),))
