"""Polynomials along one axis, the explicit basis for what an operator cannot see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Polynomials:
    """1, xi, xi^2, ... with xi from -1 at `lower` to 1 at `upper`.

    A source says nothing about the null space of its operator (for the Laplacian in one dimension
    the affine functions), nor does a spectrum of waves hold it. These functions, with a vague prior,
    are added to the factor of an axis.

    Args:
        count: Number of functions, degree + 1; zero for none.
        lower: Where xi = -1.
        upper: Where xi = 1.
    """

    count: int
    lower: float
    upper: float

    def at(self, x: Tensor, order: int = 0) -> Tensor:
        """Derivatives of this order at `x (n,)`, `(n, count)`."""
        half = (self.upper - self.lower) / 2 or 1.0
        xi = (x - self.lower) / half - 1
        columns = [
            math.perm(k, order) / half**order * xi ** (k - order) if k >= order else torch.zeros_like(x)
            for k in range(self.count)
        ]
        return torch.stack(columns, dim=-1) if columns else x.new_zeros(len(x), 0)
