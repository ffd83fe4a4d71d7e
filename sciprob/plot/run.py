"""All figures of a finished run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.plot.chains import chains_figure
from sciprob.plot.data import Predictive, data_figure, intervals_figure
from sciprob.plot.fields import field_figure, samples_figure
from sciprob.plot.marginals import marginals_figure
from sciprob.plot.panels import is_curve
from sciprob.plot.style import attempt, save
from sciprob.posteriors import Ensemble
from sciprob.spaces import Space

if TYPE_CHECKING:
    from sciprob.posteriors import Posterior


def plot_run(problem: Any, posterior: Posterior, folder: str | Path) -> list[Path]:
    """Write the figures of a run as PNG files.

    `posterior.png` (mean, std, and truth and error where the truth is known), `samples.png`,
    `marginals.png` (densities at sensors, or at selected entries), and, where there are data of
    one space, `data_misfit.png` and `predictive.png`; for Markov chains also `chains.png`. A figure
    that cannot be drawn is left out with a warning.

    Args:
        problem: The `Problem`.
        posterior: Its posterior.
        folder: Where to write; made if it is not there.

    Returns:
        Paths of the files written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    title = problem.info.title or problem.name
    truth = problem.truth
    generator = torch.Generator().manual_seed(int(posterior.meta.get("seed", 0)))
    points = _sensors(problem, posterior)
    sensors = None if points is None else {axis: points[:, i] for i, axis in enumerate("xyz"[: points.shape[1]])}
    draw: dict[str, Callable[[], Any]] = {
        "posterior": lambda: field_figure(posterior, truth=truth, sensors=sensors, title=title),
        "marginals": lambda: marginals_figure(posterior, truth=truth, points=points, title=title),
    }
    if not is_curve(posterior.space):
        draw["samples"] = lambda: samples_figure(posterior, generator=generator, title=title)
    if problem.data is not None and isinstance(problem.operator.codomain, Space):
        predictive = cache(lambda: Predictive.of(problem, posterior, generator=generator))
        draw["data_misfit"] = lambda: data_figure(predictive(), title=title)
        draw["predictive"] = lambda: intervals_figure(predictive(), title=title)
    if isinstance(posterior, Ensemble) and posterior.chains is not None:
        draw["chains"] = lambda: chains_figure(posterior, title=title)
    paths = []
    for name, figure in draw.items():
        paths += attempt(folder / f"{name}.png", lambda path, figure=figure: save(figure(), path))  # type: ignore[misc]
    return paths


def _sensors(problem: Any, posterior: Posterior) -> Tensor | None:
    """Places `(n, d)` of point data in the domain of the unknown, if the data are of that kind."""
    codomain, domain = problem.operator.codomain, posterior.space
    if not isinstance(codomain, Space) or len(codomain.shape) == 0:
        return None
    axes = [axis for axis in "xyz" if axis in domain.coords]
    if not axes or any(axis not in codomain.coords for axis in axes):
        return None
    columns = [codomain.coords[axis] for axis in axes]
    if any(len(column) != codomain.shape[-1] for column in columns):
        return None
    return torch.stack(columns, dim=-1).to(posterior.mean)
