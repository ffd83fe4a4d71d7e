r"""Derivatives of the two envelopes of a mixture kernel, of any order and exact at zero lag.

Gaussian: e(tau) = exp(-a tau^2), by the Hermite recurrence e^(n+1) = -2 a tau e^(n) - 2 a n e^(n-1).

Matern of smoothness nu = p + 1/2: e(tau) = P_0(s) exp(-s) with s = beta |tau|, beta = sqrt(2 nu) / length and a
polynomial P_0 of degree p. d/ds gives P_{n+1} = P_n' - P_n. Up to n = 2 p the odd P_n have no constant term, so that
e^(n) = beta^n P_n(s) exp(-s) for even n and beta^(n+1) tau (P_n(s) / s) exp(-s) for odd n: nothing is divided, and no
sign of tau is taken. Beyond 2 p the derivative jumps at zero.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eqs. (4.9) and (4.16).
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor


def gaussian_envelope(lags: Tensor, decay: Tensor, order: int) -> list[Tensor]:
    """The derivatives 0..order of exp(-decay lags^2) in the lag; `decay` and `lags` broadcast."""
    slope = -2 * decay * lags
    derivatives = [torch.exp(-decay * lags.square())]
    for n in range(order):
        following = slope * derivatives[n]
        derivatives.append(following - 2 * n * decay * derivatives[n - 1] if n else following)
    return derivatives


def matern_envelope(lags: Tensor, inverse_length: Tensor, order: int, p: int) -> list[Tensor]:
    """The derivatives 0..order <= 2 p of Matern's correlation of smoothness p + 1/2; the tensors broadcast."""
    beta = math.sqrt(2 * p + 1) * inverse_length
    s = beta * lags.abs()
    decay = torch.exp(-s)
    derivatives = []
    for n in range(order + 1):
        coefficients = matern_polynomial(p, n)
        odd = n % 2  # P_n(s) / s times beta tau, in which the sign of tau is already right
        value = beta.pow(n) * _horner(coefficients[odd:], s) * decay
        derivatives.append(value * (beta * lags) if odd else value)
    return derivatives


@lru_cache(maxsize=256)
def matern_polynomial(p: int, n: int) -> tuple[float, ...]:
    """Coefficients of P_n, lowest power first; exact rationals, rounded once."""
    return tuple(float(c) for c in _rational(p, n))


@lru_cache(maxsize=256)
def _rational(p: int, n: int) -> tuple[Fraction, ...]:
    if n == 0:
        return tuple(
            Fraction(
                math.factorial(p) * math.factorial(2 * p - k) * 2**k,
                math.factorial(2 * p) * math.factorial(p - k) * math.factorial(k),
            )
            for k in range(p + 1)
        )
    previous = _rational(p, n - 1)
    return tuple((k + 1) * c - previous[k] for k, c in enumerate((*previous[1:], Fraction(0))))


def _horner(coefficients: tuple[float, ...], s: Tensor) -> Tensor:
    total = torch.full_like(s, coefficients[-1]) if coefficients else torch.zeros_like(s)
    for c in reversed(coefficients[:-1]):
        total = total * s + c
    return total
