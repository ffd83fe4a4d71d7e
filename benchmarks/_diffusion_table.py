"""Rows of the diffusion benchmarks, printed as they come and written to JSON."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


class Table:
    """Figures by case, method and metric."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.versions = {"python": platform.python_version(), "torch": torch.__version__}
        print(f"torch {torch.__version__} with {torch.get_num_threads()} threads")
        print(f"{'case':34} {'method':30} {'metric':24} {'value':>11} unit")

    def add(self, case: str, method: str, metric: str, value: float | None, unit: str = "1") -> None:
        """One figure; None where a method has none."""
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit}
        row["seconds"] = value if unit == "s" else None
        self.rows.append(row | {"device": "cpu", "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.4g}"
        print(f"{case:34} {method:30} {metric:24} {shown:>11} {unit}", flush=True)

    def write(self, path: Path) -> None:
        """All rows so far."""
        path.write_text(json.dumps(self.rows, indent=1))


class Stopwatch:
    """CPU time of this process, which other programs on the machine do not stretch."""

    seconds: float = 0.0


@contextmanager
def cpu_time() -> Iterator[Stopwatch]:
    """Measure a block."""
    watch, start = Stopwatch(), time.process_time()
    yield watch
    watch.seconds = time.process_time() - start


def mean(values: list[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)
