"""A process on a box with independent modes: what fast diagonalisation returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciprob.pde.functionals import AnyPoints, Functionals
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.factored import FactoredConditional, at_points, transposed
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.rows import all_products, piece_width, point_rows


@dataclass(frozen=True, eq=False)
class ModalConditional(FactoredConditional):
    r"""u = mean + sum_i z_i std_i prod_j e_ij(x_j), z_i independent and normal, e_ij zero at the ends of their axis.

    The mean is that of collocation with exact boundary values. Variances are those of a prior with
    independent modes of the true variances; evidence and chi^2 are those of the modal data.

    Attributes:
        modes: Modes of each axis.
        centre: Posterior mean in the functions of the factors, `(B, r_1, ..., r_d)`.
        spread: Posterior standard deviations of the modes, `(m_1, ..., m_d)`.
    """

    modes: tuple[AxisModes, ...]
    centre: Tensor
    spread: Tensor

    @property
    def rank(self) -> int:
        """Number of modes."""
        return self.spread.numel()

    @property
    def axes(self) -> tuple[AxisFactors, ...]:
        """Factors of each axis."""
        return tuple(m.factors for m in self.modes)

    @property
    def coefficients(self) -> Tensor:
        """Posterior mean, `(*batch, r_1, ..., r_d)`."""
        return self.centre.reshape(*self.batch, *self.centre.shape[1:])

    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior standard deviation of a derivative of u, `(*points.shape)`; zero on the boundary."""
        squares = [m.abs().square() for m in self._modes_at(points, derivative)]
        return at_points(self.spread.square(), squares, points).sqrt()

    def std_of(self, functionals: Functionals) -> Tensor:
        """Posterior standard deviation of sum_a c_a D^a u, without noise, `(*points.shape)`; row by row."""
        unit = replace(functionals, std=functionals.std.new_ones(()))
        columns = all_products(tuple(self.spread.shape), self.spread)
        spread = columns.gather(self.spread).square()
        rows = point_rows(unit, [_ModeFunctions(m) for m in self.modes])
        found = [dense.abs().square() @ spread for _, dense in rows.pieces(columns, piece_width(columns))]
        variance = torch.cat(found) if found else self.spread.new_zeros(0)
        return variance.sqrt().reshape(functionals.shape)

    @property
    def white_shape(self) -> tuple[int, ...]:
        """Two numbers per mode, for its real and its imaginary part."""
        return (2, *self.spread.shape)

    def deviation(self, white: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """Re sum_i std_i (a_i + i b_i) e_i at points, `(B, 2, m_1, ..., m_d)` to `(B, *points.shape)`."""
        amplitudes = self.spread * torch.complex(white[:, 0], white[:, 1])
        return at_points(amplitudes, self._modes_at(points, derivative), points).real

    def deviation_transpose(self, values: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """The transpose of `deviation`, `(B, *points.shape)` to `(B, 2, m_1, ..., m_d)`."""
        rows = self._modes_at(points, derivative)
        full = self.spread * transposed(values.to(rows[0]), rows, points)
        return torch.stack([full.real, -full.imag], dim=1)

    def _modes_at(self, points: AnyPoints, derivative: str) -> list[Tensor]:
        rows = self.rows(points, derivative)
        return [m.combine(row) for row, m in zip(rows, self.modes, strict=True)]


@dataclass(frozen=True, eq=False)
class _ModeFunctions:
    """The modes of an axis, as functions of which rows are made."""

    modes: AxisModes

    def at(self, x: Tensor, order: int = 0) -> Tensor:
        return self.modes.combine(self.modes.factors.at(x, order))


def modal_evidence(data: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Log N(data | 0, diag(variance)) and the mean of data^2 / variance, `(B,)` each."""
    square = (data.abs().square() / variance).flatten(1).sum(1)
    evidence = -0.5 * (square + variance.log().sum() + variance.numel() * math.log(2 * math.pi))
    return evidence, square / variance.numel()
