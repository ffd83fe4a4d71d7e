"""Conditions on the sides of a box: Dirichlet, Neumann, Robin, initial data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, SciprobWarning
from sciprob.pde.derivative_names import canonical
from sciprob.pde.field_values import Value, evaluate
from sciprob.pde.functionals import TensorPoints
from sciprob.pde.jet import Number

_JUMP = 1e-8  # of the largest boundary value: beyond rounding, below any real contradiction that is visible


@dataclass(frozen=True, eq=False)
class SideCondition:
    """sum_a w_a D^a u = g on one side of a box, x_axis = lower or upper; on the side `t` lower, initial data.

    Args:
        axis: Coordinate that is constant on the side.
        end: `"lower"` or `"upper"`.
        weights: w_a by derivative: `{"": 1.0}` prescribes u, `{"t": 1.0}` its initial rate; numbers or functions.
        values: g.
        std: Standard deviation of the error of g, in its unit; None: exact.
    """

    axis: str
    end: Literal["lower", "upper"]
    weights: Mapping[str, Value]
    values: Value = 0.0
    std: float | None = None

    def __post_init__(self) -> None:
        if self.end not in ("lower", "upper"):
            message = f"the end of a side should be 'lower' or 'upper', got {self.end!r}."
            raise ConfigError(message)
        if not self.weights:
            message = f"the condition on `{self.side}` has no term; `{{'': 1.0}}` prescribes the value."
            raise ConfigError(message)
        if self.std is not None and not self.std > 0:
            message = f"the std of the condition on `{self.side}` should be positive, got {self.std}."
            raise ConfigError(message)
        object.__setattr__(self, "weights", {canonical(name): weight for name, weight in self.weights.items()})

    @classmethod
    def dirichlet(cls, side: str, values: Value = 0.0, std: float | None = None) -> SideCondition:
        """Prescribe u = g on a side such as `"x_lower"`."""
        axis, end = split_side(side)
        return cls(axis, end, {"": 1.0}, values, std)

    @classmethod
    def neumann(cls, side: str, values: Value = 0.0, std: float | None = None) -> SideCondition:
        """Outward normal derivative u_n = g."""
        axis, end = split_side(side)
        return cls(axis, end, {axis: outward(end)}, values, std)

    @classmethod
    def robin(cls, side: str, coefficient: Value, values: Value = 0.0, std: float | None = None) -> SideCondition:
        """Prescribe u_n + h u = g with the outward normal derivative u_n and the coefficient h."""
        axis, end = split_side(side)
        return cls(axis, end, {axis: outward(end), "": coefficient}, values, std)

    @property
    def side(self) -> str:
        """Name of the side: `x_lower`."""
        return f"{self.axis}_{self.end}"

    @property
    def prescribes_value(self) -> bool:
        """Whether it is u = g."""
        return dict(self.weights) == {"": 1.0}

    def at(
        self, coordinates: tuple[str, ...], points: TensorPoints, own: TensorPoints
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Weights (broadcasting to the points' shape) and values `(*batch, *shape)` at points of the side."""
        weights = {}
        for derivative, weight in self.weights.items():
            at = evaluate(weight, f"weight of {self.side}", coordinates, points, own)
            assert isinstance(at, Tensor)
            weights[derivative] = at if at.ndim == 0 else at.expand(*at.shape[:-1], _size(points)).reshape(points.shape)
        values = evaluate(self.values, self.side, coordinates, points, own)
        assert isinstance(values, Tensor)
        lead = values.shape[:-1] if values.ndim else ()
        return weights, values.expand(*lead, _size(points)).reshape(*lead, *points.shape)


def outward(end: str) -> Number:
    """Sign of the outward normal."""
    return -1.0 if end == "lower" else 1.0


