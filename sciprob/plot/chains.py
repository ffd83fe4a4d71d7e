"""Markov chains: traces and ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciprob.plot.marginals import evenly, place
from sciprob.plot.panels import to_numpy
from sciprob.plot.style import CHAINS, INK, dress, new_figure, quantity
from sciprob.posteriors import Ensemble

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def chains_figure(posterior: Ensemble, *, most: int = 4, title: str = "") -> Figure:
    """Trace and rank plots of a few entries, evenly spread over the range of the posterior std.

    Ranks are those of all draws together, as a histogram for each chain; chains that explore the
    same distribution have flat histograms.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner, Bayesian Analysis 16 (2021).

    Raises:
        ConfigError: If the ensemble is not made of chains.
    """
    from sciprob.errors import ConfigError

    if posterior.chains is None:
        message = "trace and rank plots need Markov chains, this ensemble has independent members."
        raise ConfigError(message)
    draws = posterior.by_chain().flatten(2).cpu()
    order = posterior.std.flatten().cpu().argsort()
    entries = order[evenly(len(order), most)].tolist()
    figure = new_figure(9.0, 1.9 * len(entries) + 0.5, title)
    panels = figure.subplots(len(entries), 2, squeeze=False, gridspec_kw={"width_ratios": [2, 1]})
    for row, entry in enumerate(entries):
        last = row == len(entries) - 1
        name = quantity(posterior.space)
        _trace(panels[row, 0], draws[..., entry])
        dress(panels[row, 0], f"at {place(posterior.space, entry)}", "draw" if last else "", name)
        _ranks(panels[row, 1], draws[..., entry])
        dress(panels[row, 1], "ranks" if row == 0 else "", "rank of the draw" if last else "", "draws")
    return figure


def _trace(axes: Any, draws: Tensor) -> None:
    step = max(1, draws.shape[1] // 2000)
    for chain, values in enumerate(to_numpy(draws)):
        x = np.arange(len(values))[::step]
        colour = CHAINS[chain % len(CHAINS)]
        axes.plot(x, values[::step], color=colour, linewidth=0.6, alpha=0.8)


def _ranks(axes: Any, draws: Tensor) -> None:
    chains, n = draws.shape
    ranks = to_numpy(draws.flatten().argsort().argsort().reshape(chains, n).to(torch.float64))
    bins = np.linspace(0, chains * n, min(20, max(4, n // 10)) + 1)
    for chain, values in enumerate(ranks):
        counts, _ = np.histogram(values, bins)
        colour = CHAINS[chain % len(CHAINS)]
        axes.stairs(counts, bins, color=colour, linewidth=1.3, baseline=None)
    axes.axhline(n / (len(bins) - 1), color=INK, linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0)
