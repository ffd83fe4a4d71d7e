"""P1 finite-element matrices on triangles and tetrahedra, assembled at once in numpy.

All functions take plain arrays, as a `Mesh` has them: `points (n, d)` and simplices `(m, k + 1)`, and
return float64. P1 functions with cellwise constant coefficients are integrated exactly, without
quadrature: with barycentric coordinates l_i on a simplex of volume V in k dimensions,
int l_i l_j = V (1 + delta_ij) / ((k + 1) (k + 2)). Facets are simplices of dimension d - 1 in d
dimensions, so `mass(points, mesh.boundary_facets)` is the mass matrix of the boundary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sciprob.errors import ShapeError

if TYPE_CHECKING:
    import scipy.sparse as sp

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]


def volumes(points: Floats, simplices: Ints) -> Floats:
    """Lengths, areas or volumes `(m,)` of simplices `(m, k + 1)` of any dimension k from 1 to d.

    Raises:
        ShapeError: If the simplices have more corners than fit into the dimension of the points.
    """
    k, d = simplices.shape[1] - 1, points.shape[1]
    if not 1 <= k <= d:
        message = f"simplices in {d} dimensions have 2 to {d + 1} corners, got {k + 1}."
        raise ShapeError(message)
    edges = points[simplices[:, 1:]] - points[simplices[:, :1]]
    measure: Floats = np.sqrt(np.linalg.det(edges @ edges.swapaxes(1, 2))) / math.factorial(k)
    return measure


def gradients(points: Floats, cells: Ints) -> Floats:
    """Gradients `(m, d + 1, d)` of the barycentric coordinates on each cell."""
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    inner = np.linalg.inv(edges).swapaxes(1, 2)  # row i: gradient of l_{i+1}
    return np.concatenate([-inner.sum(axis=1, keepdims=True), inner], axis=1)


def mass(points: Floats, cells: Ints, coefficient: Floats | float = 1.0) -> sp.csr_array:
    """Consistent mass matrix M_ij = int c phi_i phi_j.

    Args:
        points: `(n, d)`.
        cells: `(m, k + 1)`: cells, or facets for a boundary mass matrix.
        coefficient: One number, or one per cell `(m,)`.
    """
    corners = cells.shape[1]
    reference = (1.0 + np.eye(corners)) / (corners * (corners + 1))
    weight = coefficient * volumes(points, cells)
    return _assemble(weight[:, None, None] * reference, cells, len(points))


def stiffness(points: Floats, cells: Ints, coefficient: Floats | float = 1.0) -> sp.csr_array:
    """Stiffness matrix K_ij = int c grad phi_i . grad phi_j; `coefficient` as in `mass`."""
    gradient = gradients(points, cells)
    weight = coefficient * volumes(points, cells)
    return _assemble(weight[:, None, None] * (gradient @ gradient.swapaxes(1, 2)), cells, len(points))


def _assemble(local: Floats, cells: Ints, n: int) -> sp.csr_array:
    """Sum element matrices `(m, k, k)` into a sparse matrix `(n, n)`."""
    import scipy.sparse as sp

    k = cells.shape[1]
    rows = np.repeat(cells, k, axis=1).reshape(-1)
    columns = np.tile(cells, (1, k)).reshape(-1)
    return sp.coo_array((local.reshape(-1), (rows, columns)), shape=(n, n)).tocsr()
