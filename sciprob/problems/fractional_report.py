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
    """Residuals; with a folder the path with its bands and data, `path.png`, and what is known of H, `hurst.png`."""

    def __call__(self, problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
        """The numbers of `report_residuals`."""
        if folder is not None:
            from sciprob.plot.paths import hurst_curve_figure, hurst_figure, path_figure
            from sciprob.plot.style import attempt, save

            attempt(folder / "path.png", lambda path: save(path_figure(problem, posterior), path))
            figures = posterior.meta.get("diagnostics", {})
            if figures.get("hurst_profile"):
                attempt(folder / "hurst.png", lambda path: save(hurst_figure(figures), path))
            knots = [name for name in figures if name.startswith("hurst_") and name.removeprefix("hurst_").isdigit()]
            if knots:
                model = problem.prior.model
                attempt(folder / "hurst.png", lambda path: save(hurst_curve_figure(figures, model), path))
        return dict(report_residuals(problem, posterior))
