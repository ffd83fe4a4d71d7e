"""The pieces under the torch elements: quadrature, basis, sparse products, preconditioner, conjugate gradients."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch_fe_cases import jiggled, noise, relative

from sciprob.engines.conditions import Conditions
from sciprob.engines.torch_fe.conjugate_gradients import conjugate_gradients
from sciprob.engines.torch_fe.discretisation import Discretisation, discretise
from sciprob.engines.torch_fe.elements import lagrange
from sciprob.engines.torch_fe.newton import Newton
from sciprob.engines.torch_fe.preconditioner import Matrices, TwoLevel
from sciprob.engines.torch_fe.quadrature import quadrature
from sciprob.engines.torch_fe.sparse import SharedMatrix
from sciprob.engines.torch_fe.system import LinearSolver, System
from sciprob.engines.torch_fe.weak_form import conductivity, matrix_values
from sciprob.errors import UnsupportedProblemError
from sciprob.spaces import FESpace, Mesh, box_mesh


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("degree", range(1, 10))
def test_quadrature_is_exact_for_its_degree(dim: int, degree: int) -> None:
    """All monomials of barycentric coordinates, by their integrals in closed form (products of factorials)."""
    points, weights = quadrature(dim, degree)
    assert np.allclose(points.sum(axis=1), 1, atol=1e-15)
    for powers in product(range(degree + 1), repeat=dim + 1):
        if sum(powers) == degree:  # lower degrees are among these, because the coordinates sum to 1
            value = (weights * (points ** np.array(powers)).prod(axis=1)).sum()
            numerator = math.factorial(dim) * math.prod(map(math.factorial, powers))
            assert abs(value - numerator / math.factorial(degree + dim)) < 1e-15


def test_quadrature_below_degree_one_is_refused() -> None:
    with pytest.raises(UnsupportedProblemError, match="at least 1, got 0"):
        quadrature(2, 0)


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("degree", [1, 2])
def test_basis(dim: int, degree: int) -> None:
    """One at its own node, zero at the others; derivatives against differences."""
    corners = np.eye(dim + 1)
    first, second = np.triu_indices(dim + 1, 1)
    nodes = corners if degree == 1 else np.concatenate([corners, (corners[first] + corners[second]) / 2])
    assert np.array_equal(lagrange(nodes, degree)[0], np.eye(len(nodes)))
    points = np.random.default_rng(0).dirichlet(np.ones(dim + 1), 5)
    derivatives = lagrange(points, degree)[1]
    for a in range(dim + 1):
        step = 1e-4 * corners[a]
        difference = (lagrange(points + step, degree)[0] - lagrange(points - step, degree)[0]) / 2e-4
        assert np.abs(derivatives[:, :, a] - difference).max() < 1e-11


def test_shared_matrix_is_its_dense_form() -> None:
    row, column = torch.tensor([2, 0, 2, 1, 2]), torch.tensor([3, 1, 3, 0, 0])
    matrix = SharedMatrix.from_entries(row, column, noise(5), (4, 5))
    dense = torch.zeros(4, 5, dtype=torch.float64).index_put((row, column), noise(5), accumulate=True)
    x = noise(2, 3, 5, seed=1)
    assert torch.allclose(matrix @ x, x @ dense.T)
    assert torch.allclose(matrix @ x[0, 0], dense @ x[0, 0])
    assert torch.allclose(matrix.transpose @ x[..., :4], x[..., :4] @ dense)
    assert (matrix @ x[:0]).shape == (0, 3, 4)


def system(mesh: Mesh, degree: int, samples: int, std: float) -> tuple[Discretisation, torch.Tensor]:
    """Tables, and matrix entries of rough samples."""
    t = discretise(FESpace(mesh, degree), Conditions({"left": 0.0}, {}, {"right": (1.0, 0.0)}), 1.0, 4)
    m = std * noise(samples, len(mesh.points))
    u = torch.zeros(samples, len(t.lift), dtype=torch.float64)
    return t, matrix_values(t, conductivity(t, m), u, 0.0)


def dense(t: Discretisation, values: torch.Tensor) -> torch.Tensor:
    n = len(t.free)
    return (
        t.pattern.matrices(values)[0]
        .to_dense()
        .reshape(len(values), n, len(values), n)[torch.arange(len(values)), :, torch.arange(len(values))]
    )


@pytest.mark.parametrize("divisions", [(6, 5), (3, 3, 3)])
@pytest.mark.parametrize("degree", [1, 2])
def test_preconditioner_is_symmetric_positive_and_good(divisions: tuple[int, ...], degree: int) -> None:
    t, values = system(jiggled(divisions), degree, 2, 1.0)
    matrices = Matrices(t.pattern, values)
    inverse = TwoLevel(matrices, values, t.coarse)
    n = len(t.free)
    m = inverse(torch.eye(n, dtype=torch.float64).expand(2, n, n).contiguous())
    assert (m - m.mT).abs().max() < 1e-12 * m.abs().max()
    a = dense(t, values)
    assert torch.allclose(a, a.mT, atol=1e-12)
    largest = torch.linalg.eigvals(a / matrices.diagonal).real.amax(1)
    assert (largest <= matrices.largest.flatten()).all()  # Gershgorin's bound is one
    spectrum = torch.linalg.eigvals(m @ a).real
    assert spectrum.min() > 0
    assert spectrum.max() < 1 + 1e-10  # as for every symmetric multigrid cycle
    jacobi = torch.linalg.eigvals(a / matrices.diagonal).real
    condition = (spectrum.amax(1) / spectrum.amin(1)).max()
    assert condition < 2.5
    assert condition < (jacobi.amax(1) / jacobi.amin(1)).min() / 5


def test_smoother_is_the_chebyshev_polynomial() -> None:
    """Errors are multiplied by T_2((theta - A/D) / delta) / T_2(theta / delta), with T_2(x) = 2 x^2 - 1."""
    t, values = system(jiggled((6, 5)), 2, 1, 1.0)
    matrices = Matrices(t.pattern, values)
    inverse, one = TwoLevel(matrices, values, t.coarse), torch.eye(len(t.free), dtype=torch.float64)
    scaled = dense(t, values)[0] / matrices.diagonal[0]
    largest = float(matrices.largest)
    theta, delta = largest * (1 + 1 / 16) / 2, largest * (1 - 1 / 16) / 2
    x = (theta * one - scaled) / delta
    expected = (2 * x @ x - one) / (2 * (theta / delta) ** 2 - 1)
    assert torch.allclose(one - inverse.smooth(one[None])[0] @ dense(t, values)[0], expected, atol=1e-12)


def test_coarse_correction_leaves_no_coarse_residual() -> None:
    """It is the projection in the energy of A onto the coarse space, but for a small regularisation."""
    t, values = system(jiggled((6, 5)), 2, 2, 1.0)
    matrices, r = Matrices(t.pattern, values), noise(2, len(t.free), 3)
    left = r - matrices @ TwoLevel(matrices, values, t.coarse).correct(r)
    before, after = (t.coarse.restriction @ x.mT for x in (r, left))
    assert after.norm() < 1e-4 * before.norm()


def test_galerkin_entries_are_those_of_the_product() -> None:
    t, values = system(jiggled((6, 5)), 2, 2, 1.0)
    n, nc = len(t.free), t.coarse.prolongation.matrix.shape[1]
    prolongation = (t.coarse.prolongation @ torch.eye(nc, dtype=torch.float64)).T
    assert prolongation.shape == (n, nc)
    assert (prolongation >= 0).all()
    assert torch.allclose(prolongation.sum(1), torch.ones(n).double())
    expected = prolongation.T @ dense(t, values) @ prolongation
    assert torch.allclose((t.coarse.galerkin @ values).reshape(2, nc, nc), expected, atol=1e-12)


def test_iterations_hardly_grow_with_the_mesh() -> None:
    """Eight times as many unknowns and a contrast of 1e3: less than twice the iterations; Jacobi's double and more."""
    counts = []
    for n in (24, 68):
        t, space = system(box_mesh((n, n)), 1, 1, 0.0)[0], FESpace(box_mesh((n, n)), 1)
        m = 3.4 * torch.sin(7 * space.coords["x"]) * torch.cos(5 * space.coords["y"])  # the same on both meshes
        values = matrix_values(t, conductivity(t, m[None]), torch.zeros(1, space.size).double(), 0.0)
        matrices = Matrices(t.pattern, values)
        rhs = t.load[t.free][None, :, None]
        plain = conjugate_gradients(
            matrices.__matmul__, lambda r, d=matrices.diagonal: r / d, rhs, tolerance=1e-10, max_iterations=2000
        )
        ours = conjugate_gradients(
            matrices.__matmul__, TwoLevel(matrices, values, t.coarse), rhs, tolerance=1e-10, max_iterations=2000
        )
        assert relative(ours.x, plain.x) < 1e-7
        counts.append((len(plain.history), len(ours.history)))
    (jacobi_coarse, ours_coarse), (jacobi_fine, ours_fine) = counts
    assert jacobi_fine > 2 * jacobi_coarse
    assert ours_fine < 2 * ours_coarse
    assert 8 * ours_fine < jacobi_fine


