"""The functions phi_k of exponential integrators."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TERMS = 18  # of the Taylor series, whose remainder for |z| <= 1 is below 1 / 19!


def phi_functions(z: Tensor, count: int = 3) -> list[Tensor]:
    """phi_0(z) = exp(z), ..., phi_count(z), with phi_k(z) = (phi_{k-1}(z) - 1/(k-1)!) / z.

    For |z| < 1, where the recurrence cancels, the Taylor series sum_j z^j / (j + k)!. Real z gives
    real values; derivatives by autograd are finite everywhere.

    Args:
        z: Real or complex, any shape, float64 for full accuracy.
        count: Largest k.

    Source: Hochbruck and Ostermann, "Exponential integrators", Acta Numerica 19 (2010).
    """
    small = z.abs() < 1
    inside, outside = torch.where(small, z, torch.zeros_like(z)), torch.where(small, torch.ones_like(z), z)
    values = [torch.exp(z)]
    recurrence = torch.exp(outside)
    for k in range(1, count + 1):
        recurrence = (recurrence - 1 / math.factorial(k - 1)) / outside
        values.append(torch.where(small, _taylor(inside, k), recurrence))
    return values


def _taylor(z: Tensor, k: int) -> Tensor:
    value = torch.full_like(z, 1 / math.factorial(_TERMS + k))
    for j in reversed(range(_TERMS)):
        value = value * z + 1 / math.factorial(j + k)
    return value
