"""Studies: many runs, resumable, one table."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from sciprob.errors import ConfigError, SciprobError
from sciprob.random import Streams
from sciprob.solvers.runfolder import RunFolder, write_text
from sciprob.studies.plan import Case, Plan, read_plan
from sciprob.studies.pool import run_all

if TYPE_CHECKING:
    from pandas import DataFrame

    from sciprob.problems.problem import Problem

_PLAN = "study.toml"


@dataclass(frozen=True)
class Study:
    """A finished study.

    Attributes:
        title: One line.
        table: One row per run: problem, varied settings, solver, seed, status, scores, solves, seconds.
        folder: Where its runs, `results.csv` and `results.nc` lie.
    """

    title: str
    table: DataFrame
    folder: Path

    def summary(self) -> DataFrame:
        """Means over the data sets, and the standard error of the relative error."""
        from sciprob.studies.results import summary

        return summary(self.table)


def run_study(
    plan: str | Path | Plan,
    out: str | Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    progress: bool = True,
) -> Study:
    """Run, or go on with, a study.

    Every run is an ordinary run folder under `out/runs`. A run that was finished is read and not repeated; one that
    was killed goes on at its checkpoint, to the numbers of an uninterrupted one. So whatever stops a study, the
    same call finishes it with the same table (but for seconds). Runs that fail are rows with their reason and are
    tried again by the next call.

    Args:
        plan: A study file (see `sciprob.studies.plan.read_plan`), or a plan.
        out: Folder of the study; workers of a cluster need to see it at the same path.
        workers: Processes on this machine.
        cluster: Address of a Dask scheduler to use instead.
        progress: Show progress on stderr.

    Raises:
        ConfigError: For a mistake in the file, or if `out` holds another study or other files.
    """
    from sciprob.studies.results import make_table, write_results

    planned = plan if isinstance(plan, Plan) else read_plan(Path(plan))
    folder = Path(out).expanduser().resolve()
    _claim(folder, planned)
    items = [{"case": dataclasses.asdict(case), "root": str(folder)} for case in planned.cases]
    rows: dict[int, dict[str, Any]] = {}
    for index, row in run_all(_run, items, workers=workers, cluster=cluster, label=planned.title, show=progress):
        rows[index] = row
    table = make_table(planned.cases, [rows[i] for i in range(len(items))])
    write_results(table, folder)
    return Study(planned.title, table, folder)


def _claim(folder: Path, plan: Plan) -> None:
    """Make the folder this study's, or find that it is."""
    file = folder / _PLAN
    text = tomli_w.dumps(json.loads(json.dumps(plan.table)))
    if file.is_file():
        if file.read_text(encoding="utf-8") != text:
            message = f"`{folder}` holds another study (see its {_PLAN}); choose a new folder, or go on with that one."
            raise ConfigError(message)
        return
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        message = f"`{folder}` holds other files and is not a study; choose a new folder."
        raise ConfigError(message)
    write_text(file, text)


def _run(item: Mapping[str, Any]) -> dict[str, Any]:
    """One run, in whatever process; returns its figures."""
    case = Case(**item["case"])
    folder = Path(item["root"]) / case.folder
    done = folder / "metrics.json"
    if not (done.is_file() and json.loads(done.read_text())["status"] != "interrupted"):
        try:
            _solve(case, folder)
        except SciprobError as error:
            return {"status": "failed", "reason": str(error)}
    return dict(_figures(json.loads(done.read_text())))


def _solve(case: Case, folder: Path) -> None:
    from sciprob.solvers.driver import resume, solve
    from sciprob.solvers.setup import configured_problem, configured_solver

    if RunFolder(folder).config.is_file():
        resume(folder, budget=case.budget, progress=False)
        return
    if folder.exists():  # killed before there was anything to go on with
        shutil.rmtree(folder)
    where = Path(_PLAN)
    problem = configured_problem(case.config, where)
    if case.simulate:
        problem = _simulated(problem, case.seed)
    method = configured_solver(case.config, where)
    solve(problem, method, seed=case.seed, budget=case.budget, out=folder, progress=False, figures=case.figures)


def _simulated(problem: Problem, seed: int) -> Problem:
    """New truth and data, the same for every solver."""
    return problem.simulate(Streams(seed)["truth and data of a study"])


def _figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Numbers and words of `metrics.json`, flattened."""
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            for inner, number in _figures(value):
                yield f"{key}.{inner}", number
        elif isinstance(value, bool | int | float | str) and key not in ("problem", "solver", "seed", "advice"):
            yield key, value
