"""Fast diagonalisation and preconditioned conjugate gradients against the factor form and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from process_cases import line, number, poisson_2d, variable_2d

from sciprob.errors import ConvergenceError, UnsupportedProblemError
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.posteriors import ProcessPosterior
from sciprob.priors.kernels import GaussianMixture, SquaredExponential
from sciprob.solvers.kronecker_gp import FactorConditional, ModalConditional, condition, preconditioned
from sciprob.solvers.kronecker_gp import conditioning as module
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.spaces import GridSpace

W = 9.0


def kernel(length=0.6, frequency=W / (2 * math.pi)) -> GaussianMixture:
    return GaussianMixture([1.0, 0.5], [0.0, frequency], [1 / length**2] * 2)


def box(lines, u, terms, f, std, coordinates, batch=()):
    """An equation at all nodes of a grid, and u on its sides."""

    def values(function, lines):
        mesh = torch.meshgrid(*lines, indexing="ij")
        return function(*mesh).expand(*batch, *mesh[0].shape)

    rows = [Functionals("eq", coordinates, TensorPoints(lines), terms, values(f, lines), number(100 * std))]
    for j in range(len(lines)):
        for end in (slice(0, 1), slice(-1, None)):
            side = tuple(x[end] if i == j else x for i, x in enumerate(lines))
            two = number(2.0)  # the condition 2 u = 2 g
            rows.append(
                Functionals("side", coordinates, TensorPoints(side), {"": two}, 2 * values(u, side), number(std))
            )
    return rows


def wave(x, y):
    return torch.sin(W * x) * torch.cos(W * y) + x * y


def laplacian(x, y):
    return -2 * W**2 * torch.sin(W * x) * torch.cos(W * y)


def poisson(std=1e-8, batch=(), shape=(40, 44)):
    lines = (line(0, 1, shape[0]), line(-0.3, 0.9, shape[1]))
    return box(lines, wave, {"xx": number(1.0), "yy": number(1.0)}, laplacian, std, ("x", "y"), batch)


def off_grid():
    return TensorPoints(
        (torch.linspace(0, 1, 31, dtype=torch.float64), torch.linspace(-0.3, 0.9, 29, dtype=torch.float64))
    )


def test_modes_of_an_axis_are_sines():
    nodes = line(0.5, 2.5, 60)
    modes = AxisModes.of(AxisFactors.of(kernel(2.0), nodes, (0, 2)), nodes, 1e-13)
    slowest = modes.eigenvalues.real.sort(descending=True).values[:4]
    expected = -((torch.arange(1, 5, dtype=torch.float64) * math.pi / 2) ** 2)
    torch.testing.assert_close(slowest, expected, rtol=1e-5, atol=0)
    assert float(modes.at(nodes[[0, -1]]).abs().max()) < 1e-8
    values = modes.at(nodes)
    identity = torch.eye(values.shape[1], dtype=torch.float64)
    torch.testing.assert_close(values.mT @ values, identity, rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", ["diagonalisation", "conjugate-gradients"])
def test_poisson_is_solved_as_by_the_factor_form(method):
    kernels, points = (kernel(), kernel(0.8)), off_grid()
    modal, factor = condition(kernels, poisson(), method=method), condition(kernels, poisson(), method="factors")
    assert isinstance(modal, ModalConditional)
    exact = wave(points.lines[0][:, None], points.lines[1])
    for found in (modal, factor):
        assert float((found.mean(points) - exact).norm() / exact.norm()) < 1e-6
    slope = modal.mean(points, "x") - factor.mean(points, "x")
    assert float(slope.abs().max()) < 1e-4
    scattered = ScatteredPoints(torch.tensor([[0.41, 0.2], [0.9, -0.3]], dtype=torch.float64))
    truth = wave(scattered.points[:, 0], scattered.points[:, 1])
    torch.testing.assert_close(modal.mean(scattered), truth, rtol=0, atol=1e-6)
    ratio = modal.std(points)[5:-5, 5:-5] / factor.std(points)[5:-5, 5:-5]
    assert 0.5 < float(ratio.min()) < float(ratio.max()) < 2.0


def test_helmholtz_and_anisotropic_diffusion_in_one_and_three_dimensions():
    z = line(0, 1, 50)
    one = box(
        (z,),
        lambda x: torch.cos(W * x),
        {"xx": number(2.0), "": number(40.0)},
        lambda x: (40 - 2 * W**2) * torch.cos(W * x),
        1e-8,
        ("x",),
    )
    found = condition([kernel()], one, method="diagonalisation").mean(TensorPoints((z[:-1] + 0.003,)))
    torch.testing.assert_close(found, torch.cos(W * (z[:-1] + 0.003)), rtol=0, atol=1e-6)
    lines = (line(0, 1, 20), line(0, 0.8, 22), line(0, 1.2, 24))

    def u(x, y, z):
        return torch.sin(5 * x + 2 * z) * torch.exp(y) + z

    terms = {"xx": number(1.0), "yy": number(3.0), "zz": number(0.5)}
    rows = box(
        lines, u, terms, lambda x, y, z: (-25 + 3 - 2) * torch.sin(5 * x + 2 * z) * torch.exp(y), 1e-8, ("x", "y", "z")
    )
    smooth = [SquaredExponential(0.5), SquaredExponential(0.5), SquaredExponential(0.5)]
    points = TensorPoints(tuple(x[::3] + 0.01 * (x[-1] - x[0]) * (x < x[-1])[::3] for x in lines))
    exact = u(*torch.meshgrid(*points.lines, indexing="ij"))
    error = condition(smooth, rows, method="diagonalisation").mean(points) - exact
    assert float(error.abs().max()) < 1e-5


def test_variable_coefficients_of_full_rank_are_solved_as_by_the_factor_form():
    lines = (line(0, 1, 40), line(0, 1, 43))
    x, y = lines[0][:, None], lines[1]
    a, b, c = 1 + 0.3 * torch.sin(5 * x * y), 5 * torch.cos(3 * x + 2 * y), 10 * torch.exp(torch.sin(7 * x * y) + x)
    terms = {"xx": a, "yy": number(1.0), "x": b, "": c}

    def f(x, y):
        slope = W * torch.cos(W * x) * torch.cos(W * y) + y
        return -(a + 1) * W**2 * torch.sin(W * x) * torch.cos(W * y) + b * slope + c * wave(x, y)

    rows = box(lines, wave, terms, f, 1e-8, ("x", "y"))
    points = TensorPoints((torch.linspace(0, 1, 31, dtype=torch.float64),) * 2)
    exact = wave(points.lines[0][:, None], points.lines[1])
    error = condition((kernel(), kernel()), rows, method="conjugate-gradients").mean(points) - exact
    assert float(error.norm() / exact.norm()) < 2e-6
    with pytest.raises(UnsupportedProblemError, match="constant coefficients"):
        condition((kernel(), kernel()), rows, method="diagonalisation")


def test_an_iteration_that_stops_early_is_refused(monkeypatch):
    monkeypatch.setattr(preconditioned, "_MOST", 3)
    lines = (line(0, 1, 40), line(0, 1, 43))
    x, y = lines[0][:, None], lines[1]
    c = 100 * torch.exp(torch.sin(7 * x * y) + x)
    terms = {"xx": number(1.0), "yy": number(1.0), "": c}
    rows = box(lines, wave, terms, lambda x, y: laplacian(x, y) + c * wave(x, y), 1e-8, ("x", "y"))
    with pytest.raises(ConvergenceError, match=r"after 3 products.*factors"):
        condition((kernel(), kernel()), rows, method="conjugate-gradients")


def test_noise_is_weighed_against_the_prior_in_one_dimension():
    """Modes are nearly independent a priori for a short kernel: large noise gives the posterior of the factor form."""
    nodes = line(0, 1, 80)
    rows = box((nodes,), lambda x: 0 * x, {"xx": number(1.0)}, lambda x: -200 * torch.sin(3 * math.pi * x), 0.5, ("x",))
    rows = [rows[0], *(Functionals(r.name, r.coordinates, r.points, r.terms, r.values, number(1e-9)) for r in rows[1:])]
    kernels = [SquaredExponential(0.05, 4.0)]
    points = TensorPoints((line(0.02, 0.98, 41),))
    modal = condition(kernels, rows, method="diagonalisation")
    factor = condition(kernels, rows, method="factors")
    scale = float(factor.mean(points).abs().max())
    assert float((modal.mean(points) - factor.mean(points)).abs().max()) < 0.05 * scale
    torch.testing.assert_close(modal.std(points), factor.std(points), rtol=0.15, atol=0)
    varying = {"xx": 1 + 1e-6 * nodes}  # conjugate gradients keep the prior of the factors, not of independent modes
    rows[0] = Functionals("eq", ("x",), rows[0].points, varying, rows[0].values, rows[0].std)
    iterated = condition(kernels, rows, method="conjugate-gradients")
    assert float((iterated.mean(points) - factor.mean(points)).abs().max()) < 0.01 * scale


def test_batches_draws_and_posteriors():
    kernels, points = (kernel(), kernel(0.8)), off_grid()
    rows = poisson(std=1e-3, batch=(2, 3))
    many = condition(kernels, rows, method="diagonalisation")
    one = condition(kernels, poisson(std=1e-3), method="diagonalisation")
    assert many.mean(points).shape == (2, 3, 31, 29)
    assert many.log_evidence.shape == many.chi_square.shape == (2, 3)
    torch.testing.assert_close(many.mean(points)[1, 2], one.mean(points))
    empty = condition(kernels, poisson(batch=(0,)), method="conjugate-gradients")
    assert empty.mean(points).shape == (0, 31, 29)
    few = TensorPoints((line(0.2, 0.8, 4), line(0, 0.5, 3)))
    draws = one.sample(few, 4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.std(0) / one.std(few), torch.ones(4, 3, dtype=torch.float64), rtol=0, atol=0.06)
    assert float(((draws.mean(0) - one.mean(few)) / one.std(few)).abs().max()) < 5 / 4000**0.5
    basis = torch.eye(12, dtype=torch.float64).reshape(12, 4, 3)
    matrix = one.covariance_action(few, basis).reshape(12, 12)
    torch.testing.assert_close(matrix, matrix.T, rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(matrix.diagonal().sqrt(), one.std(few).flatten())
    space = GridSpace((40, 44), "u", ("x", "y"), lower=(0.0, -0.3), upper=(1.0, 0.9))
    slope = Functionals(
        "2 u_x", ("x", "y"), few, {"x": number(2.0)}, torch.zeros(4, 3, dtype=torch.float64), number(1.0)
    )
    torch.testing.assert_close(one.std_of(slope), 2 * one.std(few, "x"))
    posterior = ProcessPosterior(space, one)
    where = torch.tensor([[0.4, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(posterior.at(where).mean, one.mean(ScatteredPoints(where)))
    torch.testing.assert_close(posterior.at(where).covariance().sqrt()[0], one.std(ScatteredPoints(where)))


def test_complex_modes_of_a_coarse_line_come_in_pairs_and_keep_fields_real():
    kernels = [GaussianMixture([1.0, 0.5], [0.0, 20 / (2 * math.pi)], [4.0, 4.0])]
    nodes = line(0, 1, 60)
    rows = box(
        (nodes,), lambda x: torch.sin(20 * x), {"xx": number(1.0)}, lambda x: -400 * torch.sin(20 * x), 1e-7, ("x",)
    )
    process = condition(kernels, rows, method="diagonalisation")
    assert float(process.modes[0].eigenvalues.imag.abs().max()) > 1.0
    points = TensorPoints((line(0.03, 0.97, 7),))
    torch.testing.assert_close(process.mean(points), torch.sin(20 * points.lines[0]), rtol=0, atol=1e-6)
    g = torch.Generator().manual_seed(2)
    white = torch.randn(3, *process.white_shape, generator=g, dtype=torch.float64)
    values = torch.randn(3, 7, generator=g, dtype=torch.float64)
    left = (process.deviation(white, points) * values).sum()
    right = (process.deviation_transpose(values, points) * white).sum()
    torch.testing.assert_close(left, right, rtol=1e-8, atol=0)
    draws = process.sample(points, 4000, g)
    torch.testing.assert_close(
        draws.std(0) / process.std(points), torch.ones(7, dtype=torch.float64), rtol=0, atol=0.06
    )


def test_other_functionals_are_not_a_dirichlet_box():
    kernels = (kernel(), kernel())
    for rows in (poisson_2d(), variable_2d(), poisson()[:-1], [*poisson(), poisson_2d()[-1]]):
        with pytest.raises(UnsupportedProblemError, match="Dirichlet"):
            condition(kernels, rows, method="diagonalisation")


def test_the_rank_chooses(monkeypatch):
    kernels = (kernel(), kernel())
    assert isinstance(condition(kernels, poisson()), FactorConditional)
    monkeypatch.setattr(module, "LARGEST_RANK", 50)
    assert isinstance(condition(kernels, poisson()), ModalConditional)
    assert isinstance(condition(kernels, poisson_2d()), FactorConditional)