def test_conjugate_gradients_end_after_as_many_steps_as_eigenvalues() -> None:
    """In exact arithmetic; four distinct eigenvalues take four steps, and the matrix need not be near the identity."""
    basis = torch.linalg.qr(noise(12, 12))[0]
    eigenvalues = torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=torch.float64).repeat(3)
    a, b = basis * eigenvalues @ basis.T, noise(1, 12, 2, seed=1)
    result = conjugate_gradients(lambda x: a @ x, lambda r: r, b, tolerance=1e-10, max_iterations=4)
    assert not result.failed.any()
    assert relative(a @ result.x, b) < 1e-9
    short = conjugate_gradients(lambda x: a @ x, lambda r: r, b, tolerance=1e-10, max_iterations=3)
    assert short.failed.all()
    negative = conjugate_gradients(lambda x: -(a @ x), lambda r: r, b, tolerance=1e-10, max_iterations=4)
    assert negative.failed.all()


def test_conjugate_gradients_keep_nan_to_its_system() -> None:
    a = torch.eye(6, dtype=torch.float64).expand(3, 6, 6).clone()
    a[1] *= torch.nan
    result = conjugate_gradients(
        lambda x: a @ x, lambda r: r, torch.ones(3, 6, 1).double(), tolerance=1e-10, max_iterations=9
    )
    assert result.failed.flatten().tolist() == [False, True, False]
    assert torch.equal(result.x[[0, 2]], torch.ones(2, 6, 1).double())


