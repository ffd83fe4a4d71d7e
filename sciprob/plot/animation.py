"""A trajectory as an animated picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sciprob.plot.panels import draw_field, to_numpy
from sciprob.plot.style import POSTERIOR, TRUTH, colour_bar, dress, legend_below, new_figure, quantity
from sciprob.plot.trajectory import check_trajectory, row_norms, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from sciprob.posteriors import Posterior

_DPI = 90


def animate(
    posterior: Posterior, path: Path, *, truth: Tensor | None = None, title: str = "", frames_per_second: int = 8
) -> Path:
    """Write a GIF of a trajectory, one frame for each stored time.

    Fields on a line: mean, 90 % band and truth. Fields in the plane: truth, mean and std side by
    side on fixed colour scales.

    Args:
        posterior: Posterior on a space with the axes time, x or time, and two of x, y, z.
        path: File to write, `.gif`.
        truth: `(*space.shape)`.
        title: Title of every frame.
        frames_per_second: Speed.

    Returns:
        The path.

    Raises:
        ShapeError: If the space is not such a trajectory, or the truth does not fit.
    """
    from matplotlib.animation import PillowWriter

    check_trajectory(posterior.space)
    if truth is not None:
        posterior.space.batch_shape(truth, "truth")
    draw = _curves if len(posterior.space.shape) == 2 else _maps
    figure, show = draw(posterior, truth, title)
    times = to_numpy(posterior.space.coords["time"])
    writer = PillowWriter(fps=frames_per_second)
    with writer.saving(figure, str(path), _DPI):
        for i, time in enumerate(times):
            show(i, f"t = {time:.3g}")
            writer.grab_frame(facecolor="white")
            if i == 0:
                figure.set_layout_engine("none")  # keep every panel where the first frame has put it
    return path


def _curves(posterior: Posterior, truth: Tensor | None, title: str) -> tuple[Figure, Callable[[int, str], None]]:
    space = posterior.space
    x, mean = to_numpy(space.coords[space.dims[1]]), to_numpy(posterior.mean)
    low, high = (to_numpy(end) for end in posterior.interval(0.9))
    exact = None if truth is None else to_numpy(truth)
    figure = new_figure(6.4, 3.8, title)
    axes: Any = figure.subplots()
    band = axes.fill_between(x, low[0], high[0], color=POSTERIOR, alpha=0.25, linewidth=0, label="90% interval")
    (middle,) = axes.plot(x, mean[0], color=POSTERIOR, label="mean")
    known = [] if exact is None else axes.plot(x, exact[0], "--", color=TRUTH, label="truth")
    dress(axes, "t = 0", space.dims[1], quantity(space))
    reach = [low.min(), high.max()] if exact is None else [min(low.min(), exact.min()), max(high.max(), exact.max())]
    margin = 0.05 * (reach[1] - reach[0]) or 1.0
    axes.set_ylim(reach[0] - margin, reach[1] + margin)
    legend_below(figure, axes)

    def show(i: int, heading: str) -> None:
        band.set_data(x, low[i], high[i])
        middle.set_ydata(mean[i])
        for line in known:
            line.set_ydata(exact[i] if exact is not None else mean[i])
        axes.set_title(heading)

    return figure, show


def _maps(posterior: Posterior, truth: Tensor | None, title: str) -> tuple[Figure, Callable[[int, str], None]]:
    space = posterior.space
    rows = [("mean", posterior.mean), ("std", posterior.std)]
    if truth is not None:
        rows.insert(0, ("truth", truth))
    norms, one = row_norms(rows), snapshot(space)
    figure = new_figure(3.2 * len(rows) + 1.4, 3.4, title)
    panels = figure.subplots(1, len(rows), squeeze=False)[0]
    images = []
    for axes, (name, field) in zip(panels, rows, strict=True):
        norm, cmap = norms[name]
        images.append(draw_field(axes, one, field[0], name, norm=norm, cmap=cmap))
    colour_bar(figure, images[-2], list(panels[:-1]), quantity(space))
    colour_bar(figure, images[-1], [panels[-1]], f"std of {quantity(space)}")
    fields = [to_numpy(field) for _, field in rows]
    if one.dims[0] < one.dims[1]:  # as `draw_field` turns images whose first axis is x
        fields = [field.swapaxes(1, 2) for field in fields]

    def show(i: int, heading: str) -> None:
        for image, field in zip(images, fields, strict=True):
            image.set_data(field[i])
        panels[0].set_title(f"{rows[0][0]}, {heading}")

    return figure, show
