"""Numbers and a figure for problems with point sensors on a mesh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.spaces import FESpace

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


def report_sensors(problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
    """Standardised residuals of the posterior mean; with a folder, `sensors.png`.

    Returns:
        `sensors`: their number. `residual_rms`: root mean square of (y - G(mean)) / std of the noise, near 1
        where the model fits, above where it cannot explain the data. `largest_residual` and the
        `worst_sensor` it belongs to (from 0, in the order of the data).
    """
    with torch.no_grad():
        residual = (problem.observed - problem.operator(posterior.mean)) / problem.likelihood.noise.std
    worst = int(residual.abs().argmax())
    if folder is not None:
        draw_sensors(problem, posterior, residual.cpu(), folder / "sensors.png")
    return {
        "sensors": residual.numel(),
        "residual_rms": math.sqrt(float(residual.square().mean())),
        "largest_residual": float(residual[worst]),
        "worst_sensor": worst,
    }


def draw_sensors(problem: Problem, posterior: Posterior, residual: Tensor, path: Path) -> None:
    """Posterior mean and std with the sensors on top, coloured by their standardised residuals; 2-D only."""
    from matplotlib.figure import Figure  # not pyplot: no global state, no window

    space, coords = posterior.space, problem.operator.codomain.coords
    if not isinstance(space, FESpace) or space.mesh.dim != 2:
        return
    x, y = space.mesh.points.T
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, values, title in zip(panels, (posterior.mean, posterior.std), ("mean", "std"), strict=True):
        field = axes.tripcolor(x, y, space.mesh.cells, values.detach().cpu().numpy(), shading="gouraud")
        figure.colorbar(field, ax=axes, label=f"{title} of {space.name}")
        style = {"cmap": "coolwarm", "vmin": -3, "vmax": 3, "edgecolors": "black", "linewidths": 0.6, "s": 28}
        dots = axes.scatter(coords["x"], coords["y"], c=residual, **style)
        axes.set(aspect="equal", xlabel="x", ylabel="y", title=f"posterior {title}")
    figure.colorbar(dots, ax=panels, label="(y - G(mean)) / std of the noise", extend="both")
    figure.savefig(path, dpi=150)