def split_side(side: str) -> tuple[str, Literal["lower", "upper"]]:
    """Axis and end of `"x_lower"`.

    Raises:
        ConfigError: If it is not of this form.
    """
    axis, _, end = side.partition("_")
    if len(axis) != 1 or end not in ("lower", "upper"):
        message = f"a side is written `x_lower`, `t_lower` or `y_upper`, got `{side}`."
        raise ConfigError(message)
    return axis, "lower" if end == "lower" else "upper"


def check_sides(conditions: Sequence[SideCondition], coordinates: tuple[str, ...]) -> None:
    """Refuse sides that the box does not have, and two conditions of one form on one side.

    Raises:
        ConfigError: Naming the side.
    """
    sides = [f"{axis}_{end}" for axis in coordinates for end in ("lower", "upper")]
    seen = set()
    for condition in conditions:
        if condition.side not in sides:
            message = f"the box has no side `{condition.side}`; {did_you_mean(condition.side, sides)}"
            raise ConfigError(message)
        key = condition.side, tuple(sorted(condition.weights))
        if key in seen:
            message = f"side `{condition.side}` has two conditions on the same derivatives; keep one."
            raise ConfigError(message)
        seen.add(key)


def warn_of_jumps(conditions: Sequence[SideCondition], coordinates: tuple[str, ...], grid: TensorPoints) -> None:
    """Warn where two sides prescribe different values of u on the edge they share, naming place and jump.

    A smooth model cannot have both; it compromises, and rings around the edge.
    """
    prescribed = [condition for condition in conditions if condition.prescribes_value]
    found = [_at_edges(condition, coordinates, grid) for condition in prescribed]
    scale = max((float(values.abs().max()) for values in found if values.numel()), default=0.0)
    for i, first in enumerate(prescribed):
        for j in range(i):
            second = prescribed[j]
            if first.axis != second.axis:
                allowed = 5 * ((first.std or 0.0) + (second.std or 0.0))
                _warn(first, second, found[i], found[j], coordinates, grid, max(_JUMP * scale, allowed))


def side_points(axis: str, end: str, coordinates: tuple[str, ...], grid: TensorPoints) -> TensorPoints:
    """The grid's points on a side."""
    i = coordinates.index(axis)
    lines = list(grid.lines)
    lines[i] = lines[i][:1] if end == "lower" else lines[i][-1:]
    return TensorPoints(tuple(lines))


def _at_edges(condition: SideCondition, coordinates: tuple[str, ...], grid: TensorPoints) -> Tensor:
    points = side_points(condition.axis, condition.end, coordinates, grid)
    return condition.at(coordinates, points, points)[1]


def _warn(
    first: SideCondition,
    second: SideCondition,
    values: Tensor,
    others: Tensor,
    coordinates: tuple[str, ...],
    grid: TensorPoints,
    tolerance: float,
) -> None:
    d = len(coordinates)
    a, b = coordinates.index(first.axis) - d, coordinates.index(second.axis) - d
    end_a, end_b = (0 if c.end == "lower" else -1 for c in (first, second))
    jump = (values.select(b, end_b).unsqueeze(b) - others.select(a, end_a).unsqueeze(a)).abs()
    if not jump.numel() or float(jump.max()) <= tolerance:
        return
    edge = jump.reshape(-1, *jump.shape[jump.ndim - d :]).amax(0)
    index = torch.unravel_index(edge.argmax(), edge.shape)
    place = {name: float(line[int(i)]) for name, line, i in zip(coordinates, grid.lines, index, strict=True)}
    for condition in (first, second):
        line = grid.lines[coordinates.index(condition.axis)]
        place[condition.axis] = float(line[0] if condition.end == "lower" else line[-1])
    where = ", ".join(f"{name} = {value:g}" for name, value in place.items())
    message = (
        f"the values on `{first.side}` and `{second.side}` differ by {float(jump.max()):.3g} at the corner {where}; "
        "make them agree, or give one of them a `std`."
    )
    warnings.warn(SciprobWarning(message), stacklevel=4)


def _size(points: TensorPoints) -> int:
    size = 1
    for n in points.shape:
        size *= n
    return size
