"""Numbers and figures of flow problems: residuals of the sensors, the flow at the posterior mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sciprob.spaces import FESpace, Mesh
from sciprob.spaces.mesh import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sciprob.engines.fenicsx_flow_space import FlowSpace
    from sciprob.operators.host import HostOperator
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


class FlowReport:
    """Standardised residuals at the posterior mean and, with a folder, `flow.png`.

    Args:
        flow: Unknown numbers to the flow.
        points: Sensors `(n, 2)`, drawn into the figure.
    """

    def __init__(self, flow: HostOperator, points: Tensor) -> None:
        self._flow, self._points = flow, points

    def __call__(self, problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
        """Residuals r = (y - G(mean)) / std.

        Returns:
            `sensors`: their number. `residual_rms` of all values: near 1 where the model fits.
            `largest_residual`: the r of largest size. `divergence`: of the flow at the mean, root mean square
            over the centres of the cells, relative to that of the gradient: how well the mesh resolves it.
        """
        with torch.no_grad():
            state = self._flow(posterior.mean)[-1]
            residual = (problem.observed - problem.operator(posterior.mean)) / problem.likelihood.noise.std
        space: FlowSpace = self._flow.codomain
        velocity = space.fields(state)["velocity"].detach().cpu().double().numpy()
        gradient = centre_gradients(space.velocity, velocity)
        if folder is not None:
            from sciprob.plot.style import save

            time = space.times[-1] if space.times is not None else 0.0
            figure = flow_figure(space, velocity, self._points.numpy(), f"Flow at the posterior mean, t = {time:g}")
            save(figure, folder / "flow.png")
        return {
            "sensors": len(self._points),
            "residual_rms": math.sqrt(float(residual.square().mean())),
            "largest_residual": float(residual.flatten()[int(residual.abs().argmax())]),
            "divergence": float(
                np.sqrt(np.mean((gradient[0, 0] + gradient[1, 1]) ** 2) / np.mean((gradient**2).sum((0, 1))))
            ),
        }


def centre_gradients(space: FESpace, fields: Floats) -> Floats:
    """Gradients of fields of degree 2 at the centres of the cells, `(c, n_nodes)` -> `(c, d, n_cells)`.

    With barycentric coordinates l the basis is l_i (2 l_i - 1) and 4 l_i l_j; all l are 1 / (d + 1) there.
    """
    from sciprob.engines.simplex import gradients
    from sciprob.spaces.mesh import local_edges

    mesh = space.mesh
    slopes = gradients(mesh.points, mesh.cells)  # (cells, d + 1, d)
    centre = 1.0 / (mesh.dim + 1)
    first, second = np.array(local_edges(mesh.dim)).T
    basis = np.concatenate([(4 * centre - 1) * slopes, 4 * centre * (slopes[:, first] + slopes[:, second])], axis=1)
    values: Floats = np.einsum("cnk,nkd->cdn", fields[:, space.cell_dofs], basis)
    return values


def flow_figure(space: FlowSpace, velocity: Floats, sensors: Floats, title: str) -> Figure:
    """Speed with streamlines and sensors, and the vorticity dv/dx - du/dy of a plane flow.

    Args:
        space: The flow.
        velocity: One state's, `(2, n_nodes)`.
        sensors: Places `(n, 2)`.
        title: Title of the figure.
    """
    from sciprob.plot.panels import draw_field
    from sciprob.plot.style import colour_bar, new_figure

    mesh = space.mesh
    lower, upper = mesh.points.min(axis=0), mesh.points.max(axis=0)
    wide = bool((upper - lower)[0] > 2 * (upper - lower)[1])
    figure = new_figure(9.0 if wide else 10.0, 5.0, title)
    above, below = figure.subplots(*((2, 1) if wide else (1, 2)))
    speed = draw_field(above, space.velocity, torch.from_numpy(np.hypot(*velocity)), "speed and streamlines")
    x, y, u, v = _raster(space.velocity, velocity)
    above.streamplot(x, y, u, v, color="white", linewidth=0.6, arrowsize=0.6, density=1.2)
    above.scatter(*sensors.T, s=14, facecolor="none", edgecolor="white", linewidth=0.8, zorder=4)
    gradient = centre_gradients(space.velocity, velocity)
    vorticity = gradient[1, 0] - gradient[0, 1]
    at_nodes = torch.from_numpy(_vertex_average(mesh, vorticity))
    limit = float(np.quantile(np.abs(vorticity), 0.98)) or 1.0  # corners of a moving lid would hide the rest
    curl = draw_field(below, space.pressure, at_nodes, "vorticity", cmap="coolwarm", vmin=-limit, vmax=limit)
    for axes in (above, below):
        axes.set_xlim(lower[0], upper[0])
        axes.set_ylim(lower[1], upper[1])
    colour_bar(figure, speed, [above], "speed")
    colour_bar(figure, curl, [below], "vorticity")
    return figure


def _vertex_average(mesh: Mesh, values: Floats) -> Floats:
    """Values of cells at the vertices, averaged with the areas as weights."""
    total, weight = np.zeros(len(mesh.points)), np.zeros(len(mesh.points))
    np.add.at(total, mesh.cells, (values * mesh.volumes)[:, None])
    np.add.at(weight, mesh.cells, mesh.volumes[:, None])
    average: Floats = total / weight
    return average


def _raster(space: FESpace, velocity: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Coordinates and velocity on a regular grid; NaN outside the mesh."""
    lower, upper = space.mesh.points.min(axis=0), space.mesh.points.max(axis=0)
    shape = np.maximum(20, 120 * (upper - lower) / (upper - lower).max()).astype(int)
    x, y = (np.linspace(a, b, n) for a, b, n in zip(lower, upper, shape, strict=True))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = space.mesh.locator.locate(points, 1e-9)[0] >= 0
    index, weights = space.interpolation(torch.from_numpy(points[inside]))
    values = np.full((2, len(points)), np.nan)
    values[:, inside] = (velocity[:, index.numpy()] * weights.numpy()).sum(-1)
    u, v = values.reshape(2, len(y), len(x))
    return x, y, u, v
