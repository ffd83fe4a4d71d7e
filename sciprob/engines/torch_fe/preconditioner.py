"""Two-level preconditioner of a batch of elliptic matrices: Chebyshev smoothing and a coarse solve.

One symmetric multigrid cycle: s steps of Chebyshev's method with the diagonal, correction on the coarse
space by a dense inverse of P^T A P, s steps again. Symmetric and positive definite for every positive
definite A, because the smoothing interval ends at a guaranteed bound (Gershgorin's) of the largest
eigenvalue of D^-1 A. Sources: Adams et al., J. Comput. Phys. 188 (2003), for the smoother; Smith,
Bjorstad and Gropp, Domain Decomposition (1996), for the cycle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.engines.torch_fe.coarse import CoarseTables
from sciprob.engines.torch_fe.sparse import Pattern

_STEPS = 2  # with more, fewer but dearer iterations: no gain
_RATIO = 16.0  # the smoother damps eigenvalues down to the largest over this; the coarse space has the rest


class Matrices:
    """Matrices `(n, n)` of B samples with one pattern, acting on `(B, n, K)`.

    Args:
        pattern: Where they have entries.
        values: Entries `(B, nnz)`.
    """

    def __init__(self, pattern: Pattern, values: Tensor) -> None:
        self.diagonal = values[:, pattern.diagonal, None]
        self._matrix, absolute = pattern.matrices(values, values.abs())
        sums = absolute @ values.new_ones(absolute.shape[1])
        self.largest = (sums.reshape(self.diagonal.shape) / self.diagonal).amax(1, keepdim=True)

    def __matmul__(self, x: Tensor) -> Tensor:
        if x.shape[2] == 1:  # the matrix-vector kernel is faster than a product with one column
            return (self._matrix @ x.flatten()).reshape(x.shape)
        return (self._matrix @ x.reshape(-1, x.shape[2])).reshape(x.shape)


class TwoLevel:
    """Approximate inverses of `Matrices`, one per sample.

    Args:
        matrices: A.
        values: Entries `(B, nnz)`.
        tables: The coarse space.
    """

    def __init__(self, matrices: Matrices, values: Tensor, tables: CoarseTables) -> None:
        self._matrices, self._tables = matrices, tables
        nc = tables.prolongation.matrix.shape[1]
        coarse = (tables.galerkin @ values).reshape(-1, nc, nc)
        scale = coarse.diagonal(dim1=1, dim2=2).rsqrt()
        coarse = scale[:, :, None] * coarse * scale[:, None, :]
        coarse.diagonal(dim1=1, dim2=2).add_(1e-6)  # coarse functions may be dependent where the mesh has few nodes
        factor, _ = torch.linalg.cholesky_ex(coarse)
        self._inverse = scale[:, :, None] * torch.cholesky_inverse(factor) * scale[:, None, :]
        self._steps = chebyshev_steps(matrices)

    def __call__(self, r: Tensor) -> Tensor:
        """Apply to `(B, n, K)`."""
        x = self.smooth(r)
        x = x + self.correct(r - self._matrices @ x)
        return x + self.smooth(r - self._matrices @ x)

    def correct(self, r: Tensor) -> Tensor:
        """P (P^T A P)^-1 P^T r, but for a small regularisation."""
        coarse = (self._tables.restriction @ r.mT) @ self._inverse  # which is symmetric
        return (self._tables.prolongation @ coarse).mT

    def smooth(self, r: Tensor) -> Tensor:
        """Chebyshev's method from zero."""
        x = step = self._steps[0][1] * r
        for momentum, weight in self._steps[1:]:
            r = r - self._matrices @ step
            step = torch.addcmul(momentum * step, weight, r)
            x = x + step
        return x


def chebyshev_steps(matrices: Matrices) -> list[tuple[Tensor, Tensor]]:
    """Factors of the last step `(B, 1, 1)` and of the residual `(B, n, 1)` in each step of Chebyshev's method.

    For the interval from the largest eigenvalue of D^-1 A over `_RATIO` to its bound; after Saad,
    Iterative Methods for Sparse Linear Systems (2003), algorithm 12.1.
    """
    theta = matrices.largest * (1 + 1 / _RATIO) / 2
    delta = matrices.largest * (1 - 1 / _RATIO) / 2
    rho = delta / theta
    steps = [(torch.zeros_like(rho), 1 / (theta * matrices.diagonal))]
    for _ in range(_STEPS - 1):
        following = 1 / (2 * theta / delta - rho)
        steps.append((following * rho, 2 * following / (delta * matrices.diagonal)))
        rho = following
    return steps
