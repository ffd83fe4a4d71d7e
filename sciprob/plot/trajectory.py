"""A field that moves: what was known of it at all times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.plot.panels import draw_field, to_numpy
from sciprob.plot.style import DATA, FIELD_MAP, SPREAD_MAP, colour_bar, new_figure, quantity
from sciprob.spaces import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

    from sciprob.posteriors import Posterior

_COLUMNS = 4


def trajectory_figure(
    posterior: Posterior,
    *,
    truth: Tensor | None = None,
    sensors: Mapping[str, Tensor] | None = None,
    title: str = "",
) -> Figure:
    """Mean and std of a trajectory, and its truth where it is known.

    Fields on a line: images over place and time, with places and times of the measurements. Fields
    in the plane: four snapshots, one row each for truth, mean and std.

    Args:
        posterior: Posterior on a space with the axes time, x or time, and two of x, y, z.
        truth: `(*space.shape)`.
        sensors: Coordinates `x` and `time` of the data, `(n,)` each (drawn over a line's image), or `x` and `y`.
        title: Title of the figure.

    Raises:
        ShapeError: If the space is not such a trajectory, or the truth does not fit.
    """
    check_trajectory(posterior.space)
    rows = [("mean", posterior.mean), ("std", posterior.std)]
    if truth is not None:
        posterior.space.batch_shape(truth, "truth")
        rows.insert(0, ("truth", truth))
    if len(posterior.space.shape) == 2:
        return _space_time(posterior.space, rows, sensors, title)
    return _snapshots(posterior.space, rows, sensors, title)


def check_trajectory(space: Space) -> None:
    """Raise a `ShapeError` unless the axes are time and one or two of space."""
    if space.dims[:1] != ("time",) or not 2 <= len(space.shape) <= 3 or "time" not in space.coords:
        message = f"a trajectory to draw should have the axes time and one or two of space, got {space.dims}."
        raise ShapeError(message)


def field_norm(fields: list[Tensor], *, zero: bool = False) -> Any:
    """One colour scale for several fields."""
    from matplotlib.colors import Normalize

    low = 0.0 if zero else min(float(f.min()) for f in fields)
    high = max(float(f.max()) for f in fields)
    return Normalize(low, high if high > low else low + 1.0)


def snapshot(space: Space) -> Space:
    """The space of one instant of a trajectory."""
    coords = {name: value for name, value in space.coords.items() if name != "time"}
    return Space(space.shape[1:], name=space.name, dims=space.dims[1:], unit=space.unit, coords=coords)


def row_norms(rows: list[tuple[str, Tensor]]) -> dict[str, tuple[Any, str]]:
    """Colour scale and map of each row: truth and mean share one."""
    values = field_norm([f for name, f in rows if name != "std"])
    spread = field_norm([f for name, f in rows if name == "std"], zero=True)
    return {name: (spread, SPREAD_MAP) if name == "std" else (values, FIELD_MAP) for name, _ in rows}


def _space_time(space: Space, rows: list[tuple[str, Tensor]], sensors: Any, title: str) -> Figure:
    figure = new_figure(3.6 * len(rows) + 1.0, 3.6, title)
    panels = figure.subplots(1, len(rows), sharey=True)
    norms = row_norms(rows)
    for axes, (name, field) in zip(panels, rows, strict=True):
        norm, cmap = norms[name]
        mappable = draw_field(axes, space, field, name, norm=norm, cmap=cmap)
        if axes is not panels[0]:
            axes.set_ylabel("")
        if name == "mean" and sensors is not None:
            x, t = (to_numpy(sensors[key]) for key in ("x", "time"))
            axes.plot(x, t, ".", color="white", markeredgecolor=DATA, markeredgewidth=0.4, markersize=4)
        if name != "truth":
            label = quantity(space) if name == "mean" else f"std of {quantity(space)}"
            shared = list(panels[: len(rows) - 1]) if name == "mean" else [axes]
            colour_bar(figure, mappable, shared, label)
    return figure


def _snapshots(space: Space, rows: list[tuple[str, Tensor]], sensors: Any, title: str) -> Figure:
    times, one = space.coords["time"], snapshot(space)
    chosen = torch.linspace(0, len(times) - 1, min(_COLUMNS, len(times))).round().long().tolist()
    figure = new_figure(2.4 * len(chosen) + 1.0, 2.5 * len(rows) + 0.4, title)
    grid = figure.subplots(len(rows), len(chosen), squeeze=False, sharex=True, sharey=True)
    norms = row_norms(rows)
    for panels, (name, field) in zip(grid, rows, strict=True):
        norm, cmap = norms[name]
        for axes, i in zip(panels, chosen, strict=True):
            heading = f"{name}, t = {float(times[i]):.3g}"
            mappable = draw_field(axes, one, field[i], heading, norm=norm, cmap=cmap)
            axes.label_outer()
            if name == "std" and sensors is not None and "y" in sensors:
                x, y = (to_numpy(sensors[key]) for key in "xy")
                axes.plot(x, y, ".", color="white", markeredgecolor=DATA, markeredgewidth=0.4, markersize=3.5)
        colour_bar(figure, mappable, list(panels), quantity(space) if name != "std" else f"std of {quantity(space)}")
    return figure
