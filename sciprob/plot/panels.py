"""One panel for one field, whatever its space."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciprob.plot.style import dress
from sciprob.spaces import Space
from sciprob.spaces.fe import FESpace

Floats = NDArray[np.float64]
_FEW = 12


def to_numpy(values: Tensor) -> Floats:
    """Float64 on the host."""
    array: Floats = values.detach().cpu().double().numpy()
    return array


def is_curve(space: Space) -> bool:
    """Whether a field is best drawn as a curve with bands: one axis, and no plane to draw it in."""
    return len(space.shape) <= 1 and not isinstance(space, FESpace) and not has_places(space)


def is_list(space: Space) -> bool:
    """Whether entries are a few numbers without an order: nothing lies between them."""
    few = space.size <= _FEW and not isinstance(space, FESpace) and not has_places(space)
    return bool(space.labels) or (few and len(space.shape) <= 1 and not space.coords)


def has_places(space: Space) -> bool:
    """Whether entries are points in the plane: a single axis with coordinates x and y."""
    return len(space.shape) == 1 and "x" in space.coords and "y" in space.coords


def abscissa(space: Space) -> tuple[Floats, str]:
    """Coordinate of the entries of a curve, and its name; numbers from 0 where there is none."""
    name = space.dims[0] if space.dims else "entry"
    if name in space.coords:
        return to_numpy(space.coords[name]), name
    return np.arange(space.size, dtype=np.float64), name.replace("_", " ")


def draw_field(axes: Any, space: Space, values: Tensor, title: str, **colours: Any) -> Any:
    """Draw a field in the plane; returns what a colour bar needs.

    Triangulated fields are drawn on their mesh (degree 2 on its four sub-triangles), grids and
    other two-axis tensors as images, values at points as dots, three-dimensional fields by their
    middle section z = const.

    Args:
        axes: Matplotlib axes.
        space: Space of the field.
        values: `(*space.shape)`.
        title: Title of the panel.
        **colours: `cmap` and `norm` of Matplotlib.
    """
    field = to_numpy(values)
    if isinstance(space, FESpace) and space.mesh.dim == 2:
        mappable = _triangles(axes, space, field, colours)
    elif isinstance(space, FESpace):
        mappable, title = _section(axes, space, values, colours), f"{title}, middle section"
    elif has_places(space):
        x, y = (to_numpy(space.coords[axis]) for axis in "xy")
        mappable = axes.scatter(x, y, c=field, s=18, **colours)
        axes.set_aspect("equal")
    else:
        return _image(axes, space, field, title, colours)
    dress(axes, title, "x", "y")
    return mappable


def draw_points(axes: Any, coords: Any) -> None:
    """Mark sensors."""
    x, y = (to_numpy(coords[axis]) for axis in "xy")
    size = float(np.clip(600 / max(len(x), 1), 4, 16))
    axes.scatter(x, y, s=size, facecolor="white", edgecolor="black", linewidth=0.7, zorder=3)


def _triangles(axes: Any, space: FESpace, field: Floats, colours: dict[str, Any]) -> Any:
    from matplotlib.tri import Triangulation

    x, y = to_numpy(space.points()).T
    cells = space.cell_dofs
    if space.degree == 2:  # edges of a cell: (01) (02) (12)
        cells = np.concatenate([cells[:, part] for part in ([0, 3, 4], [3, 1, 5], [4, 5, 2], [3, 5, 4])])
    mappable = axes.tripcolor(Triangulation(x, y, cells), field, shading="gouraud", rasterized=True, **colours)
    axes.set_aspect("equal")
    return mappable


def _section(axes: Any, space: FESpace, values: Tensor, colours: dict[str, Any]) -> Any:
    """Section of a tetrahedral field at the middle of its z-range, on a raster."""
    lower, upper = space.mesh.points.min(axis=0), space.mesh.points.max(axis=0)
    x, y = (np.linspace(a, b, 200) for a, b in zip(lower[:2], upper[:2], strict=True))
    raster = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    points = np.column_stack([raster, np.full(len(raster), (lower[2] + upper[2]) / 2)])
    inside = space.mesh.locator.locate(points, 1e-9)[0] >= 0
    index, weights = space.interpolation(torch.from_numpy(points[inside]))
    image = np.full(len(points), np.nan)
    image[inside] = to_numpy((values.detach().cpu().double()[index] * weights).sum(-1))
    box = (lower[0], upper[0], lower[1], upper[1])
    return axes.imshow(image.reshape(200, 200), origin="lower", extent=box, interpolation="nearest", **colours)


def _image(axes: Any, space: Space, field: Floats, title: str, colours: dict[str, Any]) -> Any:
    """An image of a tensor with two or more axes."""
    names = list(space.dims)
    while len(names) > 2:  # the middle along z, else along the first axis
        axis = names.index("z") if "z" in names else 0
        field, title = np.take(field, field.shape[axis] // 2, axis=axis), f"{title}, middle section"
        names.pop(axis)
    spatial = set(names) <= {"x", "y", "z"}
    if spatial and names[0] < names[1]:  # x runs to the right
        field, names = field.T, names[::-1]
    extent = [
        *_range(space, names[1], field.shape[1]),
        *_range(space, names[0], field.shape[0]),
    ]
    options = {"origin": "lower", "interpolation": "nearest", "rasterized": True} | colours
    mappable = axes.imshow(field, extent=extent, aspect="equal" if spatial else "auto", **options)
    dress(axes, title, names[1], names[0])
    return mappable


def _range(space: Space, name: str, n: int) -> tuple[float, float]:
    """Outer edges of the pixels along an axis."""
    if name not in space.coords or n < 2:
        return -0.5, n - 0.5
    values = to_numpy(space.coords[name])
    half = (values[-1] - values[0]) / (n - 1) / 2
    return float(values[0] - half), float(values[-1] + half)
