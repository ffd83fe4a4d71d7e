"""`sciprob simulate`: a new truth and data, in files that other programs and `--data` read."""

from __future__ import annotations

import argparse
import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.cli.settings import parse_pairs, split_settings
from sciprob.cli.tables import write
from sciprob.errors import ConfigError
from sciprob.problems.registry import build_problem, find, kind_class

if TYPE_CHECKING:
    from sciprob.problems.problem import Problem


def run_simulate(args: argparse.Namespace) -> int:
    """Simulate and write `simulated.nc`, and `sensors.csv` where the data belong to points."""
    import torch

    file = find(args.problem)
    overrides, _ = split_settings(parse_pairs(args.settings), kind_class(str(file.table.get("kind", ""))), {})
    problem = build_problem(file.table, name=file.name, where=file.path, overrides=overrides)
    problem = problem.simulate(torch.Generator().manual_seed(args.seed))
    if not args.overwrite and args.out.is_dir() and any(args.out.iterdir()):
        message = f"`{args.out}` is not empty; choose a new folder or use `--overwrite`."
        raise ConfigError(message)
    args.out.mkdir(parents=True, exist_ok=True)
    written = [_write_netcdf(problem, args.out / "simulated.nc", args.seed)]
    csv_file = _write_sensors(problem, args.out / "sensors.csv")
    if csv_file is not None:
        written.append(csv_file)
    write(f"written: {', '.join(str(path) for path in written)}")
    if csv_file is not None:
        write(f"use the data with `sciprob solve {args.problem} --data {csv_file}`")
    return 0


def _write_netcdf(problem: Problem, path: Path, seed: int) -> Path:
    from xarray import DataTree

    from sciprob import __version__
    from sciprob.io.xarray import dataset

    operator, truth = problem.operator, problem.truth
    assert truth is not None
    groups: dict[str, Any] = {
        "truth": dataset(problem.parameter, {problem.parameter.name: truth}),
        "data": dataset(operator.codomain, {operator.codomain.name: problem.observed}),
    }
    tree = DataTree.from_dict(groups)
    tree.attrs = {"problem": problem.name, "seed": seed, "sciprob": __version__}
    scratch = path.with_name(f".{path.name}.part")
    tree.to_netcdf(scratch, engine="h5netcdf")
    os.replace(scratch, path)
    return path


def _write_sensors(problem: Problem, path: Path) -> Path | None:
    """Columns x, y(, z) or time, value, std; None if the data are not values at points or times."""
    from sciprob.solvers.runfolder import write_text

    space, std = problem.operator.codomain, getattr(problem.likelihood.noise, "std", None)
    axes = [axis for axis in "xyz" if axis in space.coords] or [axis for axis in space.dims if axis == "time"]
    if len(space.shape) != 1 or not axes or std is None:
        return None
    columns = [space.coords[axis] for axis in axes] + [problem.observed, std.expand(space.shape)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*axes, "value", "std"])
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    write_text(path, text.getvalue())
    return path
