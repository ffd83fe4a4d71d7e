"""Posteriors of several solvers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sciprob.plot.fields import colour_range, panel_size
from sciprob.plot.panels import abscissa, draw_field, is_curve, is_list, to_numpy
from sciprob.plot.style import (
    CHAINS,
    FIELD_MAP,
    INK,
    MUTED,
    SPREAD_MAP,
    TICK,
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

_WIDE = 20  # ratio of the largest and smallest value from which bars need a logarithmic axis


def comparison_figure(posteriors: Mapping[str, Posterior], truth: Tensor | None = None) -> Figure:
    """Mean and std of each posterior on common scales; curves and numbers with their 90 % intervals.

    Args:
        posteriors: By label, all on one space.
        truth: `(*space.shape)`.
    """
    space = next(iter(posteriors.values())).space
    if is_list(space):
        return _numbers(posteriors, truth)
    return _curves(posteriors, truth) if is_curve(space) else _planes(posteriors, truth)


def scores_figure(rows: Sequence[Mapping[str, Any]], referee: str | None = None) -> Figure:
    """Bars of the scores that the rows have: error, coverage, distance to the referee, solves, seconds.

    Args:
        rows: One table of figures per solver; those without a result are left out.
        referee: Label of the row whose bars are grey.
    """
    wanted = {
        "relative_error": "relative error",
        "coverage_0.9": "coverage of 90 % intervals",
        "sliced_wasserstein": "distance to the referee",
        "std_ratio": "std / std of the referee",
        "solves": "forward + adjoint + tangent",
        "seconds": "seconds",
    }
    table = [{**row, "solves": sum(row.get(k, 0) for k in ("forward", "adjoint", "tangent"))} for row in rows]
    table = [row for row in table if "seconds" in row]
    names = [name for name in wanted if any(row.get(name) for row in table)]
    figure = new_figure(9.0, 0.7 + (0.5 + 0.28 * len(table)) * -(-len(names) // 3))
    grid = figure.subplots(-(-len(names) // 3), min(3, len(names)), squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    labels = [str(row["solver"]) for row in table]
    for number, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        _bars(axes, [float(row.get(name) or 0) for row in table], [label == referee for label in labels], name)
        axes.set_yticks(range(len(table)), labels if number % 3 == 0 else [""] * len(table))
        dress(axes, wanted[name])
    return figure


def _bars(axes: Any, values: list[float], grey: list[bool], name: str) -> None:
    """One bar per solver with its value beside it; a red line where it should end."""
    bars = axes.barh(
        range(len(values)), values, color=[MUTED if is_grey else CHAINS[0] for is_grey in grey], height=0.6
    )
    axes.bar_label(bars, [_plain(value) for value in values], padding=3, fontsize=TICK, color=INK)
    axes.invert_yaxis()
    target = {"coverage_0.9": 0.9, "std_ratio": 1.0}.get(name)
    if target is not None:
        axes.axvline(target, color=TRUTH, linewidth=1)
    if name in ("solves", "seconds") and min(values) > 0 and max(values) > _WIDE * min(values):
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 3, max(values) * 8)  # room for the numbers
        axes.xaxis.set_minor_formatter("")
    else:
        axes.set_xlim(0, 1.25 * max(*values, target or 0) or 1)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _planes(posteriors: Mapping[str, Posterior], truth: Tensor | None) -> Figure:
    first = next(iter(posteriors.values()))
    width, height = panel_size(first)
    columns = len(posteriors) + (truth is not None)
    scale = min(1.0, 3.0 / columns + 0.3)
    figure = new_figure(scale * width * columns + 1.0, scale * 2 * height)
    grid = figure.subplots(2, columns, squeeze=False)
    means = {label: p.mean for label, p in posteriors.items()}
    stds = {label: p.std for label, p in posteriors.items()}
    shift = 0
    if truth is not None:
        means, shift = {"truth": truth, **means}, 1
        grid[1, 0].set_visible(False)
    for row, fields, cmap, word in ((0, means, FIELD_MAP, ""), (1, stds, SPREAD_MAP, "std of ")):
        panels = list(grid[row, shift * row :])
        norm = colour_range(*(to_numpy(field) for field in fields.values()), zero=bool(row))
        for axes, (label, field) in zip(panels, fields.items(), strict=True):
            title = label if label == "truth" else f"{'std' if row else 'mean'}: {label}"
            mappable = draw_field(axes, first.space, field, title, cmap=cmap, norm=norm)
            if axes is not panels[0]:
                axes.set_ylabel("")
        colour_bar(figure, mappable, panels, f"{word}{quantity(first.space)}")
    return figure


def _curves(posteriors: Mapping[str, Posterior], truth: Tensor | None) -> Figure:
    first = next(iter(posteriors.values()))
    figure = new_figure(8.0, 4.2)
    axes = figure.subplots()
    x, name = abscissa(first.space)
    for (label, posterior), colour in zip(posteriors.items(), _colours(len(posteriors)), strict=True):
        low, high = (np.atleast_1d(to_numpy(end)) for end in posterior.interval(0.9))
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            x, np.stack([low, high], 1), color=colour, linewidth=0.6
        )  # bands that lie on one another stay visible
        axes.plot(x, np.atleast_1d(to_numpy(posterior.mean)), color=colour, linewidth=1.3, label=label)
    if truth is not None:
        axes.plot(x, np.atleast_1d(to_numpy(truth)), "--", color=TRUTH, label="truth")
    dress(axes, "means and 90 % intervals", name, quantity(first.space))
    legend_below(figure, axes)
    return figure


def _numbers(posteriors: Mapping[str, Posterior], truth: Tensor | None) -> Figure:
    space = next(iter(posteriors.values())).space
    figure = new_figure(8.0, 0.6 + space.size * (0.4 + 0.25 * len(posteriors)))
    rows = figure.subplots(space.size, 1, squeeze=False)[:, 0]
    for i, axes in enumerate(rows):
        for place, posterior in enumerate(posteriors.values()):
            low, high = (float(np.atleast_1d(to_numpy(end))[i]) for end in posterior.interval(0.9))
            axes.plot([low, high], [place, place], color=CHAINS[0], linewidth=3, alpha=0.5)
            axes.plot(float(np.atleast_1d(to_numpy(posterior.mean))[i]), place, "o", color=CHAINS[0])
            axes.axhline(place, color=MUTED, linewidth=0.3, zorder=0)
        if truth is not None:
            axes.axvline(float(np.atleast_1d(to_numpy(truth))[i]), color=TRUTH, linewidth=1.2)
        axes.set_yticks(range(len(posteriors)), list(posteriors))
        axes.invert_yaxis()
        dress(axes, space.labels[i] if space.labels else quantity(space))
    return figure


def _colours(count: int) -> list[str]:
    return [CHAINS[i % len(CHAINS)] for i in range(count)]
