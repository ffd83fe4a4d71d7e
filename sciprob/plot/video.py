"""Frames of a video with what was seen, and how its Hurst index was learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sciprob.plot.panels import to_numpy
from sciprob.plot.style import FIELD_MAP, LABEL, MUTED, POSTERIOR, SPREAD_MAP, TITLE, dress, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from sciprob.posteriors import Posterior

_COLUMNS = 10


def frames_figure(problem: Any, posterior: Posterior) -> Figure:
    """Rows of frames: truth, data, mean, std, and two draws; frames to come have no data.

    Args:
        problem: A video problem.
        posterior: On its space.
    """
    count, seen = posterior.space.shape[0], problem.operator.codomain.shape[0]
    chosen = torch.linspace(0, count - 1, min(_COLUMNS, count)).round().long().tolist()
    draws = posterior.sample((2,), generator=torch.Generator().manual_seed(int(posterior.meta.get("seed", 0))))
    rows = [("data", problem.observed), ("mean", posterior.mean), ("std", posterior.std)]
    rows += [(f"draw {i + 1}", draw) for i, draw in enumerate(draws)]
    if problem.truth is not None:
        rows.insert(0, ("truth", problem.truth))
    figure = new_figure(0.95 * len(chosen) + 0.8, 1.0 * len(rows) + 0.6, problem.info.title or problem.name)
    times = posterior.space.coords["time"]
    for panels, (name, video) in zip(figure.subplots(len(rows), len(chosen), squeeze=False), rows, strict=True):
        for axes, i in zip(panels, chosen, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            if i < len(video):
                spread = name == "std"
                scale = {"cmap": SPREAD_MAP, "vmax": 0.5} if spread else {"cmap": FIELD_MAP, "vmax": 1.0}
                axes.imshow(to_numpy(video[i]), origin="lower", vmin=0.0, interpolation="nearest", **scale)
            else:
                axes.set_axis_off()
            if name == rows[0][0]:
                ahead = "" if i < seen else "\nahead"
                axes.set_title(f"t = {float(times[i]):.3g}{ahead}", fontsize=LABEL, color=MUTED if ahead else "black")
        panels[0].set_ylabel(name, fontsize=TITLE)
    return figure


def hurst_trace_figure(trace: Sequence[Sequence[float]]) -> Figure:
    """H by training step.

    Args:
        trace: Pairs of step and H.
    """
    step, hurst = torch.tensor(trace, dtype=torch.float64).unbind(1)
    figure = new_figure(5.0, 3.4)
    axes = figure.subplots()
    axes.plot(to_numpy(step), to_numpy(hurst), color=POSTERIOR)
    axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_ylim(0, 1)
    dress(axes, f"Hurst index, {float(hurst[-1]):.3f} in the end", "training step", "H")
    return figure
