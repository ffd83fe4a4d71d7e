"""A study that is killed twice ends with the table of an uninterrupted one."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _diffusion_table import Table

PLAN = """
title = "Killed and gone on with"
seeds = {seeds}
figures = false

[problems.scan]
problem = "tomography-phantom"
set = {{ pixels = 12, "scan.views" = 5, "scan.bins" = 18 }}

[solvers.gaussian]

[solvers.chains]
solver = "pcn"
samples = 25
thin = 4
burn_in = 100
"""


def bench_killed(table: Table, *, seeds: int) -> None:
    """Kill the whole process group with SIGKILL after a third and two thirds of the runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.toml").write_text(PLAN.format(seeds=seeds))
        runs = 2 * seeds
        for number, share in enumerate((1 / 3, 2 / 3)):
            finished = _killed(folder, round(share * runs))
            table.add("killed study", f"kill {number + 1}", f"runs finished of {runs}", float(finished))
        kept = {path: path.stat().st_mtime_ns for path in _finished(folder / "killed")}
        for out in ("killed", "whole"):
            start = time.perf_counter()
            subprocess.run(_command(folder, out), check=True, stdout=subprocess.DEVNULL)
            table.add("killed study", f"last part, {out}", "wall time", time.perf_counter() - start, "s")
        again = sum(path.stat().st_mtime_ns != stamp for path, stamp in kept.items())
        table.add("killed study", "gone on with", "finished runs made again", float(again))
        different = _different(folder / "killed" / "results.csv", folder / "whole" / "results.csv")
        table.add("killed study", "gone on with", "cells that differ", float(different))


def _killed(folder: Path, runs: int) -> int:
    process = subprocess.Popen(
        _command(folder, "killed"), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(_finished(folder / "killed")) < runs:
        if process.poll() is not None:
            message = f"the study ended with {process.returncode} before it could be killed"
            raise RuntimeError(message)
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(_finished(folder / "killed"))


def _finished(out: Path) -> list[Path]:
    return list((out / "runs").glob("*/*/*/metrics.json"))


def _command(folder: Path, out: str) -> list[str]:
    return [sys.executable, "-m", "sciprob", "study", str(folder / "plan.toml"), "--out", str(folder / out), "--quiet"]


def _different(one: Path, other: Path) -> int:
    """Cells that differ, times left out."""
    with one.open() as first, other.open() as second:
        rows, others = list(csv.DictReader(first)), list(csv.DictReader(second))
    if len(rows) != len(others):
        return max(len(rows), len(others))
    return sum(
        row[key] != twin[key] for row, twin in zip(rows, others, strict=True) for key in row if "seconds" not in key
    )
