"""The columns of a conditioning problem: which products of axis functions take part, and their prior strength."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from sciprob.solvers.kronecker_gp.factors import AxisFactors


@dataclass(frozen=True, eq=False)
class Columns:
    """Products phi_i1 phi_i2 ... of axis functions whose joint prior weight is above the cut.

    A product of eigenvalues decays as fast as its factors together, so that in two dimensions about
    half, in three a sixth of all products carry everything that float64 can tell apart.

    Attributes:
        shape: Ranks of the axes.
        index: Kept products, one row per axis, `(d, K)`.
        std: Prior standard deviations of their coefficients, `(K,)`: 1, and `null_std` for products of polynomials.
        pure: Whether a product is one of polynomials, `(K,)`.
    """

    shape: tuple[int, ...]
    index: Tensor
    std: Tensor
    pure: Tensor

    @classmethod
    def of(cls, factors: tuple[AxisFactors, ...], cut: float, null_std: float) -> Columns:
        """All products with a weight above `cut` times the largest, and all polynomials."""
        weights = reduce(torch.multiply, outer([f.weights for f in factors]))
        pure = reduce(torch.multiply, outer([_is_polynomial(f) for f in factors])) > 0
        index = ((weights > cut) | pure).nonzero().T
        polynomial = pure[tuple(index)]
        std = torch.where(polynomial, null_std, 1.0).to(weights)
        return cls(tuple(f.rank for f in factors), index, std, polynomial)

    @property
    def count(self) -> int:
        """Number of coefficients K."""
        return self.index.shape[1]

    def scatter(self, coefficients: Tensor) -> Tensor:
        """Coefficients `(*batch, K)` in their places, `(*batch, *shape)`; zero elsewhere."""
        full = coefficients.new_zeros(*coefficients.shape[:-1], *self.shape)
        full[(..., *self.index)] = coefficients
        return full

    def gather(self, full: Tensor) -> Tensor:
        """The kept entries `(*batch, K)` of `(*batch, *shape)`."""
        return full[(..., *self.index)]


def outer(vectors: list[Tensor]) -> list[Tensor]:
    """One vector per axis, shaped to broadcast into their outer product."""
    d = len(vectors)
    return [v.reshape([-1 if i == j else 1 for i in range(d)]) for j, v in enumerate(vectors)]


def contract(tensor: Tensor, matrices: list[Tensor]) -> Tensor:
    """Multiply the last axes of `(*batch, r_1, ..., r_d)` by one matrix `(n_j, r_j)` each: `(*batch, n_1, ..., n_d)`.

    Axes that shrink go first.
    """
    d = len(matrices)
    for j in sorted(range(d), key=lambda j: matrices[j].shape[0] / max(matrices[j].shape[1], 1)):
        axis = j - d
        if axis == -1:
            tensor = tensor @ matrices[j].mT
        else:
            moved = tensor.flatten(axis + 1) if axis < -2 else tensor
            product = matrices[j] @ moved
            tensor = product.unflatten(-1, tensor.shape[axis + 1 :]) if axis < -2 else product
    return tensor


def contract_at_points(tensor: Tensor, rows: list[Tensor], entries: int = 1 << 24) -> Tensor:
    """sum_{i...} tensor[..., i_1, ..., i_d] prod_j rows_j[n, i_j] for every point n, `(*batch, n)`."""
    batch, n = tensor.shape[: tensor.ndim - len(rows)], len(rows[0])
    flat = tensor.reshape(-1, *tensor.shape[tensor.ndim - len(rows) :])
    width = max(1, len(flat) * math.prod(flat.shape[2:]))
    step = max(1, entries // width)
    pieces = [_points(flat, [r[i : i + step] for r in rows]) for i in range(0, n, step)]
    result: Tensor = torch.cat(pieces, dim=-1) if pieces else flat.new_zeros(len(flat), 0)
    return result.reshape(*batch, n)


def _points(tensor: Tensor, rows: list[Tensor]) -> Tensor:
    total = torch.tensordot(rows[0], tensor, dims=([1], [1]))  # (n, B, r_2, ...)
    for row in rows[1:]:
        total = (total * row.reshape(len(row), 1, -1, *[1] * (total.ndim - 3))).sum(2)
    transposed: Tensor = total.T
    return transposed


def transposed_at_points(values: Tensor, rows: list[Tensor]) -> Tensor:
    """sum_n values[b, n] prod_j rows_j[n, i_j], `(B, r_1, ..., r_d)`; one vector at a time."""
    letters = "ijkl"[: len(rows)]
    equation = ",".join(["n", *(f"n{letter}" for letter in letters)]) + f"->{letters}"
    full = [torch.einsum(equation, value, *rows) for value in values]
    return torch.stack(full) if full else values.new_zeros(0, *(row.shape[1] for row in rows))


def _is_polynomial(factors: AxisFactors) -> Tensor:
    flags = factors.nodes.new_zeros(factors.rank)
    flags[len(factors.eigenvalues) :] = 1
    return flags
