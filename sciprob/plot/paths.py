"""A path in time with its bands, draws and data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sciprob.plot.panels import to_numpy
from sciprob.plot.style import DATA, MUTED, POSTERIOR, TRUTH, dress, legend, legend_below, new_figure, quantity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from sciprob.posteriors import Posterior

_DRAWS = 3
_MANY = 200  # data beyond which they are drawn without error bars
_SHOWN = 400  # last times that are drawn of long paths


def path_figure(problem: Any, posterior: Posterior) -> Figure:
    """Mean, 50 and 90 % bands, a few draws, data with two-sigma bars, and the truth where it is known.

    Of paths with more than 1000 times the last 400 are shown, where the forecast is.

    Args:
        problem: A path problem.
        posterior: On its `time` axis.
    """
    space = posterior.space
    times = space.coords["time"]
    shown = slice(len(times) - _SHOWN if len(times) > 1000 else 0, None)
    t = to_numpy(times)[shown]
    figure = new_figure(9.0, 4.2, problem.info.title or problem.name)
    axes = figure.subplots()
    for level, alpha in ((0.9, 0.16), (0.5, 0.28)):
        low, high = (to_numpy(bound)[shown] for bound in posterior.interval(level))
        axes.fill_between(t, low, high, color=POSTERIOR, alpha=alpha, linewidth=0, label=f"{level:.0%} band")
    generator = torch.Generator().manual_seed(int(posterior.meta.get("seed", 0)))
    draws = posterior.sample((_DRAWS,), generator=generator)
    for i, draw in enumerate(draws):
        label = "draws" if i == 0 else None
        axes.plot(t, to_numpy(draw)[shown], color=POSTERIOR, linewidth=0.5, alpha=0.6, label=label)
    axes.plot(t, to_numpy(posterior.mean)[shown], color=POSTERIOR, linewidth=1.4, label="mean")
    if problem.truth is not None:
        axes.plot(t, to_numpy(problem.truth)[shown], color=TRUTH, linewidth=0.9, label="truth")
    _draw_data(axes, problem, float(t[0]))
    dress(axes, x="time", y=quantity(space))
    legend_below(figure, axes)
    return figure


def _draw_data(axes: Any, problem: Any, first: float) -> None:
    at = to_numpy(problem.operator.codomain.coords["time"])
    inside = at >= first
    y, std = to_numpy(problem.observed), to_numpy(problem.likelihood.noise.std.expand(problem.observed.shape))
    if inside.sum() > _MANY:
        axes.plot(at[inside], y[inside], ".", color=DATA, markersize=2.5, label="data")
        return
    bars = {"fmt": ".", "color": DATA, "markersize": 5, "elinewidth": 0.8, "label": "data, two std"}
    axes.errorbar(at[inside], y[inside], 2 * std[inside], **bars)


def hurst_figure(figures: Mapping[str, Any]) -> Figure:
    """Relative likelihood of the Hurst index along the ridge of the other numbers, and the normal one of its curvature.

    Args:
        figures: Diagnostics of `kalman`: `hurst`, perhaps `hurst_std_error`, and `hurst_profile`.
    """
    h, gain = torch.tensor(figures["hurst_profile"], dtype=torch.float64).unbind(1)
    figure = new_figure(5.0, 3.6)
    axes = figure.subplots()
    axes.plot(to_numpy(h), to_numpy(gain.exp()), color=POSTERIOR, label="likelihood")
    std = figures.get("hurst_std_error")
    if std is not None:
        normal = (-((h - figures["hurst"]) / std).square() / 2).exp()
        axes.plot(to_numpy(h), to_numpy(normal), "--", color=MUTED, linewidth=1, label="normal, by curvature")
    axes.axvline(figures["hurst"], color=POSTERIOR, linewidth=0.7)
    spread = "" if std is None else f" \u00b1 {std:.2g}"
    dress(axes, f"Hurst index {figures['hurst']:.3f}{spread}", "H", "relative likelihood")
    legend(axes)
    return figure


def hurst_curve_figure(figures: Mapping[str, Any], model: Any) -> Figure:
    """H(t) through its estimated knots with 90 % intervals, and the truth behind simulated data.

    Args:
        figures: Diagnostics of `kalman` with `hurst_0`, `hurst_0_lower`, ...
        model: The `PathModel`.
    """
    knots = torch.linspace(0, model.horizon, model.hurst_knots, dtype=torch.float64)
    names = [f"hurst_{i}" for i in range(len(knots))]
    centre = [figures[name] for name in names]
    figure = new_figure(6.0, 3.6)
    axes = figure.subplots()
    if all(f"{name}_lower" in figures for name in names):
        low, high = ([figures[f"{name}_{end}"] for name in names] for end in ("lower", "upper"))
        axes.fill_between(to_numpy(knots), low, high, color=POSTERIOR, alpha=0.2, linewidth=0, label="90% interval")
    axes.plot(to_numpy(knots), centre, "o-", color=POSTERIOR, markersize=4, label="estimate")
    if model.hurst_truth is not None:
        t = torch.linspace(0, model.horizon, 200, dtype=torch.float64)
        axes.plot(to_numpy(t), to_numpy(model.hurst_truth(t)), color=TRUTH, linewidth=1, label="truth")
    dress(axes, "Hurst index", "time", "H(t)")
    axes.set_ylim(0, 1)
    legend(axes)
    return figure
