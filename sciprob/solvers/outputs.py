"""What a finished run says and leaves: figures for `metrics.json`, and all files of the run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.io.citations import bibtex
from sciprob.solvers.base import Outcome, Status
from sciprob.solvers.runfolder import RunFolder, plain, write_json, write_text

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


def summarise(
    problem: Problem, solver: Any, posterior: Posterior, outcome: Outcome, diagnostics: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """The content of `metrics.json`; scores against the truth only where it is known."""
    figures = dict(diagnostics)
    metrics: dict[str, Any] = {
        "problem": problem.name,
        "solver": solver.name,
        "status": outcome.status.name.lower(),
        "advice": _advice(outcome.status, figures),
        "seed": seed,
        "steps": outcome.steps,
        "seconds": outcome.seconds,
        "solves": dict(outcome.solves),
        "network_calls": int(figures.pop("network_calls", 0)),
    }
    if problem.truth is not None:
        from sciprob.metrics.scores import score

        metrics |= score(posterior, problem.truth)
    metrics["diagnostics"] = figures
    return dict(plain(metrics))


def _advice(status: Status, figures: dict[str, Any]) -> str:
    """The status's advice, and the solver's own where it has some."""
    own = figures.pop("advice", "")
    return f"{status.value} {own}".strip()


def write_outputs(
    folder: RunFolder | None, problem: Problem, solver: Any, posterior: Posterior, *, figures: bool = True
) -> None:
    """Add the problem's own scores to `posterior.meta` and write all files of a finished run.

    `metrics.json` comes last, so that its presence means that all are there.
    """
    if folder is None:
        posterior.meta |= _report(problem, posterior, None)
        return
    posterior.meta |= _draw(folder, problem, posterior) if figures else _report(problem, posterior, None)
    scratch = folder.scratch("posterior")
    posterior.save(scratch)
    folder.replace_folder("posterior", scratch)
    _replace_file(folder, posterior, "posterior.nc", problem=problem)
    if hasattr(posterior.space, "mesh"):
        _replace_file(folder, posterior, "posterior.vtu", problem=problem)
    write_text(folder.path / "cite.bib", bibtex((*solver.citations, *problem.info.citations)))
    write_json(folder.path / "metrics.json", posterior.meta)
    folder.clear_scratch()


def _draw(folder: RunFolder, problem: Problem, posterior: Posterior) -> dict[str, Any]:
    """All figures, those of the problem's report too; its scores."""
    from sciprob.plot import plot_run

    figures = folder.scratch("figures")
    figures.mkdir()
    plot_run(problem, posterior, figures)
    scores = _report(problem, posterior, figures)
    folder.replace_folder("figures", figures)
    return scores


def _report(problem: Problem, posterior: Posterior, figures: Path | None) -> dict[str, Any]:
    return {} if problem.report is None else dict(plain(problem.report(problem, posterior, figures)))


def _replace_file(folder: RunFolder, posterior: Posterior, name: str, **options: Any) -> None:
    scratch = folder.scratch(name)
    posterior.write(scratch, **options)
    os.replace(scratch, folder.path / name)
