"""Finite differences in time on stored times, uniform or not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ShapeError


def time_difference_matrix(times: Tensor, derivative: int, order: int) -> Tensor:
    """Weights `(n, n)` of a derivative in time from values at `times`, error O(step^order); float64 on the CPU.

    Each row is exact for polynomials of degree `derivative + order - 1`, on as many times plus one as
    that, nearest to its own.

    Raises:
        ShapeError: If the times do not increase or are fewer than needed.
    """
    t = times.detach().double().cpu()
    width, n = derivative + order, len(t)
    if n < width or bool((t.diff() <= 0).any()):
        message = (
            f"derivative {derivative} in time with an error of order {order} needs at least {width} increasing "
            f"times, got {n}; store more times or lower the order."
        )
        raise ShapeError(message)
    matrix = torch.zeros(n, n, dtype=torch.float64)
    for row in range(n):
        start = min(max(row - (width - 1) // 2, 0), n - width)
        nodes = t[start : start + width] - t[row]
        scale = nodes.abs().max()
        moments = (nodes / scale) ** torch.arange(width, dtype=torch.float64)[:, None]
        target = torch.zeros(width, dtype=torch.float64)
        target[derivative] = math.factorial(derivative) / scale**derivative
        matrix[row, start : start + width] = torch.linalg.solve(moments, target)
    return matrix
