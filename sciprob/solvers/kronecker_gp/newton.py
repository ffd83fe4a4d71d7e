"""Gauss-Newton for nonlinear equations: a sequence of linear conditioning problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import Functionals
from sciprob.pde.jet import Jet
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.conditioning import check_functionals, condition_factored
from sciprob.solvers.kronecker_gp.factored import FactoredConditional
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows

_HALVINGS = 8
_STALLED = 0.5  # a residual that falls by less has reached its floor


@dataclass(frozen=True)
class LinearAlgebra:
    """How each linear problem is conditioned; see `condition`.

    Args:
        cut: Smallest eigenvalue of an axis, relative.
        null_space: Polynomials per axis.
        null_std: Prior standard deviation of their products, in units of that of u.
    """

    cut: float = 1e-15
    null_space: int = 2
    null_std: float = 1e4

    def condition(self, kernels: Sequence[StationaryKernel], functionals: Sequence[Functionals]) -> FactoredConditional:
        """The process given all rows, `ProblemRows.at` the iterate where the equation is nonlinear."""
        check_functionals(kernels, functionals)
        return condition_factored(kernels, functionals, "auto", self.cut, self.null_space, self.null_std)


@dataclass(frozen=True)
class NewtonStep:
    """Where a step led.

    Attributes:
        u: Jets of the new iterate on the grid.
        residual: Root mean square of P(u) there, relative to that of the terms of P.
        change: |u - previous| / |u|.
        length: Fraction of the full step that was taken; 0 if none lowers the residual.
    """

    u: Jet
    residual: float
    change: float
    length: float

    def finished(self, before: float, tolerance: float) -> bool:
        """Whether nothing is left to gain: a step below `tolerance`, or a residual at its floor."""
        small = self.length == 1 and self.change <= tolerance
        return small or self.length == 0 or (self.change <= 1e-4 and self.residual > _STALLED * before)


def newton_step(
    algebra: LinearAlgebra, rows: ProblemRows, kernels: Sequence[StationaryKernel], u: Jet | None
) -> NewtonStep:
    """Condition on the equation linearised at `u`, and go towards that mean as far as the residual falls.

    From nothing (`u` None) the full step is taken: zero does not obey the boundary data, so its residual is no measure.

    Source: Chen, Hosseini, Owhadi, Stuart, J. Comput. Phys. 447 (2021).
    """
    c = rows.collocation
    points = c.points()
    full = algebra.condition(kernels, rows.at(kernels, u)).jets(points, c.derivatives)
    if u is None:
        return NewtonStep(full, relative_residual(rows, full), 1.0, 1.0)
    before, length = relative_residual(rows, u), 1.0
    for _ in range(_HALVINGS):
        new = u + length * (full - u)
        residual = relative_residual(rows, new)
        if residual < before:
            return NewtonStep(new, residual, _distance(new, u), length)
        length /= 2
    return NewtonStep(u, before, 0.0, 0.0)


def relative_residual(rows: ProblemRows, u: Jet) -> float:
    """Root mean square of the equation's residual on the grid over that of the terms of its linearisation."""
    c = rows.collocation
    residual = c.residual(u)
    if rows.changed is not None:
        residual = residual - rows.changed[0]
    return float(residual.square().mean().sqrt() / size_of_terms(c, u))


def size_of_terms(collocation: Collocation, u: Jet) -> Tensor:
    """Largest root mean square of a term c_a D^a u of the linearised equation on the grid."""
    row = collocation.equations(u)
    sizes = [(coefficient * u[name].reshape(row.shape)).square().mean() for name, coefficient in row.terms.items()]
    return torch.stack([row.values.square().mean(), *sizes]).amax().sqrt().clamp_min(1e-300)


def _distance(new: Jet, old: Jet) -> float:
    scale = new.value.norm().clamp_min(torch.finfo(new.dtype).tiny)
    return float((new.value - old.value).norm() / scale)
