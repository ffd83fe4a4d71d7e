"""Which cell contains a point: nearest centroids first, all cells for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sciprob.spaces.mesh import Mesh

_NEIGHBOURS = 12
_CHUNK = 2**22  # point-cell pairs examined at once, to bound memory


class CellLocator:
    """Point location in a simplicial mesh by barycentric coordinates.

    A point usually lies in one of the cells with the nearest centroids, which a k-d tree gives.
    Points not found there (strongly graded meshes, points outside) are tested against every cell,
    so the answer does not depend on the mesh's regularity.

    Args:
        mesh: The mesh.
    """

    def __init__(self, mesh: Mesh) -> None:
        from scipy.spatial import cKDTree

        corners = mesh.points[mesh.cells]
        self._origin = corners[:, 0]
        self._inverse = np.linalg.inv((corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1))
        self._tree = cKDTree(corners.mean(axis=1))

    def locate(
        self, points: NDArray[np.float64], tolerance: float = 1e-9
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Cell and barycentric coordinates of each point.

        Args:
            points: `(n, d)`.
            tolerance: How far below zero a barycentric coordinate may be.

        Returns:
            `cell (n,)`, -1 for points in no cell, and `barycentric (n, d + 1)` in that cell. A
            point on a shared facet gets one of its cells, always the same one.
        """
        n = len(self._origin)
        k = min(_NEIGHBOURS, n)
        finite = np.isfinite(points).all(axis=1)
        cell = np.full(len(points), -1, dtype=np.int64)
        barycentric = np.full((len(points), points.shape[1] + 1), np.nan)
        if finite.any():
            _, near = self._tree.query(points[finite], k=k)
            self._search(points, np.flatnonzero(finite), near.reshape(-1, k), tolerance, cell, barycentric)
        rest = np.flatnonzero(finite & (cell < 0))
        for rows in np.array_split(rest, max(1, -(-len(rest) * n // _CHUNK))):
            everything = np.broadcast_to(np.arange(n), (len(rows), n))
            self._search(points, rows, everything, tolerance, cell, barycentric)
        return cell, barycentric

    def _search(
        self,
        points: NDArray[np.float64],
        rows: NDArray[np.int64],
        candidates: NDArray[np.int64],
        tolerance: float,
        cell: NDArray[np.int64],
        barycentric: NDArray[np.float64],
    ) -> None:
        """Fill in the rows whose point lies in one of its candidate cells."""
        offsets = points[rows][:, None, :] - self._origin[candidates]
        tail = np.einsum("rkij,rkj->rki", self._inverse[candidates], offsets)
        weights = np.concatenate([1.0 - tail.sum(axis=-1, keepdims=True), tail], axis=-1)
        worst = weights.min(axis=-1)
        best = worst.argmax(axis=1)
        pick = np.arange(len(rows))
        found = worst[pick, best] >= -tolerance
        cell[rows[found]] = candidates[pick, best][found]
        barycentric[rows[found]] = weights[pick, best][found]
