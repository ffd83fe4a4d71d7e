"""Regularised least squares by orthogonal factorisation of rows that arrive in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Triangle:
    r"""min |A c - b|^2 + |c|^2 in triangular form: R^T R = A^T A + I, R c = z.

    Attributes:
        root: R, upper triangular, `(K, K)`.
        projected: z, `(B, K)`.
        rest: Value of the minimum, b^T (A A^T + I)^{-1} b, `(B,)`; squares only are added.
    """

    root: Tensor
    projected: Tensor
    rest: Tensor

    def solve(self) -> Tensor:
        """The minimisers c, `(B, K)`."""
        return self.backward(self.projected)

    def backward(self, z: Tensor) -> Tensor:
        """R^{-1} z for rows `(*batch, K)`."""
        flat = z.reshape(-1, z.shape[-1])
        solution: Tensor = torch.linalg.solve_triangular(self.root, flat.mT, upper=True).mT
        return solution.reshape(z.shape)

    def forward(self, y: Tensor) -> Tensor:
        """R^{-T} y for rows `(*batch, K)`."""
        flat = y.reshape(-1, y.shape[-1])
        solution: Tensor = torch.linalg.solve_triangular(self.root.mT, flat.mT, upper=False).mT
        return solution.reshape(y.shape)

    def inverse(self) -> Tensor:
        """R^{-1}, `(K, K)`."""
        identity = torch.eye(len(self.root), dtype=self.root.dtype, device=self.root.device)
        inverse: Tensor = torch.linalg.solve_triangular(self.root, identity, upper=True)
        return inverse

    def log_abs_det(self) -> Tensor:
        """Log |det R| = log det(A^T A + I) / 2."""
        return self.root.diagonal().abs().log().sum()


def triangulate(pieces: Iterable[tuple[Tensor, Tensor]], columns: int, like: Tensor, count: int) -> Triangle:
    """Factorise the rows A with data b, then the identity.

    Each piece is stacked below the triangle so far, its data beside it, and factorised by
    Householder reflections: no normal equations, whose condition number would be the square. The
    identity comes last, because rows of small norm below large ones keep their digits.

    Args:
        pieces: Rows `(k, K)` and their data `(B, k)`.
        columns: K.
        like: Gives dtype and device.
        count: B.

    Source: Golub and Van Loan, Matrix Computations, section 5.3; Higham, Accuracy and Stability, section 19.4.
    """
    rest = like.new_zeros(count)
    waiting = [like.new_zeros(0, columns + count)]
    prior = torch.eye(columns, columns + count, dtype=like.dtype, device=like.device)
    for rows, data in pieces:
        waiting.append(torch.cat([rows, data.mT], dim=1))
        if sum(map(len, waiting)) >= 3 * columns:  # small pieces wait for others: each factorisation has a fixed cost
            triangle, rest = _fold(waiting, columns, rest)
            waiting = [triangle]
    triangle, rest = _fold([*waiting, prior], columns, rest)
    # Contiguous, so that a process read from a file takes the same path through the BLAS, bit for bit.
    return Triangle(triangle[:, :columns].contiguous(), triangle[:, columns:].mT.contiguous(), rest)


def _fold(rows: list[Tensor], columns: int, rest: Tensor) -> tuple[Tensor, Tensor]:
    """The triangle of some rows, and `rest` with what they leave over."""
    together = torch.linalg.qr(torch.cat(rows), mode="r").R
    corner = together[columns:, columns:]
    return together[:columns], rest + corner.square().sum(0)
