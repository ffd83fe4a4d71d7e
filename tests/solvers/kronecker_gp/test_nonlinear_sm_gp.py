"""Nonlinear equations: Gauss-Newton's quadratic convergence, the fixed point, and when it is given up."""

import math
from itertools import pairwise

import gp_problems as cases
import pytest
import torch

from sciprob.problems.collocation_problem import collocation_problem
from sciprob.solvers.kronecker_gp.anderson import fixed_point
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra, newton_step, relative_residual
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows, shortened


def wave(x):
    return torch.sin(40 * x + 0.2)


def slow(x):
    """Of the size of the Laplacian's first eigenvalues, so that the reaction matters."""
    return 2 * torch.sin(math.pi * x) + 0.3 * torch.sin(9 * x)


def task(exact, **more):
    given = collocation_problem("ac", cases.allen_cahn(exact, **more))
    rows = ProblemRows.of(given)
    return rows, [axis.kernel for axis in given.operator.axes]


def residuals(exact, steps=10, **more):
    rows, kernels = task(exact, **more)
    u, found = None, []
    for _ in range(steps):
        step = newton_step(LinearAlgebra(), rows, kernels, u)
        u = step.u
        found.append(step.residual)
        if step.length == 0:
            break
    return found


def test_gauss_newton_converges_quadratically_from_zero():
    found = residuals(slow, reaction=2.0)
    floor = 1e-7
    assert min(found) < floor
    assert len(found) <= 10
    before = [r for r in found if r > floor]
    logs = [math.log(b) / math.log(a) for a, b in zip(before[1:], [*before[2:], min(found)], strict=True) if a < 0.1]
    assert logs
    assert max(logs) > 1.6


def test_line_search_never_raises_the_residual():
    found = residuals(slow, reaction=6.0)
    assert all(later <= earlier for earlier, later in pairwise(found))


@pytest.mark.parametrize("method", ["gauss-newton", "fixed-point"])
def test_both_iterations_find_the_solution(method):
    given = collocation_problem("ac", cases.allen_cahn(wave))
    posterior = cases.solved(given, nonlinear=method)
    assert cases.error(posterior, wave) < 1e-5
    assert "Laplace" in posterior.meta["diagnostics"]["posterior"]


def test_fixed_point_in_two_dimensions_ends_where_newton_does():
    def exact(x, y):
        return torch.sin(11 * x + 0.3) * torch.cos(13 * y)

    rows, kernels = task(exact, points=(24, 26), upper=(1.0, 1.0))
    algebra = LinearAlgebra(cut=1e-14)
    found = fixed_point(algebra, rows, kernels, None)
    assert found.converged
    step = newton_step(algebra, rows, kernels, found.u)
    assert step.change < 1e-5
    truth = exact(*rows.collocation.points().columns(("x", "y")).values())
    assert float((found.u.value - truth).norm() / truth.norm()) < 1e-4


def test_diverging_fixed_point_is_given_up_for_newton():
    """A reaction far above the Laplacian's first eigenvalue."""
    rows, kernels = task(slow, reaction=60.0)
    assert not fixed_point(LinearAlgebra(), rows, kernels, None, iterations=15).converged


def test_shortened_rows_are_true_at_the_point_of_linearisation():
    def exact(x, y):
        return torch.exp(x * y) * torch.sin(7 * x + 2 * y)

    rows, _ = task(exact, points=(20, 23), upper=(1.0, 1.0))
    c = rows.collocation
    x = c.points().columns(("x", "y"))
    u = c.zero_jet(c.points())
    u = u.with_entries({name: exact(x["x"], x["y"]) for name in c.derivatives})
    full, short = c.equations(u), shortened(c.equations(u), u)
    torch.testing.assert_close(short.of(u) - short.values, full.of(u) - full.values, rtol=0, atol=1e-9)
    changed = torch.linalg.matrix_rank(short.terms[""].expand(20, 23), rtol=1e-10)
    assert int(changed) < int(torch.linalg.matrix_rank(full.terms[""], rtol=1e-14))
    assert float((short.terms[""] - full.terms[""]).norm() / full.terms[""].norm()) < 1e-4


def test_relative_residual_of_the_solution_is_round_off():
    rows, _ = task(wave)
    c = rows.collocation
    x = c.points().lines[0]
    u = c.zero_jet(c.points()).with_entries({"": wave(x), "xx": -1600 * wave(x)})
    assert relative_residual(rows, u) < 1e-13
