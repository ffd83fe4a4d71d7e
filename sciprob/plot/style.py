"""The look of all figures: object-oriented Matplotlib, no global settings touched."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciprob.errors import SciprobWarning
from sciprob.spaces import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED = "#222222", "#8a8a8a"
POSTERIOR, DATA, TRUTH = "#2a6fbb", "#222222", "#c8452b"
CHAINS = ("#2a6fbb", "#d98c21", "#3a8f5c", "#9a4f96", "#c8452b", "#5b8ea6", "#8c6d46", "#6b6b6b")
FIELD_MAP, SPREAD_MAP = "viridis", "magma"
TITLE, LABEL, TICK = 11.0, 9.5, 8.5
DPI = 160


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """An empty figure, size in inches, that places its axes without overlaps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    if title:
        figure.suptitle(title, fontsize=TITLE + 1, color=INK)
    return figure


def dress(axes: Any, title: str = "", x: str = "", y: str = "") -> None:
    """Titles, labels and fonts of one panel; open frame."""
    axes.set_title(title, fontsize=TITLE, color=INK)
    axes.set_xlabel(x, fontsize=LABEL, color=INK)
    axes.set_ylabel(y, fontsize=LABEL, color=INK)
    axes.tick_params(labelsize=TICK, color=MUTED, labelcolor=INK)
    if axes.get_aspect() != "auto":  # maps: few numbers, so that neighbours do not touch
        axes.locator_params(nbins=5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(MUTED)


def legend(axes: Any, **options: Any) -> None:
    """A legend without a frame."""
    axes.legend(fontsize=TICK, frameon=False, **options)


def legend_below(figure: Figure, axes: Any) -> None:
    """The legend of one panel under the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=TICK, frameon=False)


def colour_bar(figure: Any, mappable: Any, panels: list[Any], label: str) -> None:
    """One colour bar for panels that share a scale."""
    bar = figure.colorbar(mappable, ax=panels, shrink=0.92, pad=0.02, aspect=25)
    bar.set_label(label, fontsize=LABEL, color=INK)
    bar.ax.tick_params(labelsize=TICK, color=MUTED, labelcolor=INK)
    bar.outline.set_visible(False)


def quantity(space: Space) -> str:
    """Name and unit of a field, for labels: `log conductivity`, `attenuation (1/mm)`."""
    name = space.name.replace("_", " ")
    return name if space.unit in ("", "1") else f"{name} ({space.unit})"


def save(figure: Any, path: Path) -> Path:
    """Write a PNG."""
    figure.savefig(path, dpi=DPI, facecolor="white")
    return path


def attempt(path: Path, write: Callable[[Path], Any]) -> list[Path]:
    """Write one figure of a finished run; if that fails, warn and go on, because the numbers matter more.

    Returns:
        The path, or nothing.
    """
    try:
        write(path)
    except Exception as error:  # whatever goes wrong in one picture
        path.unlink(missing_ok=True)
        message = f"the figure {path.name} was not drawn ({type(error).__name__}: {error}); the results are complete."
        warnings.warn(SciprobWarning(message), stacklevel=2)
        return []
    return [path]
