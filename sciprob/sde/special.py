r"""Incomplete gamma functions that do not overflow and can be differentiated in their order.

`torch.special.gammainc` has no derivative in its first argument, and exp(z) Q(a, z) overflows as a
product for z > 709, so both are evaluated here by plain tensor arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SERIES_TERMS = 60  # exp(-z) z^n / Gamma(a + n + 1) is below 1e-16 of the sum for z <= 10


def scaled_upper_gamma(a: Tensor, z: Tensor) -> Tensor:
    r"""exp(z) Gamma(a, z) = int exp(x - e^x) (z + e^x)^{a-1} dx by the trapezoidal rule, float64.

    The relative error is below 1e-14 for 0.5 < a < 3 and 1e-6 <= z <= 1e6; any larger z is safe too.
    `a` and `z` broadcast; differentiable in both.
    """
    x = torch.arange(-40.0, 4.01, 0.25, dtype=torch.float64, device=z.device)
    e = x.exp()
    log_terms = x - e + (a.unsqueeze(-1) - 1) * (z.unsqueeze(-1) + e).log()
    return 0.25 * log_terms.exp().sum(-1)


def scaled_lower_series(a: Tensor, z: Tensor) -> Tensor:
    r"""exp(z) P(a, z) / z^a = sum_n z^n / Gamma(a + n + 1), float64, for 0 <= z <= 10; differentiable in a and z."""
    total = term = torch.exp(-torch.lgamma(a + 1)) * torch.ones_like(z)
    for n in range(1, _SERIES_TERMS):
        term = term * z / (a + n)
        total = total + term
    return total


def lower_convolution(a: Tensor, z: Tensor) -> Tensor:
    r"""int_0^z exp(v - z) v^{a-1} dv, float64, for a >= 1 and z >= 0; differentiable in a and z.

    Up to z = 50 the series exp(-z) sum_n z^{a+n} / (n! (a + n)), all terms positive; beyond, where
    only v > z - 40 matters, Gauss-Legendre. Relative error about 1e-14.
    """
    small = z.clamp(1e-300, 50.0)
    power = torch.exp(a * small.log() - small)
    total = power / a
    for n in range(1, 200):
        power = power * small / n
        total = total + power / (a + n)
    nodes, weights = legendre(40, z)
    v = 40 * nodes
    large = z.clamp_min(50.0).unsqueeze(-1)
    tail = 40 * (weights * torch.exp(-v + (a.unsqueeze(-1) - 1) * (large - v).log())).sum(-1)
    return torch.where(z > 50, tail, total)


def legendre(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on [0, 1], float64, on the device of `like`."""
    import numpy as np

    nodes, weights = (torch.from_numpy(v).to(like.device) for v in np.polynomial.legendre.leggauss(count))
    return (nodes + 1) / 2, weights / 2


def exponential_moments(order: int, rate: Tensor, h: Tensor) -> Tensor:
    r"""int_0^h tau^n exp(-rate tau) dtau for n = `order` in 0, 1, 2; any sign of `rate`, differentiable."""
    z = rate * h
    if order == 0:
        safe = torch.where(z == 0, torch.ones_like(z), z)
        ratio = torch.where(z == 0, 1 - z / 2, -torch.expm1(-safe) / safe)
        return h * ratio
    factorial = float(order)  # 1! and 2!
    near = z.clamp(-1.0, 1.0)
    series = term = torch.full_like(z, 1.0 / (order + 1))
    for m in range(1, 20):
        term = term * near / (order + 1 + m)
        series = series + term
    far = torch.where(z.abs() < 1, torch.ones_like(z), z)
    poly = 1 + far if order == 1 else 1 + far + far.square() / 2
    closed = factorial * (1 - poly * torch.exp(-far)) / far ** (order + 1)
    return h ** (order + 1) * torch.where(z.abs() < 1, series * torch.exp(-near), closed)


def power_integral(p: Tensor, q: Tensor, gap: Tensor) -> Tensor:
    r"""F = int_0^1 (1 - x + x w)^p w^q dw = 2F1(-p, 1; q + 2; x) / (q + 1) at x = 1 - `gap`, float64.

    For p, q > -1/2 and 0 <= x <= 1. Up to x = 1/2 by the hypergeometric series. Beyond, the integral is
    cut at w = (1 - x) / x: below, Pfaff's transformation gives a series at 1/2; above, Gauss-Legendre
    in log w, where the nearest singularity is pi away. Relative error about 1e-13, also next to x = 1.
    Differentiable in p and q, and in `gap` where it is positive.
    """
    p, q, gap = torch.broadcast_tensors(p, q, gap)
    left = _hypergeometric(p, q, (1 - gap).clamp(0, 0.5)) / (q + 1)
    inside = gap.clamp(1e-300, 0.5)
    x = 1 - inside
    log_cut = (inside / x).log()
    below = torch.exp(p * (2 * x).log() + (p + q + 1) * log_cut) / (q + 1)
    below = below * _hypergeometric(p, q, torch.full_like(x, 0.5))
    above = torch.zeros_like(x)
    nodes, weights = legendre(48, gap)
    for node, weight in zip(nodes, weights, strict=True):  # a loop, since pairs of times are many
        u = log_cut * node
        above = above - weight * log_cut * torch.exp((q + 1) * u + p * (inside + x * u.exp()).log())
    right = torch.where(gap <= 0, 1 / (p + q + 1), below + above)
    return torch.where(gap >= 0.5, left, right)


def _hypergeometric(p: Tensor, q: Tensor, x: Tensor) -> Tensor:
    """2F1(-p, 1; q + 2; x) for 0 <= x <= 1/2."""
    total = term = torch.ones_like(x)
    for n in range(50):
        term = term * x * (n - p) / (q + 2 + n)
        total = total + term
    return total
