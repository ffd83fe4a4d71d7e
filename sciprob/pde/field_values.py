"""Coefficients, sources and boundary data: numbers, tables on a grid, or functions of position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.pde.coordinates import coordinate_jets
from sciprob.pde.functionals import AnyPoints, TensorPoints
from sciprob.pde.jet import Jet, Number

Value = Number | Tensor | Callable[[Mapping[str, Any]], Any]
"""A number; a tensor `(*batch, *shape)` of values on the grid it is meant for (0-dimensional: a constant); or a
function of the coordinates by name, each `(n,)`, that returns `(*batch, n)`, a number, or a jet."""


def evaluate(
    value: Value,
    name: str,
    coordinates: tuple[str, ...],
    points: AnyPoints,
    grid: TensorPoints,
    derivatives: Iterable[str] = (),
) -> Tensor | Jet:
    """A value at points, `(*batch, n)`, or 0-dimensional where it is constant.

    Args:
        value: What to evaluate.
        name: What it is called in messages.
        coordinates: Names of the coordinates.
        points: Where.
        grid: The grid that tables are given on.
        derivatives: If any, functions are called with jets of the coordinates that know these.

    Raises:
        ShapeError: If a table or the result of a function does not fit.
        DataError: If an entry is not finite; the message says where.
        UnsupportedProblemError: If a table is needed at other points than its own.
    """
    like = points.lines[0] if isinstance(points, TensorPoints) else points.points
    if isinstance(value, int | float):
        result: Any = like.new_tensor(float(value))
    elif isinstance(value, Tensor):
        result = _table(value.to(like), name, points, grid)
    else:
        x = points.columns(coordinates)
        result = value(coordinate_jets(x, derivatives) if derivatives else x)
        result = like.new_tensor(float(result)) if isinstance(result, int | float) else result
    n = int(torch.tensor(points.shape).prod())
    entries = result.value if isinstance(result, Jet) else result
    if entries.ndim and entries.shape[-1] not in (1, n):
        message = f"`{name}` should return one value for each of {n} points, got {tuple(entries.shape)}."
        raise ShapeError(message)
    _refuse_non_finite(entries, name, coordinates, points, n)
    found: Tensor | Jet = result
    return found


def _table(value: Tensor, name: str, points: AnyPoints, grid: TensorPoints) -> Tensor:
    if value.ndim == 0:
        return value
    d = len(grid.shape)
    if value.ndim < d or tuple(value.shape[value.ndim - d :]) != grid.shape:
        message = f"`{name}` should end in the shape of its points {grid.shape}, got {tuple(value.shape)}."
        raise ShapeError(message)
    if not _same(points, grid):
        message = f"`{name}` is a table on the grid and is unknown elsewhere; give a function of the coordinates."
        raise UnsupportedProblemError(message)
    return value.flatten(value.ndim - d)


def _same(points: AnyPoints, grid: TensorPoints) -> bool:
    if not isinstance(points, TensorPoints) or points.shape != grid.shape:
        return False
    return all(torch.equal(a, b) for a, b in zip(points.lines, grid.lines, strict=True))


def _refuse_non_finite(entries: Tensor, name: str, coordinates: tuple[str, ...], points: AnyPoints, n: int) -> None:
    bad = ~torch.isfinite(entries.expand(*entries.shape[:-1], n) if entries.ndim else entries)
    if not bool(bad.any()):
        return
    first = int(bad.reshape(-1, bad.shape[-1]).any(0).nonzero()[0]) if bad.ndim else 0
    x = points.columns(coordinates)
    place = ", ".join(f"{axis} = {float(x[axis][first]):g}" for axis in coordinates)
    message = f"`{name}` should be finite, and is not at {place} (point {first} of {n}); mend or mask it."
    raise DataError(message)
