"""What a study runs: the product of problems, settings, solvers and data sets, from a TOML file."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError
from sciprob.problems.registry import build_problem, find, read_toml

_TOP = ("title", "seeds", "budget", "figures", "problems", "solvers")
_PROBLEM = ("problem", "simulate", "set", "vary", "data")


@dataclasses.dataclass(frozen=True)
class Case:
    """One run of a study, in plain values.

    Attributes:
        problem: Label of the problem.
        varied: Settings of the problem that vary within the study, by dotted key.
        solver: Label of the solver.
        seed: Number of the data set; also the root of the solver's randomness.
        config: The tables `problem` and `solver` as in a run's `config.toml`.
        simulate: Whether truth and data are drawn anew, or are the problem's own.
        budget: Largest time of the run, or None.
        figures: Whether the run draws its figures.
    """

    problem: str
    varied: Mapping[str, Any]
    solver: str
    seed: int
    config: Mapping[str, Any]
    simulate: bool
    budget: str | None
    figures: bool = True

    @property
    def folder(self) -> str:
        """Where its run lies within the study's folder."""
        settings = "".join(f",{key}={value}" for key, value in self.varied.items())
        return f"runs/{self.problem}{settings}/{self.solver}/seed-{self.seed:04d}".replace(" ", "")


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
        title: One line.
        table: The table it was read from.
        cases: All runs, in the order of the table.
    """

    title: str
    table: Mapping[str, Any]
    cases: tuple[Case, ...]


def read_plan(path: Path) -> Plan:
    """Read and check a study file; every problem and solver is built once, so that mistakes show before any run.

        title = "How many sensors?"
        seeds = 5                           # data sets, or a list of their numbers
        budget = "2m"                       # of each run, if any
        figures = false                     # thousands of runs need none (default true)

        [problems.darcy]
        problem = "darcy-sensors"           # name or file; the label itself if left out
        simulate = true                     # draw truth and data for each seed (default), or use the problem's own
        set = { "noise.std" = 0.02 }
        vary = { "sensors.count" = [10, 20, 50] }

        [solvers.laplace]
        [solvers.chains]
        solver = "pcn"                      # name of the method; the label itself if left out
        samples = 2000

    Raises:
        ConfigError: For an unknown key, problem, solver or setting; names the nearest valid one.
    """
    return make_plan(read_toml(path), path)


def make_plan(table: Mapping[str, Any], where: Path) -> Plan:
    """The plan of a table; `where` is its file, base of relative paths."""
    _check_keys(table, _TOP, where.name)
    for part in ("problems", "solvers"):
        if not isinstance(table.get(part), Mapping) or not table[part]:
            message = f"a study needs at least one table `[{part}.LABEL]` in {where.name}."
            raise ConfigError(message)
    seeds = _seeds(table.get("seeds", 1), where)
    solvers = {str(label): _solver(str(label), settings, where) for label, settings in table["solvers"].items()}
    budget, figures = table.get("budget"), table.get("figures", True)
    if not isinstance(figures, bool):
        message = f"`figures` of {where.name} should be true or false, got {figures!r}."
        raise ConfigError(message)
    cases = [
        Case(problem, varied, solver, seed, {"problem": built, "solver": settings}, simulate, budget, figures)
        for problem, varied, built, simulate in _problems(table["problems"], where)
        for solver, settings in solvers.items()
        for seed in seeds
    ]
    return Plan(str(table.get("title", where.stem)), table, tuple(cases))


def _problems(
    table: Mapping[str, Any], where: Path
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any], bool]]:
    for label, settings in table.items():
        _check_keys(settings, _PROBLEM, f"[problems.{label}] of {where.name}")
        file = find(_beside(settings.get("problem", label), where))
        vary = settings.get("vary", {})
        for key, values in vary.items():
            if not isinstance(values, list) or not values:
                message = f"`vary.{key}` of [problems.{label}] should be a list of values, got {values!r}."
                raise ConfigError(message)
        for values in itertools.product(*vary.values()):
            varied = dict(zip(vary, values, strict=True))
            overrides = {**settings.get("set", {}), **varied}
            data = settings.get("data")
            built = build_problem(file.table, name=file.name, where=file.path, overrides=overrides, data=data)
            yield str(label), varied, built.config, bool(settings.get("simulate", True))


def _solver(label: str, settings: Mapping[str, Any], where: Path) -> dict[str, Any]:
    from sciprob.config import to_mapping
    from sciprob.solvers.setup import make_solver, solver_class

    own = dict(settings)
    method = make_solver(solver_class(str(own.pop("solver", label))), own, f"[solvers.{label}] of {where.name}")
    return {"name": method.name, **to_mapping(method)}


def _seeds(value: Any, where: Path) -> list[int]:
    seeds = list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        message = f"`seeds` of {where.name} should be a number of data sets or a list of whole numbers, got {value!r}."
        raise ConfigError(message)
    return seeds


def _beside(name: str, where: Path) -> str | Path:
    """A problem file beside the study's, or a name."""
    file = where.parent / name
    return file if str(name).endswith(".toml") and file.is_file() else name


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            message = f"unknown key `{key}` in {where}; {did_you_mean(key, known)}"
            raise ConfigError(message)
