"""Figure of a calibration: where ranks depart from uniform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciprob.metrics.ranks import uniform_band
from sciprob.plot.style import DATA, MUTED, POSTERIOR, dress, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 4


def ranks_figure(ranks: Mapping[str, Tensor], draws: int, title: str = "") -> Figure:
    """Empirical distribution of the ranks of each quantity minus the uniform one, with simultaneous 95 % bands.

    A curve that leaves the band speaks against calibration: above on the left and below on the right for
    intervals that are too narrow, the reverse for too wide ones, one-sided for a bias.

    Args:
        ranks: By quantity, `(simulations,)` each, from 0 to `draws`.
        draws: Posterior draws per simulation.
        title: Words above.
    """
    names = list(ranks)
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(2.6 * columns, 2.2 * rows + 0.5, title)
    levels = torch.arange(1, draws + 1, dtype=torch.float64) / (draws + 1)
    for number, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, number + 1)
        r = ranks[name]
        low, high = uniform_band(len(r), draws)
        share = (r[None, :] < torch.arange(1, draws + 1)[:, None]).double().mean(1)
        axes.fill_between(levels, low - levels, high - levels, color=POSTERIOR, alpha=0.18, linewidth=0)
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        axes.step(levels, share - levels, where="mid", color=DATA, linewidth=1.2)
        first, last = number % columns == 0, number >= len(names) - columns
        dress(axes, name, "rank of the truth" if last else "", "ECDF - uniform" if first else "")
    return figure
