"""Error against band where both are too small to be seen beside the solution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciprob.plot.panels import to_numpy
from sciprob.plot.style import POSTERIOR, TRUTH, dress, legend_below, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def error_figure(x: Tensor, error: Tensor, std: Tensor, *, coordinate: str, title: str = "") -> Figure:
    """Size of the error of the mean along a line, and two standard deviations, on a logarithmic scale.

    Args:
        x: Coordinates, `(n,)`.
        error: Mean minus truth, `(n,)`.
        std: Posterior standard deviations, `(n,)`.
        coordinate: Name of x.
        title: Above the figure.
    """
    figure = new_figure(7.0, 3.8, title)
    axes = figure.subplots()
    tiny = torch.finfo(error.dtype).tiny
    axes.fill_between(to_numpy(x), 0, to_numpy(2 * std), color=POSTERIOR, alpha=0.18, linewidth=0, label="2 std")
    axes.plot(to_numpy(x), to_numpy(error.abs().clamp_min(tiny)), color=TRUTH, linewidth=0.8, label="error of the mean")
    axes.set_yscale("log")
    largest = float(torch.maximum(error.abs(), 2 * std).max())
    axes.set_ylim(1e-5 * largest, 2 * largest)
    dress(axes, "between the grid points too", coordinate, "error and band")
    legend_below(figure, axes)
    return figure
