"""The driver: one loop for all solvers.

It checks what a solver needs, owns seeds, progress, log, checkpoints, time budget, NaN guard and
Ctrl-C, and writes the run folder. A run that is stopped at any moment and resumed gives the numbers
of an uninterrupted one, bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.errors import ConfigError
from sciprob.problems.registry import read_toml
from sciprob.solvers.checkpoint import load_measurements, save_measurements
from sciprob.solvers.loop import Callback, Run
from sciprob.solvers.runfolder import RunFolder
from sciprob.solvers.setup import (
    check_capabilities,
    choose_device,
    chosen_solver,
    configured_problem,
    configured_solver,
    run_config,
)
from sciprob.solvers.stopping import parse_budget

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


def solve(
    problem: Problem,
    solver: Any = None,
    *,
    seed: int = 0,
    budget: str | float | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    overwrite: bool = False,
    figures: bool = True,
) -> Posterior:
    """Compute the posterior of a problem.

    Args:
        problem: Prior, operator, likelihood and data.
        solver: Name, class or configured object; by default the problem's `info.default_solver`, which has the
            problem's `info.solver_settings` (by name or default; a class or an object has its own).
        seed: Root of all randomness.
        budget: Largest time, `60`, `"60s"`, `"5m"`; a run that reaches it stops after its step.
        out: Folder to write; it can be resumed after a kill at any moment.
        device: `cpu`, `cuda`, or `auto`: CUDA if there is one and no part of the operator runs on the host.
        progress: Show progress on stderr.
        callbacks: Called as `callback(step, state, info)` after every step.
        overwrite: Replace a run that is already in `out`.
        figures: Whether figures are drawn into `out`; `sciprob plot` draws them later.

    Returns:
        The posterior; `posterior.meta` holds what `metrics.json` holds. After Ctrl-C it is the partial one,
        with status `interrupted`.

    Raises:
        UnsupportedProblemError: If the problem lacks something the solver needs; names it.
        ConfigError: For an unknown solver, device or budget, or a folder that is in use.
        NonFiniteError: If the state becomes NaN; names the entry.
    """
    method = chosen_solver(solver, problem)
    check_capabilities(method, problem)
    chosen = choose_device(device, problem)
    limit = parse_budget(budget)
    observed = problem.observed  # fails before anything is written
    folder = None
    if out is not None:
        drawing = None if figures else False  # only what differs from the rule is written down
        run = {"seed": seed, "device": str(chosen), "budget": limit, "figures": drawing}
        config = run_config(problem, method, run)
        folder = RunFolder.create(out, overwrite=overwrite)
        save_measurements(folder.measurements, observed, problem.truth)
        folder.begin(config, chosen)
    return Run(problem.to(chosen), method, seed, chosen, limit, folder, progress, tuple(callbacks), figures).execute()


def resume(
    folder: str | Path,
    *,
    problem: Problem | None = None,
    solver: Any = None,
    budget: str | float | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Posterior:
    """Continue a run from its folder, whatever stopped it.

    Args:
        folder: A folder written by `solve(..., out=...)`.
        problem: The problem, if it was built in Python and not from a problem file.
        solver: The configured solver, if it is not one of the package's.
        budget: Largest time of this part; none by default, whatever the first part had.
        progress: Show progress on stderr.
        callbacks: As in `solve`.

    Returns:
        The same posterior as an uninterrupted run.

    Raises:
        ConfigError: If the folder is no run, or its problem or solver cannot be built from `config.toml`.
        DataError: If the data file of the run has changed.
    """
    place = RunFolder.open(folder)
    config = read_toml(place.config)
    if "family" in config:
        message = f"`{folder}` holds training on a family; use `sciprob.resume_fit`."
        raise ConfigError(message)
    method = configured_solver(config, place.config) if solver is None else solver
    built = rebuild_problem(place, config, problem)
    check_capabilities(method, built)
    settings = config.get("run", {})
    device = choose_device(str(settings.get("device", "cpu")), built)
    limit, seed = parse_budget(budget), int(settings.get("seed", 0))
    figures = bool(settings.get("figures", True))
    return Run(built.to(device), method, seed, device, limit, place, progress, tuple(callbacks), figures).execute()


def rebuild_problem(folder: RunFolder, config: Mapping[str, Any], problem: Problem | None = None) -> Problem:
    """The problem of a run with the data and truth of that run.

    Data that were simulated or set in Python are not in the problem's file, so the folder has them.

    Args:
        folder: The run.
        config: Its `config.toml`.
        problem: The problem, if it was built in Python.

    Raises:
        ConfigError: If it was built in Python and is not given.
        DataError: If the data file of the run has changed.
    """
    built = configured_problem(config, folder.config) if problem is None else problem
    data, truth = load_measurements(folder.measurements)
    return replace(built, data=data, truth=truth)
