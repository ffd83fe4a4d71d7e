"""Plain-text tables."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write(text: str = "") -> None:
    """A line on stdout."""
    sys.stdout.write(f"{text}\n")


def table(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None, indent: str = "  ") -> str:
    """Aligned columns; numbers to the right, the last column wrapped to the terminal."""
    lines = [list(header)] if header else []
    lines += [list(row) for row in rows]
    if not lines:
        return ""
    columns = list(zip(*lines, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [all(_is_number(cell) for cell in column[1 if header else 0 :]) for column in columns]
    room = max(24, shutil.get_terminal_size((110, 24)).columns - len(indent) - sum(widths[:-1]) - 2 * len(widths))
    text = []
    for number, line in enumerate(lines):
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)][:-1]
        last = [line[-1].rjust(widths[-1])] if right[-1] else textwrap.wrap(line[-1], room) or [""]
        start = indent + "  ".join([*cells, ""])
        text += [(start + last[0]).rstrip(), *(" " * len(start) + more for more in last[1:])]
        if header and number == 0:
            text.append(indent + "  ".join("-" * w for w in widths[:-1]) + "  " + "-" * min(widths[-1], room))
    return "\n".join(text)


def paragraph(text: str) -> str:
    """Text wrapped to the terminal."""
    return textwrap.fill(" ".join(text.split()), min(100, shutil.get_terminal_size((100, 24)).columns))


def nearby(path: Path) -> str:
    """A path relative to the working directory, where it lies below."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def number(value: Any) -> str:
    """A number with four significant digits; `-` for what is absent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def seconds(value: float) -> str:
    """A time in the unit a person would use."""
    if value < 100:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 6000 else f"{value / 3600:.3g} h"


def flat(figures: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested figures as `a.b`; lists are left out."""
    result: dict[str, Any] = {}
    for key, value in figures.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list | tuple):
            result[prefix + key] = value
    return result


def _is_number(cell: str) -> bool:
    return bool(cell) and all(part[:1].isdigit() or part == "-" or part[:1] in "+-." for part in cell.split()[:1])
