"""The table of a study, and its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.studies.plan import Case

if TYPE_CHECKING:
    from pandas import DataFrame

_SCORES = ("relative_error", "crps", "coverage.0.5", "coverage.0.9", "solves.forward", "solves.adjoint",
           "solves.tangent", "network_calls", "seconds")  # fmt: skip


def make_table(cases: Sequence[Case], rows: Sequence[dict[str, Any]]) -> DataFrame:
    """One row per run, in the order of the plan."""
    import pandas

    whole = [
        {"problem": case.problem, **case.varied, "solver": case.solver, "seed": case.seed, **row}
        for case, row in zip(cases, rows, strict=True)
    ]
    table = pandas.DataFrame(whole)
    table.attrs["index"] = [*table.columns[: table.columns.get_loc("seed")], "seed"]
    return table


def summary(table: DataFrame) -> DataFrame:
    """Means of the scores over the data sets, number of runs and of failures, by problem, settings and solver."""
    index = [name for name in table.attrs["index"] if name != "seed"]
    groups = table.groupby(index, sort=False, dropna=False)
    scores = [name for name in _SCORES if name in table]
    means = groups[scores].mean(numeric_only=True)
    means.insert(0, "runs", groups.size())
    failed = (table["status"] == "failed").groupby([table[name] for name in index], sort=False, dropna=False).sum()
    if int(failed.sum()):
        means.insert(1, "failed", failed)
    if "relative_error" in scores and table["seed"].nunique() > 1:
        means.insert(means.columns.get_loc("relative_error") + 1, "+-", groups["relative_error"].sem())
    return means.reset_index()


def write_results(table: DataFrame, folder: Path) -> None:
    """`results.csv`, and `results.nc` with one axis per thing that varies; both appear whole or not at all."""
    scratch = folder / ".results.csv.part"
    table.to_csv(scratch, index=False)
    os.replace(scratch, folder / "results.csv")
    index = table.attrs["index"]
    numbers = table.set_index(index).select_dtypes("number")
    numbers.columns = [name.replace("/", " per ") for name in numbers.columns]
    dataset = numbers.to_xarray()
    scratch = folder / ".results.nc.part"
    dataset.to_netcdf(scratch, engine="h5netcdf")
    os.replace(scratch, folder / "results.nc")
