"""Boxes with Dirichlet data on all sides: recognised among functionals, and the data carried into the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.functionals import Functionals, TensorPoints
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.columns import contract


@dataclass(frozen=True, eq=False)
class DirichletBox:
    """One equation on a tensor grid and the values of u on all 2 d sides of it.

    Attributes:
        equation: The equation at all nodes.
        sides: Per axis the values on the lower and the upper side, `(*batch, ..., 1, ...)` each.
    """

    equation: Functionals
    sides: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, functionals: Sequence[Functionals]) -> DirichletBox:
        """Recognise the box.

        Raises:
            UnsupportedProblemError: If there are other functionals than these, or some are missing.
        """
        grids = [f for f in functionals if isinstance(f.points, TensorPoints) and min(f.shape) > 1]
        if len(grids) != 1 or len(functionals) != 1 + 2 * len(grids[0].shape):
            raise UnsupportedProblemError(_EXPECTED)
        equation = grids[0]
        others = [f for f in functionals if f is not equation]
        sides = [
            (_side(others, equation, axis, 0), _side(others, equation, axis, -1)) for axis in range(len(equation.shape))
        ]
        return cls(equation, sides)

    @classmethod
    def recognises(cls, functionals: Sequence[Functionals]) -> bool:
        """Whether functionals have this form."""
        try:
            cls.of(functionals)
        except UnsupportedProblemError:
            return False
        return True

    @property
    def lines(self) -> tuple[Tensor, ...]:
        """The grid."""
        assert isinstance(self.equation.points, TensorPoints)
        return self.equation.points.lines

    def lift(self, modes: Sequence[AxisModes], batch: torch.Size) -> Tensor:
        """Coefficients `(B, r_1, ..., r_d)` of a field with the given values on all sides.

        Transfinite interpolation in the kernels: axis after axis, what is missing on the two sides
        is added in the two functions of least norm that are one there; what was right on earlier
        sides stays right, where the data agree in edges and corners. This is the field of least
        norm with these values. The data are taken as exact.

        Source: Gordon and Hall, Numer. Math. 21 (1973).
        """
        total = None
        for axis, pair in enumerate(self.sides):
            values = torch.cat([v.expand(*batch, *v.shape[v.ndim - len(modes) :]) for v in pair], dim=axis - len(modes))
            flat = values.reshape(batch.numel(), *values.shape[len(batch) :])
            given = contract(flat, [_identity(flat, 2) if j == axis else m.fit for j, m in enumerate(modes)])
            line = modes[axis].line
            edge = modes[axis].factors.at(line[[0, -1]])
            if total is not None:
                given = given - _along(edge, total, axis, modes)
            update = _along(torch.linalg.pinv(edge), given, axis, modes)
            total = update if total is None else total + update
        assert total is not None
        return total


_EXPECTED = (
    "fast diagonalisation needs one equation on a tensor grid and Dirichlet data at the nodes of all its sides, "
    "and nothing else; use method='factors'."
)


def _side(others: Sequence[Functionals], equation: Functionals, axis: int, end: int) -> Tensor:
    """Values on one side, divided by the coefficient of u."""
    assert isinstance(equation.points, TensorPoints)
    wanted = [line[[end]] if j == axis else line for j, line in enumerate(equation.points.lines)]
    for f in others:
        same = isinstance(f.points, TensorPoints) and all(
            a.shape == b.shape and bool((a == b).all()) for a, b in zip(f.points.lines, wanted, strict=True)
        )
        if same and set(f.terms) == {""} and bool((f.terms[""] != 0).all()):
            return f.values / f.terms[""]
    raise UnsupportedProblemError(_EXPECTED)


def _along(matrix: Tensor, tensor: Tensor, axis: int, modes: Sequence[AxisModes]) -> Tensor:
    """A matrix applied along one axis of coefficients."""
    matrices = [matrix if j == axis else _identity(tensor, m.factors.rank) for j, m in enumerate(modes)]
    return contract(tensor, matrices)


def _identity(like: Tensor, n: int) -> Tensor:
    return torch.eye(n, dtype=like.dtype, device=like.device)
