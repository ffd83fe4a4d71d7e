"""Mean, spread, truth and error of the unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciprob.plot.panels import abscissa, draw_field, draw_points, has_places, is_curve, is_list, to_numpy
from sciprob.plot.style import (
    FIELD_MAP,
    INK,
    POSTERIOR,
    SPREAD_MAP,
    TRUTH,
    colour_bar,
    dress,
    legend_below,
    new_figure,
    quantity,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciprob.posteriors import Posterior


def field_figure(
    posterior: Posterior,
    *,
    truth: Tensor | None = None,
    sensors: Mapping[str, Tensor] | None = None,
    title: str = "",
) -> Figure:
    """Posterior of a field at a glance.

    Fields in the plane: mean and std, and with a truth also truth (on the colour scale of the
    mean) and absolute error (on that of the std). Curves: mean with 50 % and 90 % bands and the
    truth. A few numbers: each with its intervals on an axis of its own.

    Args:
        posterior: Any posterior.
        truth: `(*space.shape)`.
        sensors: Coordinates x, y of sensors to mark (x alone on curves).
        title: Title of the figure.

    Raises:
        ShapeError: If the truth does not fit the space.
    """
    if truth is not None:
        posterior.space.batch_shape(truth, "truth")
    if is_list(posterior.space):
        return _list(posterior, truth, title)
    if is_curve(posterior.space):
        return _curve(posterior, truth, sensors, title)
    return _plane(posterior, truth, sensors, title)


def samples_figure(posterior: Posterior, *, generator: torch.Generator, count: int = 4, title: str = "") -> Figure:
    """A few draws of a field in the plane, on one colour scale: what is plausible, beyond marginals."""
    count = count if posterior.max_draws is None else min(count, posterior.max_draws)
    draws = posterior.ensemble(count, generator=generator).samples
    width, height = panel_size(posterior)
    figure = new_figure(width * count + 0.8, height + 0.2, title)
    panels = figure.subplots(1, count, squeeze=False)[0]
    norm = colour_range(*(to_numpy(draw) for draw in draws))
    for i, (axes, draw) in enumerate(zip(panels, draws, strict=True)):
        mappable = draw_field(axes, posterior.space, draw, f"draw {i + 1}", cmap=FIELD_MAP, norm=norm)
        if i:
            axes.set_ylabel("")
    colour_bar(figure, mappable, list(panels), quantity(posterior.space))
    return figure


def _plane(posterior: Posterior, truth: Tensor | None, sensors: Mapping[str, Tensor] | None, title: str) -> Figure:
    space, mean, std = posterior.space, posterior.mean, posterior.std
    rows = [[("posterior mean", mean)], [("posterior std", std)]]
    if truth is not None:
        rows[0].insert(0, ("truth", truth))
        rows[1].insert(0, ("|mean - truth|", (mean - truth).abs()))
    width, height = panel_size(posterior)
    stacked = truth is not None
    size = (2 * width + 1.2, 2 * height) if stacked else (2 * width + 2.0, height)
    figure = new_figure(*size, title)
    grid = figure.subplots(2, 2) if stacked else figure.subplots(1, 2).reshape(2, 1)
    norms = (
        colour_range(*(to_numpy(f) for _, f in rows[0])),
        colour_range(*(to_numpy(f) for _, f in rows[1]), zero=True),
    )
    labels = quantity(space), f"std of {quantity(space)}" if truth is None else f"error and std of {quantity(space)}"
    for panels, row, norm, cmap, label in zip(grid, rows, norms, (FIELD_MAP, SPREAD_MAP), labels, strict=True):
        for axes, (name, field) in zip(panels, row, strict=True):
            mappable = draw_field(axes, space, field, name, cmap=cmap, norm=norm)
            if sensors is not None and name.startswith("posterior"):
                draw_points(axes, sensors)
        colour_bar(figure, mappable, list(panels), label)
    return figure


def _curve(posterior: Posterior, truth: Tensor | None, sensors: Mapping[str, Tensor] | None, title: str) -> Figure:
    figure = new_figure(7.0, 3.8, title)
    axes = figure.subplots()
    x, name = abscissa(posterior.space)
    for level, alpha in ((0.9, 0.18), (0.5, 0.35)):
        low, high = (np.atleast_1d(to_numpy(end)) for end in posterior.interval(level))
        axes.fill_between(x, low, high, color=POSTERIOR, alpha=alpha, linewidth=0, label=f"{level:.0%} interval")
    marker = "o" if len(x) < 30 else ""
    axes.plot(x, np.atleast_1d(to_numpy(posterior.mean)), color=POSTERIOR, marker=marker, markersize=3, label="mean")
    if truth is not None:
        axes.plot(x, np.atleast_1d(to_numpy(truth)), "--", color=TRUTH, marker=marker, markersize=3, label="truth")
    if sensors is not None and name in sensors:
        bottom = axes.get_xaxis_transform()  # y in fractions of the panel
        axes.plot(to_numpy(sensors[name]), np.full(len(sensors[name]), 0.015), "|", color=INK, transform=bottom)
    dress(axes, "posterior", name, quantity(posterior.space))
    legend_below(figure, axes)
    return figure


def _list(posterior: Posterior, truth: Tensor | None, title: str) -> Figure:
    """One row per number, because their scales differ."""
    space = posterior.space
    figure = new_figure(7.0, 0.9 + 0.9 * space.size, title)
    rows = figure.subplots(space.size, 1, squeeze=False)[:, 0]
    mean = np.atleast_1d(to_numpy(posterior.mean))
    ends = {level: [np.atleast_1d(to_numpy(end)) for end in posterior.interval(level)] for level in (0.9, 0.5)}
    for i, axes in enumerate(rows):
        for (level, (low, high)), width in zip(ends.items(), (3, 8), strict=True):
            label = f"{level:.0%} interval"
            axes.plot([low[i], high[i]], [0, 0], color=POSTERIOR, alpha=0.4, linewidth=width, label=label)
        axes.plot(mean[i], 0, "o", color=POSTERIOR, label="mean")
        if truth is not None:
            axes.plot(np.atleast_1d(to_numpy(truth))[i], 0, "|", color=TRUTH, markersize=18, mew=2, label="truth")
        axes.set_yticks([0], [space.labels[i] if space.labels else quantity(space) if space.size == 1 else str(i)])
        axes.set_ylim(-1, 1)
        dress(axes)
    legend_below(figure, rows[0])
    return figure


def panel_size(posterior: Posterior) -> tuple[float, float]:
    """Width and height of a panel that suits the proportions of the domain."""
    space = posterior.space
    spans = []
    for axis in ("x", "y"):
        values = space.coords.get(axis)
        spans.append(float(values.max() - values.min()) if values is not None and len(values) > 1 else 1.0)
    plane = has_places(space) or len(space.shape) > 1
    ratio = float(np.clip(spans[1] / spans[0], 0.35, 2.0)) if plane and min(spans) > 0 else 1.0
    width = 3.6 if ratio < 1.3 else 2.8
    return width, width * ratio + 0.7


def colour_range(*fields: Any, zero: bool = False) -> Any:
    """One colour scale for all; the outermost 0.2 % do not stretch it."""
    from matplotlib.colors import Normalize

    values = np.concatenate([np.ravel(field) for field in fields])
    low, high = np.quantile(values, [0.002, 0.998]) if values.size > 1000 else (values.min(), values.max())
    low = 0.0 if zero else low
    return Normalize(low, high if high > low else low + 1.0)
