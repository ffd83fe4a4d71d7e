"""Posteriors of fields that are known everywhere: exact points, derivatives, grids, and reloading."""

from __future__ import annotations

import pytest
import torch

import sciprob
from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators.linear import DenseMap
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.posteriors import ProcessPosterior
from sciprob.priors.kernels import GaussianMixture, Matern, SquaredExponential, StudentMixture
from sciprob.solvers.kronecker_gp import condition
from sciprob.spaces import GridSpace, Space


def grid(shape=(9, 10), lower=(0.0, 0.0), upper=(1.0, 0.5), dims=("x", "t")) -> GridSpace:
    return GridSpace(shape, "u", dims, lower=lower, upper=upper)


def advected(kernels=None, batch=()):
    """u_t + 2 u_x = 0 from a noisy initial profile and inflow data, with a null space along x."""
    space = grid()
    x, t = space.axis(0), space.axis(1)
    one = torch.ones((), dtype=torch.float64)
    profile = torch.sin(5 * x)[:, None].expand(*batch, 9, 1)
    rows = [
        Functionals(
            "advection", ("x", "t"), TensorPoints((x, t)), {"t": one, "x": 2 * one}, x.new_zeros(9, 10), 0.1 * one
        ),
        Functionals("initial", ("x", "t"), TensorPoints((x, t[:1])), {"": one}, profile, 0.01 * one),
        Functionals("inflow", ("x", "t"), TensorPoints((x[:1], t)), {"": one}, torch.sin(-10 * t)[None], 0.01 * one),
    ]
    kernels = kernels or (GaussianMixture([1.0, 0.3], [0.0, 0.8], [2.0, 2.0]), SquaredExponential(0.3))
    return space, condition(kernels, rows, null_space=(1, 0), null_std=3.0)


