"""A series in time, from a CSV file a person wrote.

    time,value,std
    0.0,1.20,0.05
    0.7,1.31,0.05

One row per value, in order of time, any spacing; the column `std` may be left out. Empty lines and lines that start
with `#` are skipped. Missing values are rows that are not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.io.csv_rows import numbers_of, rows_of

_COLUMNS = ("time", "value", "std")


@dataclass(frozen=True)
class Series:
    """A series.

    Args:
        times: Increasing, `(n,)`, float64.
        values: `(n,)`, float64.
        std: Standard deviations of the values' errors, positive; None where the file has none.
        lines: Line of the file each came from, counted from 1.
    """

    times: Tensor
    values: Tensor
    std: Tensor | None
    lines: tuple[int, ...]


def read_series(path: str | Path) -> Series:
    """Read and check a series.

    Raises:
        DataError: In one sentence with the row (line of the file, counted from 1) and the remedy: for a file that
            cannot be read, wrong columns, text, NaN, empty or infinite values, times that repeat or decrease, a std
            that is not positive, or fewer than two rows.
    """
    path = Path(path)
    rows = list(rows_of(path))
    if not rows:
        message = f"`{path.name}` is empty; its first line should be `time,value` or `time,value,std`."
        raise DataError(message)
    order = _header(path.name, rows[0][1])
    lines = tuple(line for line, _ in rows[1:])
    table = [numbers_of(path.name, line, cells, order, _COLUMNS[: len(order)]) for line, cells in rows[1:]]
    if len(table) < 2:
        message = f"`{path.name}` should have at least two rows below its header, got {len(table)}."
        raise DataError(message)
    _check_order(path.name, lines, [row[0] for row in table])
    numbers = torch.tensor(table, dtype=torch.float64)
    std = numbers[:, 2].contiguous() if len(order) == 3 else None
    return Series(numbers[:, 0].contiguous(), numbers[:, 1].contiguous(), std, lines)


def _header(name: str, cells: list[str]) -> list[int]:
    """Positions of time, value and, if there, std."""
    given = [cell.lower() for cell in cells]
    if sorted(given) not in (["time", "value"], ["std", "time", "value"]):
        message = f"the first line of `{name}` should be `time,value` or `time,value,std`, got `{','.join(cells)}`."
        raise DataError(message)
    return [given.index(column) for column in _COLUMNS if column in given]


def _check_order(name: str, lines: tuple[int, ...], times: list[float]) -> None:
    for i in range(1, len(times)):
        if times[i] == times[i - 1]:
            message = (
                f"row {lines[i]} of `{name}` repeats the time {times[i]:g} of row {lines[i - 1]}; keep one of the two, "
                "for instance their mean."
            )
            raise DataError(message)
        if times[i] < times[i - 1]:
            message = f"row {lines[i]} of `{name}` is earlier than row {lines[i - 1]}; sort the rows by time."
            raise DataError(message)
