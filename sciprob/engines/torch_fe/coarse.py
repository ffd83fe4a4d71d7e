"""A coarse space for any mesh: piecewise linear functions on a background grid, taken at the nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sciprob.engines.torch_fe.sparse import Pattern, SharedMatrix
from sciprob.spaces.mesh import Floats, Ints

_FACTOR = (
    3.0  # n_coarse is about this times sqrt(n): a dense coarse solve then costs what a product with the matrix does
)


@dataclass(frozen=True)
class CoarseTables:
    """The coarse space; n free states, nc coarse functions.

    Attributes:
        prolongation: Coarse functions at the nodes, P `(n, nc)`.
        restriction: Its transpose `(nc, n)`.
        galerkin: Entries of a matrix A -> entries of P^T A P, `(nc nc, nnz)`.
    """

    prolongation: SharedMatrix
    restriction: SharedMatrix
    galerkin: SharedMatrix


def coarse_tables(nodes: Floats, volume: float, pattern: Pattern) -> CoarseTables:
    """Hat functions of a Kuhn-triangulated background grid.

    Args:
        nodes: Places of the free states `(n, d)`.
        volume: Of the domain.
        pattern: Of the matrices.
    """
    n, d = nodes.shape
    spacing = (volume / max(1.0, _FACTOR * np.sqrt(n))) ** (1 / d)
    index, weight, columns = _hats(nodes, spacing)
    row = torch.arange(n).repeat_interleave(d + 1)
    used = torch.tensor(weight).flatten() > 0
    i, w = torch.tensor(index), torch.tensor(weight)
    prolongation = SharedMatrix.from_entries(row[used], i.flatten()[used], w.flatten()[used], (n, columns))
    rows = torch.repeat_interleave(torch.arange(n), pattern.pointer.diff())
    pair = (i[rows][:, :, None] * columns + i[pattern.column][:, None, :]).flatten(1)
    product = (w[rows][:, :, None] * w[pattern.column][:, None, :]).flatten(1)
    place = torch.arange(len(pattern))[:, None].expand_as(pair)
    kept = product > 0
    galerkin = SharedMatrix.from_entries(pair[kept], place[kept], product[kept], (columns**2, len(pattern)))
    return CoarseTables(prolongation, prolongation.transpose, galerkin)


def _hats(nodes: Floats, spacing: float) -> tuple[Ints, Floats, int]:
    """Background functions that do not vanish at each node `(n, d + 1)`, their values, and how many there are."""
    lower = nodes.min(axis=0)
    shape = np.ceil((nodes.max(axis=0) - lower) / spacing).astype(np.int64).clip(1)
    scaled = (nodes - lower) / np.maximum(nodes.max(axis=0) - lower, 1e-300) * shape
    base = np.minimum(np.floor(scaled).astype(np.int64), shape - 1)
    fraction = scaled - base
    order = np.argsort(-fraction, axis=1)  # Kuhn's simplices: from corner to corner along the axes in this order
    sorted_fraction = np.take_along_axis(fraction, order, axis=1)
    ones, zeros = np.ones((len(nodes), 1)), np.zeros((len(nodes), 1))
    weight = np.concatenate([ones, sorted_fraction], axis=1) - np.concatenate([sorted_fraction, zeros], axis=1)
    strides = np.cumprod([1, *(shape[:-1] + 1)])
    steps = np.concatenate([np.zeros((len(nodes), 1), dtype=np.int64), np.cumsum(strides[order], axis=1)], axis=1)
    flat = (base @ strides)[:, None] + steps
    present = np.unique(flat[weight > 0])
    index = np.searchsorted(present, flat).clip(max=len(present) - 1)  # where the weight is 0 any will do
    return index, weight, len(present)
