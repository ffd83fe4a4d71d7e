"""Simplicial meshes as plain arrays: points, cells, tagged parts and their names."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciprob.errors import DataError

if TYPE_CHECKING:
    from sciprob.spaces.locate import CellLocator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _empty() -> Ints:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the plane or tetrahedra in space, with named parts.

    The order of points and cells is the order of the input and never changes: it is the order of
    the degrees of freedom of every `FESpace`. Arrays are copied and made read-only. Two meshes are
    equal when their fingerprints are.

    Args:
        points: Vertices `(n, d)`, d = 2 or 3, float64.
        cells: Vertex numbers of the simplices `(m, d + 1)`, any orientation.
        cell_tags: Integer tag of each cell `(m,)`; default 0.
        facets: Vertex numbers of tagged edges (2-D) or triangles (3-D), `(k, d)`; default none.
        facet_tags: Integer tag of each facet `(k,)`.
        names: Names of parts: `{name: (dimension, tag)}`, dimension d for cells, d - 1 for facets.

    Raises:
        DataError: If arrays have wrong shapes, refer to missing points, leave points unused, or
            contain flat cells, non-finite coordinates, or facets that belong to no cell.
    """

    points: Floats = field(repr=False)
    cells: Ints = field(repr=False)
    cell_tags: Ints = field(default_factory=_empty, repr=False)
    facets: Ints = field(default_factory=_empty, repr=False)
    facet_tags: Ints = field(default_factory=_empty, repr=False)
    names: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = np.array(self.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            message = f"mesh points should be (n, 2) or (n, 3), got {points.shape}."
            raise DataError(message)
        d = points.shape[1]
        cells = np.array(self.cells, dtype=np.int64)
        tags = self.cell_tags if np.size(self.cell_tags) else np.zeros(len(cells), dtype=np.int64)
        arrays = {
            "points": points,
            "cells": cells,
            "cell_tags": np.array(tags, dtype=np.int64),
            "facets": np.array(self.facets, dtype=np.int64).reshape(-1, d),
            "facet_tags": np.array(self.facet_tags, dtype=np.int64),
        }
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "names", {key: (int(a), int(b)) for key, (a, b) in self.names.items()})
        _validate(self)

    @property
    def dim(self) -> int:
        """Space dimension d, 2 or 3."""
        return int(self.points.shape[1])

    @cached_property
    def volumes(self) -> Floats:
        """Area or volume of each cell, `(m,)`."""
        sides = self.points[self.cells[:, 1:]] - self.points[self.cells[:, :1]]
        determinants: Floats = np.abs(np.linalg.det(sides)) / math.factorial(self.dim)
        return determinants

    @cached_property
    def diameters(self) -> Floats:
        """Longest edge of each cell, `(m,)`."""
        longest: Floats = self._edge_lengths.max(axis=1)
        return longest

    @cached_property
    def quality(self) -> Floats:
        """Mean-ratio quality of each cell, `(m,)`: 1 for equilateral, 0 for flat.

        Volume over the volume of the regular simplex with the same root-mean-square edge.
        """
        d = self.dim
        regular = math.sqrt(d + 1) / (math.factorial(d) * math.sqrt(2**d))
        rms = np.sqrt((self._edge_lengths**2).mean(axis=1))
        ratio: Floats = self.volumes / (regular * rms**d)
        return ratio

    @property
    def _edge_lengths(self) -> Floats:
        pairs = [self.points[self.cells[:, j]] - self.points[self.cells[:, i]] for i, j in local_edges(self.dim)]
        lengths: Floats = np.linalg.norm(np.stack(pairs, axis=1), axis=-1)
        return lengths

    @cached_property
    def _numbered_edges(self) -> tuple[Ints, Ints]:
        pairs = np.sort(self.cells[:, local_edges(self.dim)], axis=-1)
        edges, inverse = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        return edges, inverse.reshape(pairs.shape[:2])

    @property
    def edges(self) -> Ints:
        """All edges `(n_edges, 2)` as vertex pairs i < j, sorted lexicographically."""
        return self._numbered_edges[0]

    @property
    def cell_edges(self) -> Ints:
        """Edge numbers of each cell, `(m, 3)` or `(m, 6)`, local edges in the order of `local_edges`."""
        return self._numbered_edges[1]

    @cached_property
    def boundary_facets(self) -> Ints:
        """Facets that belong to one cell only, `(b, d)`, vertices ascending, sorted lexicographically."""
        facets, counts = np.unique(_cell_facets(self.cells), axis=0, return_counts=True)
        boundary: Ints = facets[counts == 1]
        return boundary

    def tag(self, name: str, dim: int) -> int:
        """Tag of the part called `name` of dimension `dim`.

        Raises:
            DataError: If there is no such part; the message lists those there are.
        """
        if name in self.names and self.names[name][0] == dim:
            return self.names[name][1]
        kind = "cells" if dim == self.dim else "boundary facets"
        known = sorted(key for key, (a, _) in self.names.items() if a == dim)
        message = f"the mesh has no {kind} named {name!r}; known names are {known}."
        raise DataError(message)

    def named_facets(self, name: str) -> Ints:
        """Facets of a named part, `(k, d)`."""
        facets: Ints = self.facets[self.facet_tags == self.tag(name, self.dim - 1)]
        return facets

    def named_cells(self, name: str) -> Ints:
        """Numbers of the cells of a named part, `(k,)`."""
        numbers: Ints = np.flatnonzero(self.cell_tags == self.tag(name, self.dim))
        return numbers

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of arrays and names, hexadecimal."""
        digest = hashlib.sha256()
        for array in (self.points, self.cells, self.cell_tags, self.facets, self.facet_tags):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(repr(sorted(self.names.items())).encode())
        return digest.hexdigest()

    @cached_property
    def locator(self) -> CellLocator:
        """Finds the cells that contain given points."""
        from sciprob.spaces.locate import CellLocator

        return CellLocator(self)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Mesh) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def local_edges(dim: int) -> list[tuple[int, int]]:
    """Vertex pairs of the edges of a d-simplex: (0,1), (0,2), ... in lexicographic order."""
    return list(combinations(range(dim + 1), 2))


def _cell_facets(cells: Ints) -> Ints:
    """All facets of all cells, vertices ascending, `(m * (d + 1), d)`."""
    keep = list(combinations(range(cells.shape[1]), cells.shape[1] - 1))
    facets: Ints = np.sort(cells[:, keep], axis=-1).reshape(-1, cells.shape[1] - 1)
    return facets


def _validate(mesh: Mesh) -> None:
    n, d = mesh.points.shape
    if mesh.cells.ndim != 2 or mesh.cells.shape[1] != d + 1 or not len(mesh.cells):
        message = f"mesh cells should be (m, {d + 1}) with m > 0 for points in {d}-D, got {mesh.cells.shape}."
        raise DataError(message)
    bad = np.flatnonzero(~np.isfinite(mesh.points).all(axis=1))
    if len(bad):
        message = f"mesh points should be finite, point {bad[0]} is {mesh.points[bad[0]].tolist()}."
        raise DataError(message)
    for name in ("cells", "facets"):
        items, tags = getattr(mesh, name), getattr(mesh, f"{name[:-1]}_tags")
        if tags.shape != (len(items),):
            message = f"mesh `{name[:-1]}_tags` should be ({len(items)},), one per entry of `{name}`, got {tags.shape}."
            raise DataError(message)
        bad = np.flatnonzero(((items < 0) | (items >= n)).any(axis=1))
        if len(bad):
            message = f"mesh `{name}` should refer to points 0 to {n - 1}, row {bad[0]} is {items[bad[0]].tolist()}."
            raise DataError(message)
    unused = np.setdiff1d(np.arange(n), mesh.cells)
    if len(unused):
        message = f"every mesh point should belong to a cell, point {unused[0]} does not; remove it."
        raise DataError(message)
    flat = np.flatnonzero(mesh.volumes <= 1e-12 * mesh.diameters**d)
    if len(flat):
        message = f"mesh cells should have positive volume, cell {flat[0]} {mesh.cells[flat[0]].tolist()} is flat."
        raise DataError(message)
    _validate_facets(mesh)


def _validate_facets(mesh: Mesh) -> None:
    d = mesh.dim
    if len(mesh.facets):
        known = np.unique(_cell_facets(mesh.cells), axis=0)
        joined = np.concatenate([known, np.sort(mesh.facets, axis=1)])
        _, first, inverse = np.unique(joined, axis=0, return_index=True, return_inverse=True)
        bad = np.flatnonzero(first[inverse.ravel()[len(known) :]] >= len(known))
        if len(bad):
            message = f"tagged facets should be facets of cells, facet {bad[0]} {mesh.facets[bad[0]].tolist()} is not."
            raise DataError(message)
    for name, (dim, _) in mesh.names.items():
        if dim not in (d, d - 1):
            message = f"named parts of a {d}-D mesh should have dimension {d} or {d - 1}, {name!r} has {dim}."
            raise DataError(message)
