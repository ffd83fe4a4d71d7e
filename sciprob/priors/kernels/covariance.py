"""Covariances of derivatives between two sets of points along one axis."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.priors.kernels.base import StationaryKernel


def covariance(kernel: StationaryKernel, x: Tensor, y: Tensor, p: int = 0, q: int = 0) -> Tensor:
    r"""cov(d^p u(x_i), d^q u(y_j)) = (-1)^q k^(p+q)(x_i - y_j).

    Two uniform lines of equal spacing give a Toeplitz matrix, for which the kernel is evaluated at the
    n + m - 1 lags only. Even p + q give symmetric matrices for x = y, odd ones antisymmetric.

    Args:
        kernel: Kernel along this axis.
        x: Points `(n,)`.
        y: Points `(m,)`.
        p: Order of the derivative at x.
        q: Order of the derivative at y.

    Returns:
        `(*batch, n, m)` in the dtype of x, differentiable in the kernel's parameters.

    Raises:
        UnsupportedProblemError: If p + q is beyond the kernel's `max_order`.
        ShapeError: If x or y is not a vector.
    """
    if x.ndim != 1 or y.ndim != 1:
        message = f"`x` and `y` should be vectors of coordinates, got {tuple(x.shape)} and {tuple(y.shape)}."
        raise ShapeError(message)
    lags = _toeplitz_lags(x, y)
    if lags is None:
        values = kernel.evaluate(x[:, None] - y[None, :], (p + q,))[0]
    else:
        values = toeplitz(kernel.evaluate(lags, (p + q,))[0], len(x))
    return -values if q % 2 else values


def toeplitz(diagonals: Tensor, rows: int) -> Tensor:
    """The matrix `T[i, j] = diagonals[i - j + m - 1]`, `(*batch, rows, m)`, from all n + m - 1 diagonals.

    Not only for symmetric matrices. Tiled, so that its derivative is a sum and no scatter.
    """
    columns = diagonals.shape[-1] - rows + 1
    period = torch.cat([diagonals, diagonals.new_zeros(*diagonals.shape[:-1], 1)], dim=-1)
    # Row i starts one entry later than row i - 1: a stride of (period + 1) in the repeated sequence.
    tiled = period.repeat(*[1] * (diagonals.ndim - 1), rows + 1)[..., : rows * (period.shape[-1] + 1)]
    matrix = tiled.unflatten(-1, (rows, period.shape[-1] + 1))[..., :columns]
    flipped: Tensor = matrix.flip(-1)
    return flipped


def _toeplitz_lags(x: Tensor, y: Tensor) -> Tensor | None:
    """The lags `x_0 - y_{m-1}, ..., x_{n-1} - y_0` in steps, or None if the lines do not share one step."""
    if min(len(x), len(y)) < 2 or x.requires_grad or y.requires_grad:
        return None
    step = (x[-1] - x[0]) / (len(x) - 1)
    n, m = (torch.arange(len(line), dtype=x.dtype, device=x.device) for line in (x, y))
    rounding = 8 * torch.finfo(x.dtype).eps * torch.maximum(x.abs().max(), y.abs().max())
    deviation = torch.maximum((x - x[0] - n * step).abs().max(), (y - y[0] - m * step).abs().max())
    if not bool(deviation <= rounding):
        return None
    offsets = torch.arange(1 - len(y), len(x), dtype=x.dtype, device=x.device)
    return (x[0] - y[0]) + offsets * step
