"""Scores of a solution between and beyond the points of the grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from sciprob.pde.functionals import AnyPoints, ScatteredPoints, TensorPoints
from sciprob.posteriors.process import ProcessPosterior
from sciprob.problems.collocation_operator import CollocationOperator
from sciprob.problems.grid_report import report_residuals

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem

_FINE = {1: 3001, 2: 301, 3: 61}  # points per coordinate, not aligned with usual grids
_LEVELS = (0.5, 0.8, 0.9, 0.95)
_SCORED = 3001  # points at which standard deviations are asked for


class CollocationReport:
    """Residuals of all rows and, for a known solution, error and coverage on a much finer grid.

    Args:
        exact: The solution at points, `(*points.shape)`; None where it is not known.
    """

    def __init__(self, exact: Callable[[AnyPoints], Tensor] | None = None) -> None:
        self._exact = exact

    def __call__(self, problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
        """The numbers: `fine_relative_error` in the L2 norm, `fine_coverage`, and those of `report_residuals`.

        With a folder and one coordinate also `error.png`.

        Off the grid, posteriors with a mean and std of their own at any point give them; others are interpolated by the
        kernels, and have no coverage there.
        """
        operator = cast(CollocationOperator, problem.operator)
        numbers = dict(report_residuals(problem, posterior, folder))
        own = problem.truth is not None and self._exact is not None
        if not own or not self._is_own(problem, operator):
            return numbers
        assert self._exact is not None
        points = fine_points(operator)
        truth = self._exact(points)
        mean, std = at_points(operator, posterior, points)
        numbers["fine_points"] = math.prod(points.shape)
        numbers["fine_relative_error"] = float((mean - truth).norm() / truth.norm())
        numbers["fine_largest_error"] = float((mean - truth).abs().max())
        if std is not None:
            numbers["fine_coverage"] = coverage(mean, std, truth)
            if folder is not None and len(points.lines) == 1:
                chosen = spread(mean.numel())
                _draw(problem, points.lines[0][chosen], (mean - truth)[chosen], std, folder)
        return numbers

    def _is_own(self, problem: Problem, operator: CollocationOperator) -> bool:
        """Whether the data are those of the exact solution, and not simulated ones."""
        assert self._exact is not None
        assert problem.truth is not None
        own = self._exact(operator.collocation.points()).to(problem.truth)
        return torch.equal(own, problem.truth)


def _draw(problem: Problem, x: Tensor, error: Tensor, std: Tensor, folder: Path) -> None:
    from sciprob.plot.errors import error_figure
    from sciprob.plot.style import attempt, save

    name = cast(CollocationOperator, problem.operator).collocation.coordinates[0]
    title = problem.info.title or problem.name
    attempt(
        folder / "error.png",
        lambda path: save(error_figure(x, error, std, coordinate=name, title=title), path),
    )


def fine_points(operator: CollocationOperator) -> TensorPoints:
    """A grid with at least twice the points of the operator's, and at least those of `_FINE`."""
    c = operator.collocation
    like = c.points().lines[0]
    least = _FINE[len(c.shape)]
    bounds = zip(c.lower, c.upper, c.shape, strict=True)
    lines = (torch.linspace(a, b, max(least, n), dtype=like.dtype, device=like.device) for a, b, n in bounds)
    return TensorPoints(tuple(lines))


def at_points(
    operator: CollocationOperator, posterior: Posterior, points: TensorPoints
) -> tuple[Tensor, Tensor | None]:
    """Mean at points and, where the posterior knows it off the grid, std at a subset spread over them (`spread`)."""
    if not isinstance(posterior, ProcessPosterior):
        return operator.field(posterior.mean, points), None
    scattered = torch.stack(list(points.columns(operator.collocation.coordinates).values()), dim=1)
    some = ScatteredPoints(scattered[spread(len(scattered))])
    return posterior.process.mean(points), posterior.scale * posterior.process.std(some)


def spread(n: int) -> slice:
    """About `_SCORED` of n points: every k-th, k odd, so that no line of an odd grid is skipped."""
    step = max(1, n // _SCORED)
    return slice(None, None, step + 1 - step % 2)


def coverage(mean: Tensor, std: Tensor, truth: Tensor) -> dict[str, float]:
    """Fractions of the truth inside central intervals, at the points of `std`."""
    chosen = spread(mean.numel())
    z = (truth.flatten()[chosen] - mean.flatten()[chosen]).abs() / std
    found = {}
    for level in _LEVELS:
        bound = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
        found[f"{level:g}"] = float((z <= bound).double().mean())
    return found
