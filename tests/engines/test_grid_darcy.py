"""Darcy flow on a cell grid: order, symmetry, independent solution, preconditioner, derivatives."""

import math

import numpy as np
import pytest
import torch

from sciprob.engines.grid_darcy import CellDarcy, _conjugate_gradients
from sciprob.engines.grid_flux import divergence_of_flux, inverse_symbol, odd_filter
from sciprob.errors import ConfigError, ConvergenceError
from sciprob.spaces import GridSpace
from sciprob.testing import OperatorConformance


def grid(*shape):
    d = len(shape)
    dims = ("y", "x", "z")[:d] if d > 1 else ("x",)
    return GridSpace(shape, dims=dims, lower=(0.0,) * d, upper=(1.0, 1.5, 2.0)[:d], centring="cell")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestPlaneConforms(OperatorConformance):
    dot_tolerance = 1e-11  # the two solves agree to the tolerance of the iteration

    def make(self):
        return CellDarcy(grid(7, 9), 1.0 + noise(7, 9, seed=1).abs()), noise(7, 9)


class TestSpaceConforms(OperatorConformance):
    dot_tolerance = 1e-11

    def make(self):
        return CellDarcy(grid(4, 3, 5)), 0.5 * noise(4, 3, 5)


def manufactured(space):
    """u = sin(pi y) sin(2 pi x / 1.5) with m = sin(2 x) + y^2; f by torch's derivatives, not by ours."""
    a = 2 * math.pi / 1.5

    def state(p):
        return torch.sin(math.pi * p[1]) * torch.sin(a * p[0])

    def conductivity(p):
        return torch.sin(2 * p[0]) + p[1] ** 2

    def source(p):
        flux = lambda q: conductivity(q).exp() * torch.func.grad(state)(q)  # noqa: E731
        return -torch.func.jacrev(flux)(p).diagonal().sum()

    points = space.points()
    m, u, f = (torch.func.vmap(g)(points).reshape(space.shape) for g in (conductivity, state, source))
    return m, u, f


def test_second_order():
    sizes, errors = (16, 32, 64, 128), []
    for n in sizes:
        m, u, f = manufactured(grid(n, n))
        errors.append(float((CellDarcy(grid(n, n), f)(m) - u).square().mean().sqrt()))
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope == pytest.approx(2.0, abs=0.1)


def test_layers_in_closed_form():
    """Across layers the harmonic mean is exact: piecewise quadratic states have exact fluxes on faces.

    One axis, m jumps at 1/2, f = 0 but for one cell: the state is piecewise linear and the scheme exact.
    """
    n, jump = 10, 3.0
    space = grid(n)
    m = torch.where(space.axis(0) < 0.5, 0.0, jump).double()
    f = torch.zeros(n).double()
    f[2] = 1.0 / space.spacing[0]  # unit source at x = 0.25
    u = CellDarcy(space, f)(m)
    left, right = 0.25, 0.25 + 0.5 * math.exp(-jump)  # resistances to the two ends
    flow_right = left / (left + right)
    assert float(u[2]) == pytest.approx(flow_right * right, rel=1e-12)
    assert float(u[7]) == pytest.approx(flow_right * 0.25 * math.exp(-jump), rel=1e-12)


def test_the_matrix_is_symmetric_positive_and_solved():
    space = grid(6, 5)
    m, f = noise(6, 5), noise(6, 5, seed=1)
    basis = torch.eye(30).double().reshape(30, 6, 5)
    matrix = divergence_of_flux(m.expand(30, 6, 5), basis, space.spacing).reshape(30, 30).T
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)
    assert float(torch.linalg.eigvalsh(matrix).min()) > 0
    expected = torch.linalg.solve(matrix, f.flatten()).reshape(6, 5)
    torch.testing.assert_close(CellDarcy(space, f)(m), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("shape", [(9,), (6, 5), (3, 4, 5)])
def test_the_preconditioner_inverts_the_laplacian(shape):
    space, u = grid(*shape), noise(2, *shape)
    laplacian = divergence_of_flux(torch.zeros_like(u), u, space.spacing)
    torch.testing.assert_close(odd_filter(laplacian, inverse_symbol(space)), u, rtol=0, atol=1e-12)


def test_iterations_do_not_grow_with_the_grid():
    counts = []
    for n in (16, 64, 128):
        m, _, f = manufactured(grid(n, n))
        operator = CellDarcy(grid(n, n), f)
        calls = []
        original = operator.flux
        operator.flux = lambda a, b, calls=calls, original=original: calls.append(1) or original(a, b)
        operator(m)
        counts.append(len(calls))
    assert max(counts) <= min(counts) + 4
    assert max(counts) < 40


def test_linearise_counts_one_solve_for_each_direction():
    operator = CellDarcy(grid(6, 5))
    _, derivative = operator.linearise(noise(2, 6, 5))
    before = operator.stats
    derivative(noise(3, 2, 6, 5))
    derivative.T(noise(4, 2, 6, 5))
    spent = operator.stats - before
    assert (spent.forward, spent.tangent, spent.adjoint) == (0, 6, 8)


def test_second_derivatives():
    operator, m, v = CellDarcy(grid(4, 3)), noise(4, 3), noise(4, 3, seed=1)

    def misfit(z):
        return (operator(z) * v).sum()

    hessian = torch.func.jacfwd(torch.func.grad(misfit))(m).reshape(12, 12)
    torch.testing.assert_close(hessian, hessian.T, rtol=0, atol=1e-10 * float(hessian.abs().max()))
    h, d = 1e-4, noise(4, 3, seed=2)
    central = (misfit(m + h * d) - 2 * misfit(m) + misfit(m - h * d)) / h**2
    assert float(d.flatten() @ hessian @ d.flatten()) == pytest.approx(float(central), rel=1e-4)


def test_what_fails_says_so():
    with pytest.raises(ConfigError, match="cell-centred"):
        CellDarcy(GridSpace((4,), dims=("x",), lower=(0.0,), upper=(1.0,)))
    with pytest.raises(ConvergenceError, match="sample 1 of `m`") as caught:
        _conjugate_gradients(lambda p: torch.stack([p[0], torch.nan * p[1]]), noise(2, 5), lambda r: r, "m")
    assert caught.value.sample == 1
