"""Numbers and pictures of path problems."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.problems.grid_report import report_residuals

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


class PathReport:
    """Residuals; with a folder the path with its bands and data, `path.png`."""

    def __call__(self, problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
        """The numbers of `report_residuals`."""
        if folder is not None:
            from sciprob.plot.paths import path_figure
            from sciprob.plot.style import attempt, save

            attempt(folder / "path.png", lambda path: save(path_figure(problem, posterior), path))
        return dict(report_residuals(problem, posterior))
