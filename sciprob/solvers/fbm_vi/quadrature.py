"""Expectations under Gaussians of a few dimensions."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

_PRODUCT = {1: 20, 2: 12, 3: 8}  # nodes of Gauss-Hermite rules in each dimension
_POINTS = 512  # beyond three dimensions


def normal_nodes(dimension: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes `(M, D)` and weights `(M,)` for E f(xi), xi standard normal: product Gauss-Hermite up to D = 3.

    In more dimensions 512 Sobol points through the normal quantile function, mirrored, whose error for smooth
    functions is a few per mille.
    """
    if dimension in _PRODUCT:
        import numpy as np

        nodes, weights = np.polynomial.hermite_e.hermegauss(_PRODUCT[dimension])
        points = torch.tensor(list(itertools.product(nodes.tolist(), repeat=dimension)), dtype=torch.float64)
        shares = torch.tensor(list(itertools.product((weights / weights.sum()).tolist(), repeat=dimension)))
        return points.to(like), shares.double().prod(-1).to(like)
    uniform = torch.quasirandom.SobolEngine(dimension).draw(_POINTS // 2 + 1, dtype=torch.float64)[1:]
    half = torch.special.ndtri(uniform)
    points = torch.cat([half, -half])
    return points.to(like), torch.full((len(points),), 1 / len(points)).to(like)
