"""How well a fit obeys equation and data between the points where they were imposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.pde.side_conditions import side_points
from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.solvers.kronecker_gp.factored import FactoredConditional

_SHIFT = 0.382  # of a cell, and no simple fraction of it: at midpoints every other alias looks right again
_ROUND_OFF = 1e-4  # of the error of a row, itself 1e-9 of the prior
_POINTS = 400  # at which standard deviations of residuals are computed


@dataclass(frozen=True)
class HeldOut:
    """Residuals relative to the size of their terms, root mean squares.

    Attributes:
        between: On the shifted grid, the worst of equation and conditions.
        at_nodes: Of the equation, where it was imposed.
    """

    between: float
    at_nodes: float


def held_out(conditional: Conditional, collocation: Collocation) -> HeldOut:
    """Residuals of the posterior mean at points that were not fitted.

    Raises:
        UnsupportedProblemError: If source or data are tables on the grid.
    """
    inside = collocation.points(_SHIFT)
    between = _equation_residual(conditional, collocation, inside)
    sides = [_side_residual(conditional, row, inside) for row in _sides_between(collocation)]
    return HeldOut(max([between, *sides]), _equation_residual(conditional, collocation, collocation.points()))


def _equation_residual(conditional: Conditional, collocation: Collocation, points: TensorPoints) -> float:
    u = conditional.jets(points, collocation.derivatives)
    residual = collocation.residual(u, points)
    slopes = collocation.equations(u if not u.shape[:-1] else None, points)
    size = _size_of_terms(conditional, slopes)
    return _ratio(residual, size)


def _side_residual(conditional: Conditional, row: Functionals, inside: TensorPoints) -> float:
    """Of a condition, relative to the size its terms have in the whole box: on the side itself all may vanish."""
    sizes = [row.values.square().mean()]
    for derivative, coefficient in row.terms.items():
        sizes.append(coefficient.square().mean() * conditional.mean(inside, derivative).square().mean())
    return _ratio(conditional.residual_of(row), torch.stack(sizes).amax().sqrt())


def _size_of_terms(conditional: Conditional, row: Functionals) -> Tensor:
    """Root mean square of the largest term c_a D^a u of rows, or of the values where those are larger."""
    sizes = [row.values.square().mean()]
    for derivative, coefficient in row.terms.items():
        sizes.append((coefficient * conditional.mean(row.points, derivative)).square().mean())
    return torch.stack(sizes).amax().sqrt()


def _ratio(residual: Tensor, size: Tensor) -> float:
    return float(residual.square().mean().sqrt() / size.clamp_min(torch.finfo(size.dtype).tiny))


def _sides_between(collocation: Collocation) -> list[Functionals]:
    """The conditions at points between the nodes of their sides."""
    own, rows = collocation.points(), []
    shifted = collocation.points(_SHIFT)
    for condition in collocation.conditions:
        axis = collocation.coordinates.index(condition.axis)
        lines = list(shifted.lines)
        lines[axis] = own.lines[axis]
        nodes = side_points(condition.axis, condition.end, collocation.coordinates, own)
        points = side_points(condition.axis, condition.end, collocation.coordinates, TensorPoints(tuple(lines)))
        weights, values = condition.at(collocation.coordinates, points, nodes)
        rows.append(Functionals(condition.side, collocation.coordinates, points, weights, values, values.new_ones(())))
    return rows


def spread(conditional: FactoredConditional, collocation: Collocation, noise: Sequence[float]) -> float:
    """Root mean square of residuals over their posterior std between the nodes: of equation and sides, the larger.

    About 1 for a field from the prior: the factor by which the posterior std is to be multiplied to be honest about
    what equation and data say where they were not imposed.

    Args:
        conditional: The fit.
        collocation: What was imposed.
        noise: Std of the errors of each condition. Where the process obeys a condition by construction, so that its
            std is round-off beside it, the equation next to that side is taken: what it costs shows there.

    Raises:
        UnsupportedProblemError: If the source is a table on the grid.
    """
    found = [_standardised(conditional, collocation, collocation.points(_SHIFT))]
    for row, level in zip(_sides_between(collocation), noise, strict=True):
        if max(row.shape) == 1:  # the only point of a side of a line is a node
            continue
        std = conditional.std_of(row).reshape(row.shape)
        if float(std.amax()) > _ROUND_OFF * level:
            found.append(conditional.residual_of(row) / std)
        else:
            found.append(_standardised(conditional, collocation, _beside(row, collocation)))
    return max(float(z.square().mean().sqrt()) for z in found)


def _standardised(conditional: FactoredConditional, collocation: Collocation, grid: TensorPoints) -> Tensor:
    """Residuals of the equation over their posterior std, at some points of a grid."""
    points = _some_points(grid)
    u = conditional.jets(points, collocation.derivatives)
    rows = collocation.equations(u if not u.shape[:-1] else None, points)
    return collocation.residual(u, points) / conditional.std_of(rows)


def _beside(row: Functionals, collocation: Collocation) -> TensorPoints:
    """The points between the nodes that are next to a side."""
    assert isinstance(row.points, TensorPoints)
    lines = list(collocation.points(_SHIFT).lines)
    axis = next(j for j, line in enumerate(row.points.lines) if len(line) == 1)
    nearest = (lines[axis] - row.points.lines[axis]).abs().argmin()
    lines[axis] = lines[axis][nearest][None]
    return TensorPoints(tuple(lines))


def relative_std(conditional: Conditional, collocation: Collocation) -> float:
    """Root mean square of the posterior std of u over that of its mean, at some points between the nodes."""
    points = _some_points(collocation.points(_SHIFT))
    mean, std = conditional.mean(points), conditional.std(points)
    return float(std.square().mean().sqrt() / mean.square().mean().sqrt().clamp_min(torch.finfo(std.dtype).tiny))


def _some_points(points: TensorPoints) -> ScatteredPoints:
    """At most `_POINTS` of a grid, evenly through its flattened list; the stride is no multiple of the last line."""
    columns = torch.stack(torch.meshgrid(*points.lines, indexing="ij"), dim=-1).reshape(-1, len(points.lines))
    stride = max(1, len(columns) // _POINTS)
    stride += len(points.lines) > 1 and stride > 1 and stride % points.shape[-1] == 0
    return ScatteredPoints(columns[::stride][:_POINTS])
