"""Measurements at points, from a CSV file a person wrote.

    x,y,value,std
    0.20,0.35,0.0712,0.001
    0.81,0.44,0.0540,0.001

One row per measurement, numbers with a decimal point, columns in any order, `z` too in three
dimensions and `time` where states change. Empty lines and lines that start with `#` are skipped.
Several rows may share a place.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sciprob.errors import DataError, SciprobWarning
from sciprob.io.csv_rows import numbers_of, rows_of
from sciprob.spaces import Space


@dataclass(frozen=True)
class Sensors:
    """Point measurements of a scalar field.

    Args:
        points: Where, `(n, d)` in the order x, y, z, float64.
        values: What was measured, `(n,)`.
        std: Standard deviation of each value's error, `(n,)`, positive.
        lines: Line of the file each came from, counted from 1.
        times: When, `(n,)`; None for stationary fields.
    """

    points: Tensor
    values: Tensor
    std: Tensor
    lines: tuple[int, ...]
    times: Tensor | None = None


def read_sensors(path: str | Path, space: Space, *, interval: tuple[float, float] | None = None) -> Sensors:
    """Read and check a file of point measurements.

    Args:
        path: CSV file with a header line.
        space: Space of the measured field; gives the coordinates' names and says what is inside.
        interval: First and last time of a field that changes; the file then has a column `time`.

    Raises:
        DataError: In one sentence with the row (line of the file, counted from 1) and the remedy: for a file
            that cannot be read, missing or unknown columns, rows of the wrong length, text, NaN or
            infinite values, a standard deviation that is not positive, a point outside the domain or a time
            outside the interval.
    """
    path = Path(path)
    axes = [axis for axis in "xyz" if axis in space.coords]
    columns = [*axes, *([] if interval is None else ["time"]), "value", "std"]
    rows = list(rows_of(path))
    if not rows:
        message = f"`{path.name}` is empty; its first line should be `{','.join(columns)}`."
        raise DataError(message)
    order = _header(path.name, rows[0][1], columns)
    numbers = [numbers_of(path.name, line, cells, order, columns) for line, cells in rows[1:]]
    if not numbers:
        message = f"`{path.name}` has a header but no measurements; add one row per sensor."
        raise DataError(message)
    lines = tuple(line for line, _ in rows[1:])
    _warn_of_repeats(path.name, lines, numbers)
    table = torch.tensor(numbers, dtype=torch.float64)
    points, values, std = table[:, : len(axes)].contiguous(), table[:, -2].contiguous(), table[:, -1].contiguous()
    sensors = Sensors(points, values, std, lines, None if interval is None else table[:, len(axes)].contiguous())
    _check_inside(path.name, sensors, space)
    if interval is not None:
        _check_times(path.name, sensors, *interval)
    return sensors


def _header(name: str, cells: list[str], columns: list[str]) -> list[int]:
    """Position of each expected column."""
    wanted = f"the first line should be `{','.join(columns)}`"
    given = [cell.lower() for cell in cells]
    if len(given) == 1 and any(mark in given[0] for mark in ";\t"):
        message = f"the columns of `{name}` are not separated by commas; {wanted}, with decimal points in the numbers."
        raise DataError(message)
    missing = [column for column in columns if column not in given]
    if missing:
        message = f"`{name}` has no column {_listed(missing)} (found {_listed(cells)}); {wanted}."
        raise DataError(message)
    unknown = [cell for cell in given if cell not in columns]
    if unknown:
        message = f"`{name}` has the unknown column {_listed(unknown)}; remove it, {wanted}."
        raise DataError(message)
    if len(given) > len(columns):
        twice = next(cell for cell in given if given.count(cell) > 1)
        message = f"`{name}` has the column {_listed([twice])} more than once; keep one, {wanted}."
        raise DataError(message)
    return [given.index(column) for column in columns]


def _warn_of_repeats(name: str, lines: tuple[int, ...], numbers: list[list[float]]) -> None:
    first: dict[tuple[float, ...], int] = {}
    for line, row in zip(lines, numbers, strict=True):
        if first.setdefault(tuple(row), line) != line:
            message = (
                f"row {line} of `{name}` repeats row {first[tuple(row)]} and counts as a second, independent "
                "measurement; remove it if it is a copy."
            )
            warnings.warn(SciprobWarning(message), stacklevel=3)
            return


def _check_inside(name: str, sensors: Sensors, space: Space) -> None:
    """Let the space find points outside, and name the line of the first."""
    try:
        space.interpolation(sensors.points)
    except DataError:
        for line, point in zip(sensors.lines, sensors.points, strict=True):
            try:
                space.interpolation(point[None])
            except DataError as error:
                message = f"row {line} of `{name}` {str(error).removeprefix('point 0 ')}"
                raise DataError(message) from None
        raise


def _check_times(name: str, sensors: Sensors, first: float, last: float) -> None:
    assert sensors.times is not None
    for line, time in zip(sensors.lines, sensors.times.tolist(), strict=True):
        if not first <= time <= last:
            message = (
                f"row {line} of `{name}` has time = {time:g}, outside the interval [{first:g}, {last:g}] of the "
                "problem; correct it, or extend the problem's final time."
            )
            raise DataError(message)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
