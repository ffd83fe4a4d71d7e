"""Numbers and pictures of video problems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sciprob.problems.grid_report import report_residuals

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


class VideoReport:
    """Residuals, and the error of the mean in seen frames and in those to come as a ratio of peak to noise.

    With a folder also `frames.png`, `video.gif`, and `hurst.png`, how H was learned.
    """

    def __call__(self, problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
        """The numbers of `report_residuals`, `psnr_seen` and `psnr_ahead` in dB (brightness 1), with a known truth."""
        numbers = dict(report_residuals(problem, posterior))
        seen = problem.operator.codomain.shape[0]
        if problem.truth is not None:
            error = (posterior.mean - problem.truth).square()
            numbers["psnr_seen"] = _decibel(error[:seen])
            if len(error) > seen:
                numbers["psnr_ahead"] = _decibel(error[seen:])
        if folder is not None:
            self._draw(problem, posterior, folder)
        return numbers

    def _draw(self, problem: Problem, posterior: Posterior, folder: Path) -> None:
        from sciprob.plot.animation import animate
        from sciprob.plot.style import attempt, save
        from sciprob.plot.video import frames_figure, hurst_trace_figure

        title = problem.info.title or problem.name
        attempt(folder / "frames.png", lambda path: save(frames_figure(problem, posterior), path))
        attempt(folder / "video.gif", lambda path: animate(posterior, path, truth=problem.truth, title=title))
        trace = posterior.meta.get("diagnostics", {}).get("hurst_trace")
        if trace:
            attempt(folder / "hurst.png", lambda path: save(hurst_trace_figure(trace), path))


def _decibel(error: Tensor) -> float:
    return -10 * math.log10(max(float(error.mean()), 1e-30))
