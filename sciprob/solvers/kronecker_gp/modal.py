"""A process on a box with independent modes: what fast diagonalisation returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.linear import FunctionMap, LinearMap
from sciprob.pde.functionals import AnyPoints, TensorPoints
from sciprob.random import randn
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.columns import contract, contract_at_points, transposed_at_points
from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.spaces import Space


@dataclass(frozen=True, eq=False)
class ModalConditional(Conditional):
    r"""u = mean + sum_i z_i std_i prod_j e_ij(x_j), z_i independent and normal, e_ij zero at the ends of their axis.

    The mean is that of collocation with exact boundary values. Variances are those of a prior with
    independent modes of the true variances; evidence and chi^2 are those of the modal data.

    Attributes:
        modes: Modes of each axis.
        coefficients: Posterior mean in the functions of the factors, `(B, r_1, ..., r_d)`.
        spread: Posterior standard deviations of the modes, `(m_1, ..., m_d)`.
    """

    modes: tuple[AxisModes, ...]
    coefficients: Tensor
    spread: Tensor

    @property
    def rank(self) -> int:
        """Number of modes."""
        return self.spread.numel()

    def mean(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior mean of a derivative of u, `(*batch, *points.shape)`; see `Conditional.mean`."""
        values = _at(self.coefficients, self._rows(points, derivative), points)
        return values.reshape(*self.batch, *points.shape)

    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior standard deviation of a derivative of u, `(*points.shape)`; zero on the boundary."""
        squares = [m.abs().square() for m in self._modes_at(points, derivative)]
        return _at(self.spread.square()[None], squares, points)[0].sqrt()

    def sample(self, points: AnyPoints, n: int, generator: torch.Generator, derivative: str = "") -> Tensor:
        """`n` draws of a derivative of u at points, `(n, *batch, *points.shape)`."""
        root = self.root(points, derivative, 1.0, Space(points.shape, "u"))
        deviation = root(randn((n, *self.batch, *root.domain.shape), self.spread, generator))
        draws: Tensor = self.mean(points, derivative) + deviation
        return draws

    def covariance_action(self, points: AnyPoints, vector: Tensor, derivative: str = "") -> Tensor:
        """Posterior covariance of a derivative at points, times `(*k, *points.shape)`."""
        space = Space(points.shape, "u")
        root = self.root(points, derivative, 1.0, space)
        action: Tensor = root(root.T(vector))
        return action

    def root(self, points: AnyPoints, derivative: str, scale: float, codomain: Space) -> LinearMap:
        """Root of the covariance of a derivative at points, times `scale`, into `codomain`; it cannot be saved."""
        rows, spread = self._modes_at(points, derivative), scale * self.spread

        def apply(z: Tensor) -> Tensor:
            return _at(spread * torch.complex(z[:, 0], z[:, 1]), rows, points).real

        def transpose(y: Tensor) -> Tensor:
            if isinstance(points, TensorPoints):
                full = contract(y.to(rows[0]), [row.mT for row in rows])
            else:
                full = transposed_at_points(y.to(rows[0]), rows)
            return torch.stack([spread * full.real, -spread * full.imag], dim=1)

        return FunctionMap(Space((2, *spread.shape), name="xi"), codomain, apply, transpose)

    def _rows(self, points: AnyPoints, derivative: str) -> list[Tensor]:
        lines: Sequence[Tensor]
        lines = points.lines if isinstance(points, TensorPoints) else points.points.unbind(1)
        if len(lines) != len(self.modes):
            message = f"points should have {len(self.modes)} coordinates {self.coordinates}, got {len(lines)}."
            raise ShapeError(message)
        orders = self._orders(derivative)
        return [m.factors.at(x.to(self.spread), p) for m, x, p in zip(self.modes, lines, orders, strict=True)]

    def _modes_at(self, points: AnyPoints, derivative: str) -> list[Tensor]:
        rows = self._rows(points, derivative)
        return [(row @ m.basis).to(m.vectors) @ m.vectors for row, m in zip(rows, self.modes, strict=True)]


def modal_evidence(data: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Log N(data | 0, diag(variance)) and the mean of data^2 / variance, `(B,)` each."""
    square = (data.abs().square() / variance).flatten(1).sum(1)
    evidence = -0.5 * (square + variance.log().sum() + variance.numel() * math.log(2 * math.pi))
    return evidence, square / variance.numel()


def _at(tensor: Tensor, rows: list[Tensor], points: AnyPoints) -> Tensor:
    return contract(tensor, rows) if isinstance(points, TensorPoints) else contract_at_points(tensor, rows)
