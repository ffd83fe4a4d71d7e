"""Accelerated fixed point for nonlinear equations: one factorisation serves all iterates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sciprob.pde.functionals import Functionals, TensorPoints
from sciprob.pde.jet import Jet
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.columns import Columns, contract
from sciprob.solvers.kronecker_gp.conditioning import axis_factors, whitened
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra, relative_residual
from sciprob.solvers.kronecker_gp.rows import AnyRows, piece_width, rows_of
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows


@dataclass(frozen=True)
class FixedPoint:
    """Where the iteration ended.

    Attributes:
        u: Jets on the grid.
        residual: As in `NewtonStep`.
        iterations: Solves with the factorisation.
        converged: Whether the residual reached its floor; otherwise it grew, or the iterations ran out.
    """

    u: Jet
    residual: float
    iterations: int
    converged: bool


def fixed_point(
    algebra: LinearAlgebra,
    rows: ProblemRows,
    kernels: Sequence[StationaryKernel],
    u: Jet | None,
    *,
    depth: int = 5,
    iterations: int = 40,
) -> FixedPoint:
    """Solve L u_{n+1} = L u_n - P(u_n) with the linearisation L at the first iterate, accelerated by Anderson mixing.

    It converges where L dominates what changes in P'; that is not checked beforehand but seen from the residual.

    Args:
        algebra: Cut and null space.
        rows: The problem.
        kernels: The prior.
        u: Jets of the first iterate on the grid; None for zero.
        depth: Earlier iterates that are mixed.
        iterations: Most solves.

    Source: Walker and Ni, SIAM J. Numer. Anal. 49 (2011).
    """
    c = rows.collocation
    first = c.zero_jet(c.points()) if u is None else u
    chord = _Chord.of(algebra, rows, kernels, first)
    coefficients, best = chord.solve(first), FixedPoint(first, float("inf"), 0, False)
    inputs: list[Tensor] = []
    steps: list[Tensor] = []
    worse = 0
    for iteration in range(1, iterations + 1):
        iterate = chord.jets(coefficients)
        residual = relative_residual(rows, iterate)
        worse = 0 if residual < 0.7 * best.residual else worse + 1
        if residual < best.residual:
            best = FixedPoint(iterate, residual, iteration, False)
        if worse >= 3 or not residual < 1e3:
            break
        inputs.append(coefficients)
        steps.append(chord.solve(iterate) - coefficients)
        coefficients = _mixed(inputs[-depth - 1 :], steps[-depth - 1 :])
    return FixedPoint(best.u, best.residual, best.iterations, best.residual < 1e-5)


def _mixed(inputs: list[Tensor], steps: list[Tensor]) -> Tensor:
    """Anderson's next iterate: the combination whose step is smallest, plus that step."""
    if len(inputs) == 1:
        return inputs[0] + steps[0]
    differences = torch.stack([b - a for a, b in pairwise(steps)], dim=1)
    moves = torch.stack([b - a for a, b in pairwise(inputs)], dim=1)
    weights = torch.linalg.lstsq(differences, steps[-1][:, None], driver="gelsd").solution
    mixed: Tensor = inputs[-1] + steps[-1] - ((moves + differences) @ weights)[:, 0]
    return mixed


@dataclass(frozen=True, eq=False)
class _Chord:
    """The factorised linearisation at one field, for many right-hand sides."""

    problem: ProblemRows
    functionals: list[Functionals]
    factors: tuple[AxisFactors, ...]
    columns: Columns
    rows: list[AnyRows]
    q: Tensor
    r: Tensor

    @classmethod
    def of(cls, algebra: LinearAlgebra, problem: ProblemRows, kernels: Sequence[StationaryKernel], at: Jet) -> _Chord:
        functionals = problem.at(kernels, at)
        with torch.no_grad():
            factors = axis_factors(kernels, functionals, algebra.cut, algebra.null_space)
            columns = Columns.of(factors, algebra.cut, algebra.null_std)
            rows = [rows_of(f, factors) for f in functionals]
            width = piece_width(columns)
            dense = [piece * columns.std for row in rows for _, piece in row.pieces(columns, width)]
            identity = torch.eye(columns.count, dtype=dense[0].dtype, device=dense[0].device)
            q, r = torch.linalg.qr(torch.cat([*dense, identity]))
        return cls(problem, functionals, factors, columns, rows, q, r)

    def solve(self, u: Jet) -> Tensor:
        """Coefficients `(K,)` of the field v with L v = L u - P(u) and the problem's conditions."""
        equation = self.functionals[0]
        shifted = equation.of(u) - self.problem.collocation.residual(u)
        if self.problem.changed is not None:
            shifted = shifted + self.problem.changed[0]
        values = [shifted / equation.std, *whitened(self.functionals[1:])[1]]
        flat = [v.reshape(1, *f.shape) for v, f in zip(values, self.functionals, strict=True)]
        data = torch.cat([row.project(v)[0][0] for row, v in zip(self.rows, flat, strict=True)])
        right = self.q[: len(data)].mT @ data
        solution: Tensor = torch.linalg.solve_triangular(self.r, right[:, None], upper=True)[:, 0]
        return solution

    def jets(self, coefficients: Tensor) -> Jet:
        """The field on the grid."""
        c = self.problem.collocation
        points = c.points()
        assert isinstance(points, TensorPoints)
        full = self.columns.scatter(self.columns.std * coefficients)
        row, entries = self.functionals[0], {}
        for name in c.derivatives:
            lines = zip(self.factors, points.lines, row.orders(name), strict=True)
            entries[name] = contract(full, [f.at(x, p) for f, x, p in lines]).reshape(-1)
        return Jet(entries)
