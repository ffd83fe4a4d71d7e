"""Operators with variable coefficients in modes, solved by preconditioned conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.pde.functionals import Functionals
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.columns import contract
from sciprob.solvers.kronecker_gp.modal_operator import ModalOperator
from sciprob.solvers.linear_algebra import conjugate_gradients

_TOLERANCE = 1e-13
_ACCEPTED = 1e-8
_MOST = 2000


@dataclass(frozen=True, eq=False)
class VariableOperator:
    """b -> projection of sum_a c_a D^a u on the grid, for u = sum b u_i; a few small products per axis.

    Attributes:
        coefficients: c_a on the grid.
        derivatives: D^a of the orthonormal functions on the lines, per derivative and axis, `(n_j, m_j)`.
        projections: Values on a line to coefficients, per axis, `(m_j, n_j)`.
    """

    coefficients: list[Tensor]
    derivatives: list[list[Tensor]]
    projections: list[Tensor]

    @classmethod
    def of(cls, equation: Functionals, modes: Sequence[AxisModes]) -> VariableOperator:
        """The operator of an equation at the nodes."""
        derivatives = [
            [m.at(m.line, p) for m, p in zip(modes, equation.orders(name), strict=True)] for name in equation.terms
        ]
        return cls(list(equation.terms.values()), derivatives, [m.projection for m in modes])

    def apply(self, b: Tensor) -> Tensor:
        """`(B, m_1, ..., m_d)` to the same."""
        values = torch.zeros((), dtype=b.dtype, device=b.device)
        for coefficient, rows in zip(self.coefficients, self.derivatives, strict=True):
            values = values + coefficient * contract(b, rows)
        return contract(values, self.projections)

    def transpose(self, b: Tensor) -> Tensor:
        """The transpose of `apply`."""
        values = contract(b, [a.mT for a in self.projections])
        total = torch.zeros((), dtype=b.dtype, device=b.device)
        for coefficient, rows in zip(self.coefficients, self.derivatives, strict=True):
            total = total + contract(coefficient * values, [row.mT for row in rows])
        return total


def solve_by_conjugate_gradients(operator: VariableOperator, average: ModalOperator, data: Tensor) -> Tensor:
    r"""Minimise sum |O b - data|^2 / noise + b^2 / prior over b, `(B, m_1, ..., m_d)`.

    The averaged coefficients give the right preconditioner G = X (|d|^2 + noise / prior)^{-1/2} X^{-1}, with
    which O G is a bounded perturbation of an orthogonal matrix, whatever the frequencies and the
    noise: neither the squared condition number of the normal equations nor the number of modes counts.

    Raises:
        ConvergenceError: If the residual is not small after 2000 products: the coefficients vary too much.
    """

    def normal(z: Tensor) -> Tensor:
        b = average.precondition(z)
        return average.precondition_transpose(operator.transpose(operator.apply(b)) + average.damping * b)

    rhs = average.precondition_transpose(operator.transpose(data))
    size = rhs.flatten(1).norm(dim=1)
    found = conjugate_gradients(normal, rhs, _TOLERANCE * size.double(), _MOST)
    worst = float((found.residual / size.clamp_min(torch.finfo(size.dtype).tiny)).amax()) if len(rhs) else 0.0
    if not worst <= _ACCEPTED:
        message = (
            f"conjugate gradients left a relative residual of {worst:.1e} after {found.iterations} products; the "
            "coefficients vary too much for their averages to precondition, use method='factors'."
        )
        raise ConvergenceError(message, history=(worst,))
    return average.precondition(found.solution)