def test_grid_values_agree_with_the_dense_covariance_of_the_root():
    space, process = advected()
    posterior = ProcessPosterior(space, process, scale=2.0)
    assert posterior.mean.shape == posterior.std.shape == space.shape
    dense = posterior.root.to_dense()
    torch.testing.assert_close((dense @ dense.T).diagonal().sqrt(), posterior.std.flatten(), rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(posterior.std, 2 * process.std(TensorPoints((space.axis(0), space.axis(1)))))
    y = torch.randn(3, *space.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(posterior.root.T(y).flatten(1), y.flatten(1) @ dense)
    draws = posterior.sample((2000,), generator=torch.Generator().manual_seed(1))
    error = (draws.mean(0) - posterior.mean) / posterior.std
    assert float(error.abs().max()) < 5 / 2000**0.5
    spread = draws.std(0) / posterior.std
    assert float((spread - 1).abs().max()) < 5 / 4000**0.5


def test_points_are_evaluated_not_interpolated():
    space, process = advected()
    posterior = ProcessPosterior(space, process, meta={"problem": "advection"})
    points = torch.tensor([[0.137, 0.21], [0.5, 0.0], [0.99, 0.44]], dtype=torch.float64)  # columns x, t
    field = posterior.at(points)
    torch.testing.assert_close(field.mean, process.mean(ScatteredPoints(points)))
    torch.testing.assert_close(field.std, process.std(ScatteredPoints(points)))
    covariance = field.covariance()
    torch.testing.assert_close(covariance.diagonal(), field.variance, rtol=1e-6, atol=1e-12)
    basis = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(process.covariance_action(ScatteredPoints(points), basis), covariance)
    assert field.space.dims == ("points",)
    assert field.meta == {"problem": "advection"}
    truth = torch.sin(5 * (points[:, 0] - 2 * points[:, 1]))
    assert bool(((field.mean - truth).abs() < 4 * field.std).all())
    coarse = GridSpace.interpolation(space, points)
    interpolated = (posterior.mean.flatten()[coarse[0]] * coarse[1]).sum(1)
    assert float((interpolated - truth).abs().max()) > 2 * float((field.mean - truth).abs().max())


def test_derivatives_and_other_grids_come_from_the_same_coefficients():
    space, process = advected()
    posterior = ProcessPosterior(space, process, scale=1.5)
    h = 1e-4
    fine = posterior.on(grid((3,) * 2, lower=(0.4 - h, 0.2 - h), upper=(0.4 + h, 0.2 + h)))
    value = fine.mean
    along_x = posterior.derivative("x")
    slope = (value[2, 1] - value[0, 1]) / (2 * h)
    torch.testing.assert_close(
        along_x.at(torch.tensor([[0.4, 0.2]], dtype=torch.float64)).mean[0], slope, rtol=1e-5, atol=1e-6
    )
    mixed = (value[2, 2] - value[2, 0] - value[0, 2] + value[0, 0]) / (4 * h**2)
    point = torch.tensor([[0.4, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(along_x.derivative("t").at(point).mean[0], mixed, rtol=1e-4, atol=1e-3)
    assert along_x.space.name == "u_x"
    torch.testing.assert_close(along_x.std, 1.5 * process.std(TensorPoints((space.axis(0), space.axis(1))), "x"))
    residual = posterior.derivative("t").mean + 2 * along_x.mean  # the equation was observed with std 0.1
    assert float(residual.abs().max()) < 0.3


def test_linear_operators_keep_the_process_gaussian():
    space, process = advected()
    posterior = ProcessPosterior(space, process)
    weights = torch.randn(4, space.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    pushed = posterior.push(DenseMap(weights, domain=space, codomain=Space((4,), "y")))
    torch.testing.assert_close(pushed.mean, weights @ posterior.mean.flatten())
    torch.testing.assert_close(pushed.covariance(), weights @ posterior.covariance() @ weights.T)


KERNELS = [
    (StudentMixture([1.0, 0.5], [0.0, 1.0], [1.0, 1.0], smoothness=3.5), Matern(0.4, 2.5, 1.2)),
    (SquaredExponential(0.4, 0.9), GaussianMixture([1.0], [0.0], [3.0])),
]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("computed", [True, False])
def test_a_saved_process_comes_back_bit_for_bit(tmp_path, kernels, computed):
    space, process = advected(kernels)
    posterior = ProcessPosterior(space, process, scale=1.25, meta={"problem": "p", "seed": 3}).derivative("x")
    if computed:
        assert posterior.std.isfinite().all()
    posterior.save(tmp_path)
    again = sciprob.load_posterior(tmp_path)
    assert isinstance(again, ProcessPosterior)
    assert again.space == posterior.space
    assert again.meta == posterior.meta
    assert again.name_of_derivative == "x"
    points = torch.tensor([[0.137, 0.21], [0.5, 0.0]], dtype=torch.float64)
    for a, b in (
        (again, posterior),
        (again.at(points), posterior.at(points)),
        (again.derivative("t"), posterior.derivative("t")),
    ):
        assert torch.equal(a.mean, b.mean)
        assert torch.equal(a.std, b.std)
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    assert torch.equal(again.sample((3,), generator=seeds[0]), posterior.sample((3,), generator=seeds[1]))


def test_modes_are_saved_too(tmp_path):
    space = GridSpace((20, 22), "u", ("x", "y"), lower=(0.0, 0.0), upper=(1.0, 1.0))
    x, y, one = space.axis(0), space.axis(1), torch.ones((), dtype=torch.float64)
    sides = [(x[:1], y), (x[-1:], y), (x, y[:1]), (x, y[-1:])]
    rows = [
        Functionals("side", ("x", "y"), TensorPoints(s), {"": one}, s[0][:, None] * s[1], 1e-6 * one) for s in sides
    ]
    source = torch.sin(3 * x)[:, None] * y
    rows.append(Functionals("eq", ("x", "y"), TensorPoints((x, y)), {"xx": one, "yy": one}, source, 1e-4 * one))
    process = condition([SquaredExponential(0.4), SquaredExponential(0.3)], rows, method="diagonalisation")
    posterior = ProcessPosterior(space, process, scale=3.0)
    posterior.save(tmp_path)
    again = sciprob.load_posterior(tmp_path)
    points = torch.tensor([[0.137, 0.21], [0.5, 0.0]], dtype=torch.float64)
    for a, b in ((again, posterior), (again.at(points), posterior.at(points))):
        assert torch.equal(a.mean, b.mean)
        assert torch.equal(a.std, b.std)
    seeds = [torch.Generator().manual_seed(5) for _ in range(2)]
    assert torch.equal(again.sample((3,), generator=seeds[0]), posterior.sample((3,), generator=seeds[1]))


def test_points_of_a_saved_process_are_saved_too(tmp_path):
    space, process = advected()
    field = ProcessPosterior(space, process).at(torch.tensor([[0.137, 0.21], [0.5, 0.0]], dtype=torch.float64))
    field.save(tmp_path)
    again = sciprob.load_posterior(tmp_path)
    assert torch.equal(again.mean, field.mean)
    torch.testing.assert_close(again.covariance(), field.covariance(), rtol=0, atol=0)


def test_what_does_not_fit_is_said():
    space, process = advected()
    posterior = ProcessPosterior(space, process)
    with pytest.raises(ShapeError, match=r"points"):
        posterior.at(torch.zeros(4, 3))
    with pytest.raises(ShapeError, match="coordinates"):
        posterior.derivative("z")
    with pytest.raises(ShapeError, match="axes"):
        ProcessPosterior(grid(dims=("t", "x")), process)
    with pytest.raises(ShapeError, match="batch"):
        ProcessPosterior(*advected(batch=(2,)))
    rough = ProcessPosterior(*advected(KERNELS[0]))
    with pytest.raises(UnsupportedProblemError, match="smoother"):
        rough.derivative("tttt")
