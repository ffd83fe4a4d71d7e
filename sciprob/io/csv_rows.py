"""Rows of numbers from CSV files that people wrote; what is wrong is said with the line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from sciprob.errors import DataError


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number (from 1) and stripped cells of each line that is neither empty nor a comment.

    Raises:
        DataError: If the file cannot be read, or is no text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells) and not cells[0].startswith("#"):
                    yield reader.line_num, cells
    except (csv.Error, UnicodeDecodeError) as error:
        message = f"`{path.name}` is not a text file of comma-separated values ({error}); export it as CSV in UTF-8."
        raise DataError(message) from error
    except OSError as error:
        message = f"`{path}` cannot be read ({error.strerror}); check the path given with `--data`."
        raise DataError(message) from error


def numbers_of(name: str, line: int, cells: list[str], order: list[int], columns: Sequence[str]) -> list[float]:
    """One row as finite numbers in the order of `columns`; a std, which comes last, is positive.

    Raises:
        DataError: Naming row and column, and what to do.
    """
    if len(cells) != len(columns):
        message = f"row {line} of `{name}` should have {len(columns)} entries ({','.join(columns)}), got {len(cells)}."
        raise DataError(message)
    row = []
    for column, position in zip(columns, order, strict=True):
        try:
            value = float(cells[position])
        except ValueError:
            message = f"row {line} of `{name}` has {column} = {cells[position]!r}, which is not a number; mend it."
            raise DataError(message) from None
        if not math.isfinite(value):
            message = f"row {line} of `{name}` has {column} = {cells[position]}, which is not finite; remove the row."
            raise DataError(message)
        row.append(value)
    if columns[-1] == "std" and row[-1] <= 0:
        message = f"row {line} of `{name}` has std = {row[-1]:g}; give the positive standard deviation of the value."
        raise DataError(message)
    return row
