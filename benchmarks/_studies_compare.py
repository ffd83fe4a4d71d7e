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

COMMANDS = {
    "darcy-sensors": "compare darcy-sensors --solvers laplace,nuts,rgnp --referee pcn --set engine=torch "
    "--set nuts.chains=2 --set nuts.warm_up=100 --set nuts.samples=100",
    "burgers-initial": "compare burgers-initial --solvers laplace,diffusion-ensemble --referee pcn "
    "--set grid.inversion=48 --set grid.data=192 --set step.inversion=0.02 --set pcn.burn_in=300 --set pcn.samples=150 "
    "--set pcn.thin=6 --set diffusion-ensemble.particles=64 --set diffusion-ensemble.steps=25",
    "navier-stokes-initial": "compare navier-stokes-initial --solvers laplace --referee pcn --set grid.inversion=16 "
    "--set grid.data=32 --set step.inversion=0.1 --set step.data=0.05 --set sensors.count=20 --set pcn.burn_in=300 "
    "--set pcn.samples=250 --set pcn.thin=8 --set noise.std=0.2",
    "tomography-phantom": "compare tomography-phantom --solvers laplace,diffusion-ensemble --referee gaussian "
    "--set pixels=32 --set scan.views=20 --set scan.bins=46 --set diffusion-ensemble.steps=20",
}


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
