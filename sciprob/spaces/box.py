"""Structured simplicial meshes of rectangles and boxes."""

from __future__ import annotations

from itertools import permutations

import numpy as np

from sciprob.errors import DataError
from sciprob.spaces.mesh import Ints, Mesh

_SIDES = {2: (("left", "right"), ("bottom", "top")), 3: (("left", "right"), ("front", "back"), ("bottom", "top"))}


def box_mesh(divisions: tuple[int, ...], lower: tuple[float, ...] = (), upper: tuple[float, ...] = ()) -> Mesh:
    """A rectangle or box cut into 2 triangles or 6 tetrahedra per grid cell (Kuhn's subdivision).

    Sides are named `left`, `right` (first axis), `bottom`, `top` (last axis) and, in 3-D, `front`,
    `back` (second axis); all cells `domain`.

    Args:
        divisions: Grid cells along each axis, length 2 or 3.
        lower: Lower corner, default zeros.
        upper: Upper corner, default ones.

    Raises:
        DataError: If lengths disagree or a division is not positive.
    """
    d = len(divisions)
    lower, upper = lower or (0.0,) * d, upper or (1.0,) * d
    if d not in (2, 3) or len(lower) != d or len(upper) != d or min(divisions) < 1:
        message = f"a box mesh needs 2 or 3 positive divisions and corners to match, got {divisions}, {lower}, {upper}."
        raise DataError(message)
    axes = [np.linspace(a, b, n + 1) for a, b, n in zip(lower, upper, divisions, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, d)
    number = np.arange(len(points)).reshape([n + 1 for n in divisions])
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in divisions), indexing="ij"), axis=-1).reshape(-1, d)
    cells = np.concatenate([_simplices(corners, order, number) for order in permutations(range(d))])
    mesh = Mesh(points, cells)
    facets: list[Ints] = []
    tags: list[Ints] = []
    names = {"domain": (d, 1)}
    for i, pair in enumerate(_SIDES[d]):
        for side, bound in zip(pair, (lower[i], upper[i]), strict=True):
            on = mesh.boundary_facets[(points[mesh.boundary_facets][:, :, i] == bound).all(axis=1)]
            names[side] = (d - 1, 2 + len(tags))
            tags.append(np.full(len(on), 2 + len(tags)))
            facets.append(on)
    ones = np.ones(len(cells), dtype=np.int64)
    return Mesh(points, cells, ones, np.concatenate(facets), np.concatenate(tags), names)


def _simplices(corners: Ints, order: tuple[int, ...], number: Ints) -> Ints:
    """One simplex per grid cell: walk from the lower to the upper corner along the axes in `order`."""
    path = [corners]
    for axis in order:
        step = np.zeros(len(order), dtype=np.int64)
        step[axis] = 1
        path.append(path[-1] + step)
    return np.stack([number[tuple(p.T)] for p in path], axis=1)
