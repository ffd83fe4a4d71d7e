"""Eigenpairs of covariances whose rank is far below their size."""

from __future__ import annotations

import torch
from torch import Tensor

_SHARE = 3  # a rank above 1 / 3 of the size is not worth the pivoting


def leading_eigenpairs(matrix: Tensor, cut: float) -> tuple[Tensor, Tensor]:
    r"""Eigenvalues above `cut` times the largest, decreasing `(r,)`, and their vectors `(n, r)`.

    For low ranks from the singular values of a pivoted Cholesky factor, in O(n r^2); these are the
    square roots of the eigenvalues, so that the smallest keep digits which a decomposition of the
    matrix itself loses (absolute errors of round-off times the largest). Otherwise by a dense
    eigendecomposition in O(n^3).

    Args:
        matrix: Symmetric, positive semi-definite, with unit diagonal.
        cut: Smallest eigenvalue kept, relative to the largest.

    Source: Harbrecht, Peters, Schneider, Applied Numerical Mathematics 62 (2012).
    """
    factor = pivoted_cholesky(matrix, 0.1 * cut, len(matrix) // _SHARE)
    if factor is None:
        eigenvalues, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
        eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)
    else:
        vectors, singular, _ = torch.linalg.svd(factor, full_matrices=False)
        eigenvalues = singular.square()
    kept = eigenvalues > cut * eigenvalues[0]
    return eigenvalues[kept], vectors[:, kept]


def pivoted_cholesky(matrix: Tensor, tolerance: float, most: int) -> Tensor | None:
    """L `(n, k)` with a residual M - L L^T of diagonal at most `tolerance`; None if k would exceed `most`."""
    n = len(matrix)
    columns = matrix.new_zeros(most, n)  # rows are columns of L: contiguous
    diagonal = matrix.diagonal().clone()
    for k in range(most):
        pivot = int(diagonal.argmax())
        largest = float(diagonal[pivot])
        if largest <= tolerance:
            return columns[:k].mT
        column = (matrix[pivot] - columns[:k, pivot] @ columns[:k]) / largest**0.5
        columns[k] = column
        diagonal -= column.square()
        diagonal[pivot] = 0.0
    return None
