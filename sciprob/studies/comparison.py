"""Several solvers on the same data, measured against one of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sciprob.config import to_mapping
from sciprob.errors import ConfigError, ConvergenceError, NonFiniteError, UnsupportedProblemError
from sciprob.random import Streams

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem

_DRAWS = 200


@dataclass(frozen=True)
class Comparison:
    """Posteriors of one problem by several solvers.

    Attributes:
        problem: The problem.
        referee: Label of the posterior to which the others are compared.
        posteriors: By label, in the order of the solvers; without those that do not support the problem.
        rows: One table of figures per solver, `reason` in those that do not support the problem or failed.
        settings: Of the solvers by label.
    """

    problem: Problem
    referee: str
    posteriors: Mapping[str, Posterior]
    rows: tuple[Mapping[str, Any], ...]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it before all solvers were through."""
        return any(row["status"] == "interrupted" for row in self.rows)


def compare(
    problem: Problem,
    solvers: Mapping[str, Any],
    *,
    referee: str | None = None,
    seed: int = 0,
    budget: str | float | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    overwrite: bool = False,
) -> Comparison:
    """Solve by each method and measure its error, coverage, distance to the referee's posterior, solves and time.

    Distances to the referee, over all entries of m: mean of |mean - mean_ref| / std_ref; mean of std / std_ref; and
    the sliced Wasserstein distance of 200 draws in units of std_ref, whose value for two sets of draws of the
    referee itself is given as its floor.

    Args:
        problem: A problem with data.
        solvers: Configured solvers by label.
        referee: Label of the solver to compare to; default the first that supports the problem.
        seed: Root of the randomness of each.
        budget: Largest time of each.
        out: Folder for one run folder per solver.
        device: As in `sciprob.solve`.
        progress: Show progress on stderr.
        overwrite: Replace runs that are there.

    Raises:
        ConfigError: If `referee` is none of the labels, or no solver supports the problem or comes to an end.
        UnsupportedProblemError: If the referee does not support the problem; its other errors are raised, too.
    """
    from sciprob.solvers.setup import check_capabilities

    if referee is not None and referee not in solvers:
        message = f"`referee` should be one of {', '.join(solvers)}, got `{referee}`."
        raise ConfigError(message)
    reasons: dict[str, str] = {}
    for label, solver in solvers.items():
        try:
            check_capabilities(solver, problem)
        except UnsupportedProblemError as error:
            if label == referee:
                raise
            reasons[label] = str(error)
            if progress:
                sys.stderr.write(f"{label} is left out: {error}\n")
    able = [label for label in solvers if label not in reasons]
    if not able:
        message = f"no solver supports `{problem.name}`: {' '.join(reasons.values())}"
        raise ConfigError(message)
    options = {"seed": seed, "budget": budget, "device": device, "progress": progress, "overwrite": overwrite}
    posteriors, failures = _solved(problem, {label: solvers[label] for label in able}, referee, out, options)
    if not posteriors:
        message = f"no solver came to an end on `{problem.name}`: {' '.join(failures.values())}"
        raise ConfigError(message)
    against = referee if referee in posteriors else next(iter(posteriors))
    without = {label: ("not supported", words) for label, words in reasons.items()}
    without |= {label: ("failed", words) for label, words in failures.items()}
    rows = [
        _row(label, posteriors[label], posteriors[against], seed)
        if label in posteriors
        else dict(zip(("solver", "status", "reason"), (label, *without[label]), strict=True))
        for label in solvers
        if label in {*posteriors, *without}
    ]
    settings = {label: to_mapping(solvers[label]) for label in able if is_dataclass(solvers[label])}
    return Comparison(problem, against, posteriors, tuple(rows), settings)


def _solved(
    problem: Problem,
    solvers: Mapping[str, Any],
    referee: str | None,
    out: str | Path | None,
    options: Mapping[str, Any],
) -> tuple[dict[str, Posterior], dict[str, str]]:
    """Posteriors, and what those said that failed; an interrupted one is the last."""
    from sciprob.solvers.driver import solve

    posteriors: dict[str, Posterior] = {}
    failures: dict[str, str] = {}
    for label, solver in solvers.items():
        folder = Path(out) / label if out is not None else None
        try:
            posteriors[label] = solve(problem, solver, out=folder, **options)
        except (ConvergenceError, NonFiniteError, UnsupportedProblemError) as error:
            if label == referee:
                raise
            failures[label] = str(error)  # the others go on
            continue
        if posteriors[label].meta["status"] == "interrupted":
            break
    return posteriors, failures


def _row(label: str, posterior: Posterior, referee: Posterior, seed: int) -> dict[str, Any]:
    meta = posterior.meta
    row = {"solver": label, "status": meta["status"], **_distances(posterior, referee, seed)}
    row |= {"seconds": meta["seconds"], "network_calls": meta.get("network_calls", 0)}
    row |= {name: meta["solves"].get(name, 0) for name in ("forward", "adjoint", "tangent")}
    if "crps" in meta:
        row |= {key: meta[key] for key in ("relative_error", "crps") if key in meta}
        row |= {f"coverage_{level}": share for level, share in meta["coverage"].items()}
    return row


def _distances(posterior: Posterior, referee: Posterior, seed: int) -> dict[str, float]:
    """Distances over the entries that the referee leaves open."""
    from sciprob.metrics.transport import sliced_wasserstein

    mean, std = referee.mean, referee.std
    open_ = std > 1e-9 * std.max()
    scale = torch.where(open_, std, torch.inf)
    streams = Streams(seed)
    if posterior is referee:
        # two sets of draws without a common one show how far equal posteriors seem apart
        both = referee.ensemble(_draws(referee, 2 * _DRAWS), generator=streams["draws"]).samples
        ours, theirs = both[::2], both[1::2]
    else:
        ours = posterior.ensemble(_draws(posterior), generator=streams["draws"]).samples.to(mean)
        theirs = referee.ensemble(_draws(referee), generator=streams["draws of the referee"]).samples
    distance = sliced_wasserstein((ours - mean) / scale, (theirs - mean) / scale, generator=streams["directions"])
    return {
        "mean_difference": float(((posterior.mean.to(mean) - mean).abs() / std)[open_].mean()),
        "std_ratio": float((posterior.std.to(std) / std)[open_].mean()),
        "sliced_wasserstein": distance,
    }


def _draws(posterior: Posterior, most: int = _DRAWS) -> int:
    return most if posterior.max_draws is None else min(most, posterior.max_draws)
