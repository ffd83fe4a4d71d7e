"""Figure of a design: what a sensor would tell at each place, and the places chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sciprob.plot.panels import to_numpy
from sciprob.plot.style import DATA, LABEL, POSTERIOR, SPREAD_MAP, TRUTH, colour_bar, dress, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def design_figure(
    points: Tensor, values: Tensor, chosen: Tensor, label: str, *, present: Tensor | None = None, title: str = ""
) -> Figure:
    """Values of all candidates as the first sensor, the chosen ones numbered in their order.

    Args:
        points: Places of the candidates, `(n, d)`; of three coordinates the first two are drawn.
        values: Value of each, `(n,)`.
        chosen: Places of the chosen ones, `(k, d)`, best first.
        label: What the values are.
        present: Places of sensors that are there already.
        title: Words above.
    """
    line = points.shape[1] == 1
    figure = new_figure(7.0, 3.6 if line else 5.4, title)
    axes = figure.subplots()
    x, best, heights = to_numpy(points), to_numpy(chosen), to_numpy(values)
    if line:
        order = np.argsort(x[:, 0], kind="stable")
        axes.plot(x[order, 0], heights[order], ".-", color=POSTERIOR, markersize=4, linewidth=1)
        at = best[:, 0], np.full(len(best), float(heights.max()) * 1.06)
        seen = None if present is None else (to_numpy(present)[:, 0], np.zeros(len(present)))
        dress(axes, "", "x", label)
    else:
        size = float(np.clip(4e4 / len(x), 14, 250))  # dots, since nothing is known between and beside the candidates
        mappable = axes.scatter(x[:, 0], x[:, 1], c=heights, s=size, cmap=SPREAD_MAP, vmin=0, linewidth=0)
        axes.set_aspect("equal")
        at = best[:, 0], best[:, 1]
        seen = None if present is None else tuple(to_numpy(present).T[:2])
        colour_bar(figure, mappable, [axes], label)
        dress(axes, "", "x", "y")
    if seen is not None:
        axes.plot(*seen, "o", markersize=4, color="white", markeredgecolor=DATA, markeredgewidth=0.8, label="present")
    axes.plot(*at, "o", markersize=13, color="white", markeredgecolor=TRUTH, label="chosen, best first")
    _number(axes, at)
    legend_below(figure, axes)
    return figure


def _number(axes: Any, at: Any) -> None:
    for number, place in enumerate(zip(*at, strict=True), start=1):
        axes.annotate(str(number), place, ha="center", va="center", fontsize=LABEL - 1, color=TRUTH, fontweight="bold")
