r"""The integrals behind the optimal weights, at T = 1, in forms that neither overflow nor cancel.

z = gamma T from 1e-6 (and far below) to 1e6 (and far above). With a = H + 1/2 and the regularised incomplete gamma
functions P and Q, gamma normalisation, E[B(t) (y_k(t) - y_k(0))] is (2 - e^{-z} - e^z Q(a, z)) / gamma^a for type I
and P(a, z) / gamma^a for type II, z = gamma t; b is its integral over t.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.sde.parameters import Kind
from sciprob.sde.special import scaled_lower_series, scaled_upper_gamma


def gram_matrix(z: Tensor, kind: Kind) -> Tensor:
    """A_ij = int_0^1 E[Y_i Y_j] dt for Y = y(t) - y(0) at T = 1; `z (K,)` -> `(K, K)`."""
    total = z[:, None] + z
    if kind == "II":
        return _phi(total)
    slow = z * _phi(z)
    return (slow[:, None] + slow) / total


def target_vector(z: Tensor, hurst: Tensor, kind: Kind) -> Tensor:
    """b_k = int_0^1 E[B Y_k] dt at T = 1, `(*batch, K)`."""
    a = (hurst + 0.5)[..., None]
    small, large = z.clamp_max(1.0), z.clamp_min(1.0)
    gamma = torch.exp(torch.lgamma(a))
    next_series = scaled_lower_series(a + 1, small)  # e^z P(a + 1, z) / z^{a + 1}
    if kind == "I":
        near = next_series - 2 * small ** (2 - a) * _sinh_rest(small)
        upper = scaled_upper_gamma(a, large) / gamma
        far = 2 * large**-a - 1 / (large * gamma * a) + (torch.exp(-large) - upper) * large ** (-a - 1)
    else:
        # z P(a, z) - a P(a + 1, z) = (z - a) P(a, z) + a z^a e^{-z} / Gamma(a + 1)
        series = scaled_lower_series(a, small)
        near = torch.exp(-small) * (series - a * next_series)
        lower = 1 - scaled_upper_gamma(a, large) * torch.exp(-large) / gamma
        far = ((large - a) * lower + large**a * torch.exp(-large) / gamma) * large ** (-a - 1)
    return torch.where(z < 1, near, far)


def cross_variance(rates: Tensor, t: Tensor, hurst: Tensor, kind: Kind) -> Tensor:
    """E[B(t) (y_k(t) - y_k(0))] in the gamma normalisation, `(*batch, n, K)`; `t (n,)` positive."""
    a = (hurst + 0.5)[..., None, None]
    z = rates * t[:, None]
    small, large = z.clamp_max(1.0), z.clamp_min(1.0)
    gamma = torch.exp(torch.lgamma(a))
    series, upper = scaled_lower_series(a, small) * small**a, scaled_upper_gamma(a, large) / gamma
    if kind == "I":
        near = series - 4 * torch.sinh(small / 2).square()
        far = 2 - torch.exp(-large) - upper
    else:
        near, far = series * torch.exp(-small), 1 - upper * torch.exp(-large)
    return torch.where(z < 1, near, far) * rates**-a


def _phi(z: Tensor) -> Tensor:
    """(e^{-z} - 1 + z) / z^2."""
    small, large = z.clamp_max(0.5), z.clamp_min(0.5)
    series = term = torch.full_like(z, 0.5)
    for n in range(3, 18):
        term = -term * small / n
        series = series + term
    return torch.where(z < 0.5, series, (torch.expm1(-large) + large) / large.square())


def _sinh_rest(z: Tensor) -> Tensor:
    """(sinh z - z) / z^3 for 0 <= z <= 1."""
    series = term = torch.full_like(z, 1 / 6)
    for n in range(2, 10):
        term = term * z.square() / ((2 * n) * (2 * n + 1))
        series = series + term
    return series
