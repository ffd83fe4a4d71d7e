"""Observation operators: points, restrictions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.linear import DiagonalMap, LinearMap
from sciprob.spaces import Space


class PointObservation(LinearMap):
    """Values of a field at points, by the interpolation of its space.

    y_i = sum_k w_ik u[index_ik], as gather and weights: exact for Lagrange elements and safe under
    `vmap`.

    Args:
        domain: A space with geometry.
        points: `(n, d)`, in the order x, y, z.

    Raises:
        DataError: If a point lies outside the domain.
    """

    index: Tensor
    weights: Tensor

    def __init__(self, domain: Space, points: Tensor) -> None:
        coords = {axis: points[:, i].detach().cpu() for i, axis in enumerate("xyz"[: points.shape[1]])}
        super().__init__(domain, Space((len(points),), name="y", dims=("sensor",), unit=domain.unit, coords=coords))
        index, weights = domain.interpolation(points)
        self.register_buffer("index", index)
        self.register_buffer("weights", weights)

    def at(self, points: Tensor) -> PointObservation:
        """The same field at other points."""
        return PointObservation(self.domain, points)

    def _apply_batched(self, m: Any) -> Any:
        return (m.flatten(1)[:, self.index] * self.weights.to(m.dtype)).sum(-1)

    def _adjoint_batched(self, y: Any) -> Any:
        terms = (y.unsqueeze(-1) * self.weights.to(y.dtype)).flatten(1)
        flat = torch.zeros(len(y), self.domain.size, dtype=y.dtype, device=y.device)
        return flat.index_add(1, self.index.flatten(), terms).reshape(-1, *self.domain.shape)


class Restriction(LinearMap):
    """The entries of a tensor that were measured, as one vector.

    Args:
        domain: Space of the full tensor.
        mask: Boolean `(*domain.shape)`, true where measured.
    """

    index: Tensor

    def __init__(self, domain: Space, mask: Tensor) -> None:
        if mask.dtype != torch.bool or tuple(mask.shape) != domain.shape:
            message = f"`mask` should be boolean of shape {domain.shape}, got {mask.dtype} {tuple(mask.shape)}."
            raise ShapeError(message)
        index = mask.flatten().nonzero().flatten()
        super().__init__(domain, Space((len(index),), name=domain.name, dims=("entry",), unit=domain.unit))
        self.register_buffer("index", index)

    def _apply_batched(self, m: Any) -> Any:
        return m.flatten(1)[:, self.index]

    def _adjoint_batched(self, y: Any) -> Any:
        flat = torch.zeros(len(y), self.domain.size, dtype=y.dtype, device=y.device)
        return flat.index_add(1, self.index, y).reshape(-1, *self.domain.shape)

    def gram(self, weight: LinearMap | None = None) -> LinearMap:
        """`A^T W A`; without W the diagonal map that keeps the measured entries."""
        if weight is not None:
            return super().gram(weight)
        diagonal = torch.zeros(self.domain.size, dtype=torch.float64, device=self.index.device)
        diagonal[self.index] = 1.0
        return DiagonalMap(diagonal.reshape(self.domain.shape), self.domain)
