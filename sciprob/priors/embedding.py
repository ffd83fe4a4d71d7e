r"""Circulant embedding of Matern covariances on a bounded grid.

A stationary covariance on a grid is a corner of a circulant matrix on a larger torus, whose root
costs two FFTs, if the spectrum on the torus is not negative. The kernel taken at the shortest
way around the torus has a kink half-way round, and needs a torus of 20 to 30 lengths to hide
it. Multiplying the kernel by a smooth window that is 1 on all offsets inside the grid and ends before the
images overlap removes the kink, leaves the covariance on the grid exact, and needs a torus a few
times smaller along each axis (256 x 256, length 0.3 of the side, nu = 3/2: 686 points a side instead of 1960).

Sources: Dietrich and Newsam, SIAM J. Sci. Comput. 18 (1997); Bachmayr, Graham, Nguyen, Scheichl,
Unified analysis of periodization-based sampling methods for Matern covariances, SIAM J. Numer. Anal. 58 (2020).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.matern import free_correlation, matern_correlation, outer_sum, unfold
from sciprob.spaces import GridSpace

_LARGEST_TORUS = 2**24  # points, or 16 times the grid if that is more
_NEGATIVE = 1e-13  # allowed negative part of a spectrum, relative to its sum: rounding
_GROWTH = 1.15


def circulant_embedding(space: GridSpace, length: float, smoothness: float) -> tuple[tuple[int, ...], Tensor]:
    """A torus, and a non-negative spectrum on it, whose covariance equals Matern's between all grid points.

    The smallest torus tried on which no spectrum is negative beyond rounding. A negative part of
    relative sum t, set to zero, changes no entry of the covariance by more than t; only
    t <= 1e-13 is accepted.

    Returns:
        Shape of the torus and the full spectrum of the correlation, `(*torus)`, float64.

    Raises:
        ConfigError: If no torus below 2^24 points (or 16 times the grid) is large enough.
    """
    extents = [(n - 1) * h for n, h in zip(space.shape, space.spacing, strict=True)]
    torus = _torus([2 * e for e in extents], space.spacing)
    kernel = free_correlation(torus, space.spacing, length, smoothness)
    limit = max(_LARGEST_TORUS, 16 * space.size)
    while True:
        spectrum = torch.fft.fftn(kernel).real
        negative = float(-spectrum.clamp_max(0).sum() / spectrum.sum())
        if negative <= _NEGATIVE:
            return torus, spectrum.clamp_min(0)
        period = _GROWTH * min(n * h for n, h in zip(torus, space.spacing, strict=True) if n > 1)
        torus = _torus([max(_GROWTH * 2 * e, period) if e > 0 else 0.0 for e in extents], space.spacing)
        if math.prod(torus) > limit:
            message = (
                f"no circulant embedding below {limit} points for length {length:g} and smoothness "
                f"{smoothness:g} on {space.shape}; use boundary 'neumann', or a smaller length or smoothness."
            )
            raise ConfigError(message)
        kernel = _windowed(torus, space.spacing, extents, length, smoothness)


def _torus(period: list[float], spacing: tuple[float, ...]) -> tuple[int, ...]:
    """FFT-friendly numbers of points for at least these periods."""
    from scipy.fft import next_fast_len

    return tuple(max(1, next_fast_len(math.ceil(p / h - 1e-9))) for p, h in zip(period, spacing, strict=True))


def _windowed(
    torus: tuple[int, ...], spacing: tuple[float, ...], extents: list[float], length: float, smoothness: float
) -> Tensor:
    """Sum over images of Matern times a window that is 1 up to the grid's extent, 0 from there on in the next image."""
    axes = list(zip(torus, spacing, extents, strict=True))
    half = [torch.arange(n // 2 + 1, dtype=torch.float64) * h for n, h, _ in axes]
    total = torch.zeros([len(x) for x in half], dtype=torch.float64)
    for image in itertools.product((0, 1), repeat=len(torus)):
        offset = [(x - i * n * h).abs() for x, i, (n, h, _) in zip(half, image, axes, strict=True)]
        term = matern_correlation(outer_sum([x.square() for x in offset]).sqrt(), length, smoothness)
        for axis, (x, (n, h, e)) in enumerate(zip(offset, axes, strict=True)):
            window = _window(x, e, n * h - e)
            term = term * window.reshape([-1 if i == axis else 1 for i in range(len(torus))])
        total += term
    return unfold(total, torus)


def _window(x: Tensor, a: float, b: float) -> Tensor:
    """Infinitely smooth step: 1 for x <= a, 0 for x >= b (up to rounding of x)."""
    t = ((x - a) / (b - a)).clamp(1e-3, 1 - 1e-3)  # exp(-1000) is 0
    falling, rising = torch.exp(-1 / (1 - t)), torch.exp(-1 / t)
    return falling / (falling + rising)
