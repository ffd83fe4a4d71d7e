"""Numbers and pictures of problems on grids: residuals, and the posterior of the trajectory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.operators import ForwardOperator

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem

_SUSPICIOUS = 3.0  # standard deviations; one in 370 by chance


def report_residuals(problem: Problem, posterior: Posterior, folder: Path | None = None) -> Mapping[str, Any]:  # noqa: ARG001
    """Standardised residuals r = (y - G(mean)) / std at the posterior mean; no figure of their own.

    Returns:
        `measurements`: their number. `residual_rms`: root mean square of r, near or below 1 where the model
        fits. `largest_residual`: the r of largest size. `suspicious`: how many are beyond 3 standard deviations.
    """
    with torch.no_grad():
        residual = ((problem.observed - problem.operator(posterior.mean)) / problem.likelihood.noise.std).flatten()
    return {
        "measurements": residual.numel(),
        "residual_rms": math.sqrt(float(residual.square().mean())),
        "largest_residual": float(residual[int(residual.abs().argmax())]),
        "suspicious": int((residual.abs() > _SUSPICIOUS).sum()),
    }


class TrajectoryReport:
    """Residuals, and the posterior of the whole trajectory in numbers, as figure and as animation.

    Args:
        frames: Map from the unknown to the trajectory to show.
        sensors: Coordinates of the data, by name, for the figure.
        draws: Posterior draws that are sent through `frames`.
    """

    def __init__(self, frames: ForwardOperator, sensors: Mapping[str, Tensor], draws: int = 60) -> None:
        self._frames, self._sensors, self._draws = frames, sensors, draws

    def __call__(self, problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
        """Numbers of the residuals and, with a known truth, error and coverage over the trajectory.

        With a folder also `trajectory.png` and `trajectory.gif`.
        """
        from sciprob.metrics.scores import coverage, relative_error

        count = self._draws if posterior.max_draws is None else min(self._draws, posterior.max_draws)
        generator = torch.Generator().manual_seed(int(posterior.meta.get("seed", 0)))
        frames = self._frames.to(problem.observed.device)
        with torch.no_grad():
            moved = posterior.ensemble(count, generator=generator).push(frames)
            truth = None if problem.truth is None else frames(problem.truth)
        numbers = dict(report_residuals(problem, posterior))
        if truth is not None:
            numbers["trajectory_relative_error"] = relative_error(moved.mean, truth)
            numbers["trajectory_coverage"] = coverage(moved, truth)
        if folder is not None:
            self._draw(problem, moved, truth, folder)
        return numbers

    def _draw(self, problem: Problem, moved: Posterior, truth: Tensor | None, folder: Path) -> None:
        from sciprob.plot.animation import animate
        from sciprob.plot.style import attempt, save
        from sciprob.plot.trajectory import trajectory_figure

        title = problem.info.title or problem.name
        attempt(
            folder / "trajectory.png",
            lambda path: save(trajectory_figure(moved, truth=truth, sensors=self._sensors, title=title), path),
        )
        attempt(folder / "trajectory.gif", lambda path: animate(moved, path, truth=truth, title=title))