def nonlinear() -> tuple[Discretisation, Newton]:
    t = discretise(FESpace(jiggled((4, 3)), 1), Conditions({"left": 0.0}), 50.0, 4)
    return t, Newton(reaction=5.0, tolerance=1e-9, max_iterations=25, linear=LinearSolver())


def test_line_search_shortens_steps_that_go_too_far() -> None:
    """An eighth of Newton's step is taken whole, nine of them are not, and a step uphill is refused."""
    t, newton = nonlinear()
    u, k = torch.zeros(1, len(t.lift)).double(), conductivity(t, torch.zeros(1, len(t.lift)).double())
    u[:, t.free] = noise(1, len(t.free))
    force = newton.force(t, k, u)
    step = System(t, matrix_values(t, k, u, 5.0), LinearSolver()).solve(force[:, :, None]).x[:, :, 0]
    k, u = (x.expand(3, *x.shape[1:]) for x in (k, u))
    steps = torch.cat([step / 8, 9 * step, -step])
    result, residual, found = newton.line_search(t, k, u, steps, force.expand(3, -1))
    assert found.tolist() == [True, True, False]
    assert torch.equal(result[0], (u + steps)[0])
    taken = (result[1] - u[1]).norm() / steps[1].norm()
    assert min(abs(float(taken) - 2.0**-i) for i in range(1, 12)) < 1e-12
    assert (residual.norm(dim=1)[:2] < force.norm()).all()
    assert torch.allclose(residual, newton.force(t, k, result))


def test_newton_leaves_a_sample_that_it_lost() -> None:
    """One failure, of the linear solve, and the other sample's state as if it were alone."""
    t, newton = nonlinear()
    m = torch.zeros(2, len(t.lift), dtype=torch.float64)
    m[0] = 800.0
    states = newton.solve(t, m)
    assert [(failure.sample, failure.reason[:19]) for failure in states.failures] == [(0, "conjugate gradients")]
    assert torch.isnan(states.u[0]).all()
    assert relative(states.u[1], newton.solve(t, m[1:]).u[0]) < 1e-12
