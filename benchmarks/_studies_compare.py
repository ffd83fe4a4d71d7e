"""Comparisons by the command line, at a size that takes minutes."""

from __future__ import annotations

import csv
import resource
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from _diffusion_table import Table

COMMANDS: dict[str, str] = {}


def bench_comparisons(table: Table, *, quick: bool) -> None:
    """Run each command, and take its table."""
    for case, command in list(COMMANDS.items())[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            words = [sys.executable, "-m", "sciprob", *shlex.split(command), "--quiet", "--out", folder + "/out"]
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            with (Path(folder) / "out" / "compare.csv").open() as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                for name in ("relative_error", "coverage_0.9", "mean_difference", "std_ratio", "sliced_wasserstein"):
                    if row.get(name):
                        table.add(case, row["solver"], name.replace("_", " "), float(row[name]))
            size = (Path(folder) / "out" / "report.html").stat().st_size
            table.add(case, "all", "size of the report", size / 1e6, "MB")
            table.add(case, "all", "CPU time", seconds, "s")
