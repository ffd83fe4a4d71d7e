"""From names, tables and wishes to a solver, a device and the `config.toml` of a run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from sciprob import __version__
from sciprob.config import did_you_mean, from_mapping, to_mapping
from sciprob.errors import ConfigError, MissingExtraError, UnsupportedProblemError
from sciprob.problems.registry import build_problem

if TYPE_CHECKING:
    from pathlib import Path

    from sciprob.problems.problem import Problem


def solver_class(name: str) -> Any:
    """A solver's class by name.

    Raises:
        ConfigError: If it is unknown; names the nearest.
    """
    from sciprob.solvers import SOLVERS

    if name not in SOLVERS:
        message = f"unknown solver `{name}`; {did_you_mean(name, SOLVERS)}"
        raise ConfigError(message)
    return SOLVERS[name]


def make_solver(solver: Any, settings: Mapping[str, Any] | None = None, where: str = "") -> Any:
    """A solver from a name, a class, or itself.

    Raises:
        ConfigError: For an unknown name or wrong settings, or settings for a configured object.
    """
    if isinstance(solver, str):
        solver = solver_class(solver)
    if isinstance(solver, type):
        return from_mapping(solver, settings or {}, where or f"solver `{solver.__name__}`")
    if settings:
        message = f"give settings either in {type(solver).__name__}(...) or as a table, not both."
        raise ConfigError(message)
    return solver


def chosen_solver(solver: Any, problem: Problem) -> Any:
    """The solver that was asked for, or the problem's own for None; that one by name has the problem's settings.

    Raises:
        ConfigError: For an unknown name or wrong settings.
    """
    own = problem.info.default_solver
    if solver is None or (isinstance(solver, str) and solver == own):
        return make_solver(own, problem.info.solver_settings, f"[solver] of problem `{problem.name}`")
    return make_solver(solver)


def check_capabilities(solver: Any, problem: Problem) -> None:
    """Check that the problem has what the solver needs.

    Raises:
        UnsupportedProblemError: Names what is missing, and the solvers that do without.
    """
    missing = solver.needs - problem.offers
    if missing:
        needs = " and ".join(sorted(capability.value for capability in missing))
        message = f"solver `{solver.name}` needs {needs}, which `{problem.name}` does not offer; {_instead(problem)}."
        raise UnsupportedProblemError(message)


def _instead(problem: Problem) -> str:
    """The solvers whose needs the problem meets, in words."""
    from sciprob.solvers import SOLVERS

    able = []
    for name in SOLVERS:
        with suppress(MissingExtraError):
            if SOLVERS[name].needs <= problem.offers:
                able.append(f"`{name}`")
    return f"use {' or '.join(able)}" if able else "no other solver here does without"


def choose_device(wish: str, problem: Problem) -> torch.device:
    """`cpu`, `cuda`, or `auto`: CUDA if present, unless a part of the operator runs on the host.

    Raises:
        ConfigError: If the wish is unknown or there is no such device.
    """
    if wish == "auto":
        from sciprob.operators.host import HostLinearMap, HostOperator

        on_host = any(isinstance(part, HostOperator | HostLinearMap) for part in problem.operator.modules())
        return torch.device("cuda" if torch.cuda.is_available() and not on_host else "cpu")
    return torch_device(wish)


def torch_device(wish: str) -> torch.device:
    """`cpu`, `cuda`, or `auto`: CUDA if present.

    Raises:
        ConfigError: If the wish is unknown or there is no such device.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        message = f"`device` should be auto, cpu or cuda, got {wish!r}."
        raise ConfigError(message)
    if device.type == "cuda" and not torch.cuda.is_available():
        message = "there is no CUDA device here; use `--device cpu`."
        raise ConfigError(message)
    return device


def run_config(problem: Problem, solver: Any, run: Mapping[str, Any]) -> dict[str, Any]:
    """The content of `config.toml`: tables `[problem]`, `[solver]`, `[run]`."""
    table = dict(problem.config) or {"name": problem.name}
    return {
        "problem": table,
        "solver": {"name": solver.name, **to_mapping(solver)},
        "run": {key: value for key, value in run.items() if value is not None} | {"sciprob": __version__},
    }


def configured_solver(config: Mapping[str, Any], path: Path) -> Any:
    """The solver of a `config.toml`.

    Raises:
        ConfigError: If it is not one of the package's.
    """
    from sciprob.solvers import SOLVERS

    settings = dict(config.get("solver", {}))
    name = str(settings.pop("name", ""))
    if name not in SOLVERS:
        message = f"`{path}` names the solver `{name}`, which is not the package's; use `resume(folder, solver=...)`."
        raise ConfigError(message)
    return make_solver(name, settings, f"[solver] of {path.name}")


def configured_problem(config: Mapping[str, Any], path: Path) -> Problem:
    """The problem of a `config.toml`.

    Raises:
        ConfigError: If it was built in Python.
        DataError: If its data file has changed.
    """
    table = config.get("problem", {})
    if "kind" not in table:
        message = f"the problem of `{path}` was built in Python; use `sciprob.resume(folder, problem=problem)`."
        raise ConfigError(message)
    return build_problem(table, name=str(table.get("name", "problem")), where=path)
