"""Marginal densities of the unknown at single places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciprob.plot.panels import Floats, to_numpy
from sciprob.plot.style import POSTERIOR, TRUTH, dress, legend_below, new_figure, quantity
from sciprob.posteriors import Ensemble
from sciprob.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciprob.posteriors import Posterior


def marginals_figure(
    posterior: Posterior,
    *,
    truth: Tensor | None = None,
    points: Tensor | None = None,
    most: int = 6,
    title: str = "",
) -> Figure:
    """Posterior densities of single values, with mean, 90 % interval and truth.

    Args:
        posterior: Any posterior.
        truth: `(*space.shape)`.
        points: Places `(n, d)`, for example of sensors; default entries of the space, evenly
            spread over the range of the posterior std.
        most: Largest number of panels; more points are thinned evenly.
        title: Title of the figure.

    Raises:
        DataError: If a point lies outside the domain.
    """
    if points is not None:
        chosen = points[evenly(len(points), most)]
        marginal = posterior.at(chosen)
        exact = None if truth is None else _interpolate(posterior.space, truth, chosen)
        names = [_coordinates(point) for point in chosen.tolist()]
        index = torch.arange(len(chosen))
    else:
        marginal = posterior
        order = posterior.std.flatten().cpu().argsort()
        index = order[evenly(len(order), most)]
        exact = None if truth is None else truth.flatten().cpu()[index]
        names = [place(posterior.space, int(i)) for i in index]
    columns = min(3, len(index))
    rows = -(-len(index) // columns)
    figure = new_figure(3.1 * columns, 2.3 * rows + 0.3, title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    _densities(panels, marginal, index)
    for i, (axes, name) in enumerate(zip(panels, names, strict=False)):
        if exact is not None:
            axes.axvline(float(exact[i]), color=TRUTH, linestyle="--", linewidth=1.4, label="truth")
        last_row = i >= len(index) - columns
        dress(axes, f"at {name}", quantity(posterior.space) if last_row else "", "density" if i % columns == 0 else "")
        axes.set_ylim(bottom=0)
    for axes in panels[len(index) :]:
        axes.set_axis_off()
    legend_below(figure, panels[0])
    return figure


def _densities(panels: Any, posterior: Posterior, entries: Tensor) -> None:
    """Density, mean and interval of each entry.

    Members are drawn as a histogram; other posteriors by phi(z) dz/dq along the quantile function
    q(Phi(z)), which is exact for Gaussians and their transforms.
    """
    low, high = (_pick(end, entries) for end in posterior.interval(0.9))
    mean = _pick(posterior.mean, entries)
    z = torch.linspace(-4, 4, 161, dtype=torch.float64)
    normal = np.exp(-(to_numpy(z) ** 2) / 2) / np.sqrt(2 * np.pi)
    members = posterior if isinstance(posterior, Ensemble) else None
    if members is None:  # one level after the other, because fields can be large
        curves = np.stack([_pick(posterior.quantile(float(torch.special.ndtr(level))), entries) for level in z])
    for i, axes in enumerate(panels[: len(entries)]):
        if members is not None:
            values = to_numpy(members.samples.flatten(1)[:, int(entries[i])])
            bins = int(np.clip(2 * len(values) ** (1 / 3), 8, 40))
            style = {"histtype": "stepfilled", "alpha": 0.35, "color": POSTERIOR, "density": True}
            axes.hist(values, bins=bins, weights=to_numpy(members.weights), **style, label="posterior")
        else:
            q = curves[:, i]
            height = normal / np.gradient(q, to_numpy(z)).clip(1e-300)
            axes.fill_between(q, height, color=POSTERIOR, alpha=0.35, linewidth=0, label="posterior")
            axes.plot(q, height, color=POSTERIOR, linewidth=1.2)
        axes.axvline(mean[i], color=POSTERIOR, linewidth=1.4, label="mean")
        axes.axvspan(low[i], high[i], color=POSTERIOR, alpha=0.08, linewidth=0, label="90% interval")


def _pick(field: Tensor, entries: Tensor) -> Floats:
    """Single entries of a field."""
    return to_numpy(field.flatten()[entries.to(field.device)])


def evenly(n: int, most: int) -> Tensor:
    """At most `most` of the numbers 0..n-1, both ends included."""
    chosen: Tensor = torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long().unique()
    return chosen


def _interpolate(space: Space, field: Tensor, points: Tensor) -> Tensor:
    index, weights = space.interpolation(points)
    values: Tensor = (field.flatten()[index] * weights.to(field.dtype)).sum(-1)
    return values.cpu()


def _coordinates(point: list[float]) -> str:
    words = [f"{value:.3g}" for value in point]
    return f"x = {words[0]}" if len(words) == 1 else f"({', '.join(words)})"


def place(space: Space, entry: int) -> str:
    """Where an entry is: coordinates where the space has them, else its indices."""
    if space.labels:
        return space.labels[entry]
    if len(space.shape) == 1 and "x" in space.coords:
        return _coordinates([float(space.coords[axis][entry]) for axis in "xyz" if axis in space.coords])
    where = np.unravel_index(entry, space.shape) if space.shape else ()
    words = []
    for name, i in zip(space.dims, where, strict=True):
        known = name in space.coords
        words.append(f"{name} = {float(space.coords[name][i]):.3g}" if known else f"{name} = {int(i)}")
    return ", ".join(words)
