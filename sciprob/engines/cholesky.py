"""Sparse Cholesky factorisation with what scipy has."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sciprob.errors import UnsupportedProblemError

if TYPE_CHECKING:
    import scipy.sparse as sp

Floats = NDArray[np.float64]


class SparseCholesky:
    """A = R R^T for a symmetric positive definite sparse matrix, R a permuted triangular matrix.

    SuperLU with a symmetric ordering and diagonal pivots gives P A P^T = L U with U = D L^T, hence
    R = P^T L D^{1/2}. Deterministic: the same matrix gives the same numbers.

    Args:
        matrix: A, `(n, n)`.

    Raises:
        UnsupportedProblemError: If A is not positive definite.
    """

    def __init__(self, matrix: sp.sparray) -> None:
        from scipy.sparse.linalg import splu

        self.matrix = matrix.tocsc()
        options = {"SymmetricMode": True}
        self._lu = splu(self.matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        self._pivots: Floats = self._lu.U.diagonal()
        if not ((self._pivots > 0).all() and np.array_equal(self._lu.perm_r, self._lu.perm_c)):
            message = "a sparse matrix to be factorised is not symmetric positive definite; check the mesh behind it."
            raise UnsupportedProblemError(message)

    def solve(self, columns: Floats) -> Floats:
        """A^{-1} B for `(n, k)`."""
        solution: Floats = self._lu.solve(columns)
        return solution

    @cached_property
    def root(self) -> sp.csr_array:
        """R, `(n, n)`."""
        import scipy.sparse as sp

        return (self._lu.L.tocsr()[self._lu.perm_r] @ sp.diags_array(np.sqrt(self._pivots))).tocsr()

    @property
    def logdet(self) -> float:
        """Log det A."""
        return float(np.log(self._pivots).sum())
