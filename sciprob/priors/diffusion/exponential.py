r"""Integrals of exponential integrators, in float64 and to full precision for steps of any size.

With phi_k(x) = sum_{j>=0} x^j / (j + k)!, that is phi_0 = e^x, phi_{k+1} = (phi_k - 1/k!) / x.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TERMS = 20  # of the series, enough below |x| = 1 for float64


def phi(k: int, x: Tensor) -> Tensor:
    """phi_k(x), elementwise, float64.

    The recurrence divides a difference by x, so that it loses digits near 0; there the series is summed.

    Args:
        k: 0, 1, 2 or 3.
        x: Real.

    Sources: Hochbruck and Ostermann, Acta Numerica 19 (2010), section 2.1.
    """
    x = x.to(torch.float64)
    if k == 0:
        return x.exp()
    small = x.abs() < 1
    near, far = torch.where(small, x, 0.0), torch.where(small, 1.0, x)
    series = torch.zeros_like(x)
    for j in reversed(range(_TERMS)):
        series = series * near + 1 / math.factorial(j + k)
    value = torch.expm1(far) / far
    for n in range(1, k):
        value = (value - 1 / math.factorial(n)) / far
    return torch.where(small, series, value)


def data_integrals(h: Tensor, rate: float, order: int) -> list[Tensor]:
    r"""E_n = rate \int_0^h e^{-rate (h - u)} u^n / n! du = rate h^{n+1} phi_{n+1}(-rate h) for n < order.

    Args:
        h: Steps in lambda, not negative; may be infinite for `order` 1.
        rate: 1 + eta.
        order: Number of integrals.
    """
    if order == 1:
        return [-torch.expm1(-rate * h.to(torch.float64))]
    return [rate * h ** (n + 1) * phi(n + 1, -rate * h) for n in range(order)]


def noise_integrals(h: Tensor, order: int) -> list[Tensor]:
    r"""G_n = \int_0^h e^{h - u} u^n / n! du = h^{n+1} phi_{n+1}(h) for n < order."""
    return [h ** (n + 1) * phi(n + 1, h) for n in range(order)]


def derivative_weights(nodes: list[float]) -> list[list[float]]:
    """Weights w[n][j] with f^{(n)}(nodes[0]) = sum_j w[n][j] f(nodes[j]) for polynomials through 1, 2 or 3 nodes."""
    if len(nodes) == 1:
        return [[1.0]]
    first = 1 / (nodes[0] - nodes[1])
    if len(nodes) == 2:
        return [[1.0, 0.0], [first, -first]]
    second, whole = 1 / (nodes[1] - nodes[2]), 1 / (nodes[0] - nodes[2])
    divided = [first * whole, -(first + second) * whole, second * whole]  # of second order, by Newton
    back = nodes[0] - nodes[1]
    slope = [first + back * divided[0], -first + back * divided[1], back * divided[2]]
    return [[1.0, 0.0, 0.0], slope, [2 * d for d in divided]]
