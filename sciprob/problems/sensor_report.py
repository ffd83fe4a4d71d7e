"""Numbers and a figure for problems with point sensors: does the model explain every sensor?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem

_SUSPICIOUS = 3.0  # standard deviations; one in 370 sensors by chance


def report_sensors(problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
    """Standardised residuals r = (y - G(mean)) / std at the posterior mean; with a folder, `residuals.png`.

    Returns:
        `sensors`: their number. `residual_rms`: root mean square of r, near or below 1 where the model
        fits. `largest_residual`: the r of largest size, and `worst_sensor` its place in the data, from 0.
    """
    with torch.no_grad():
        residual = (problem.observed - problem.operator(posterior.mean)) / problem.likelihood.noise.std
    worst = int(residual.abs().argmax())
    if folder is not None:
        from sciprob.plot.style import save

        save(residual_figure(problem, posterior, residual), folder / "residuals.png")
    return {
        "sensors": residual.numel(),
        "residual_rms": math.sqrt(float(residual.square().mean())),
        "largest_residual": float(residual[worst]),
        "worst_sensor": worst,
    }


def residual_figure(problem: Problem, posterior: Posterior, residual: Tensor) -> Figure:
    """Sensors over the posterior mean, coloured by their residuals; those beyond 3 std carry their number."""
    from sciprob.plot.panels import draw_field, to_numpy
    from sciprob.plot.style import TICK, colour_bar, new_figure, quantity

    figure = new_figure(6.4, 5.2, "Standardised residuals of the sensors")
    axes = figure.subplots()
    field = draw_field(axes, posterior.space, posterior.mean, "", cmap="Greys")
    x, y = (to_numpy(problem.operator.codomain.coords[axis]) for axis in "xy")
    r = to_numpy(residual)
    dots = axes.scatter(x, y, c=r, cmap="coolwarm", vmin=-3, vmax=3, edgecolors="black", linewidths=0.7, s=36, zorder=3)
    for i in range(len(r)):
        if abs(r[i]) > _SUSPICIOUS:
            axes.annotate(str(i), (x[i], y[i]), xytext=(5, 5), textcoords="offset points", fontsize=TICK)
    colour_bar(figure, dots, [axes], "(y - G(mean)) / std")
    colour_bar(figure, field, [axes], f"posterior mean of {quantity(posterior.space)}")
    return figure
