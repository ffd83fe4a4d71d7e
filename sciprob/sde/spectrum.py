"""Spectral density of fractional Gaussian noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.sde.parameters import check_hurst


def fgn_spectrum(frequency: Tensor, hurst: Tensor | float) -> Tensor:
    r"""Spectral density of unit fractional Gaussian noise at step 1; its integral over (-pi, pi) is 1.

    f = sin(pi H) Gamma(2H + 1) (1 - cos lam) / pi sum_j |lam + 2 pi j|^{-2H - 1}, the aliases summed by
    Euler and Maclaurin to about 1e-13. Source: Sinai, Theory Probab. Appl. 21 (1976).

    Args:
        frequency: lam in (0, pi], `(n,)`.
        hurst: H in (0, 1), `(*batch,)`.

    Returns:
        `(*batch, n)`, float64, differentiable in H.

    Raises:
        ConfigError: If H leaves (0, 1).
    """
    h = check_hurst(hurst)[..., None]
    x = frequency.double() / (2 * math.pi)
    s = 2 * h + 1
    aliases = (2 * math.pi) ** -s * (_power_sum(x, s) + _power_sum(1 - x, s))
    factor = torch.sin(math.pi * h) * torch.exp(torch.lgamma(s)) / math.pi
    return factor * 2 * torch.sin(frequency.double() / 2).square() * aliases


def _power_sum(x: Tensor, s: Tensor) -> Tensor:
    """sum_{j >= 0} (x + j)^{-s} for s > 1, by Euler and Maclaurin after ten terms."""
    total = torch.zeros_like(x * s)
    for j in range(10):
        total = total + (x + j) ** -s
    y = x + 10
    tail = y / (s - 1) + 0.5 + s / (12 * y) - s * (s + 1) * (s + 2) / (720 * y**3)
    tail = tail + s * (s + 1) * (s + 2) * (s + 3) * (s + 4) / (30240 * y**5)
    return total + y**-s * tail
