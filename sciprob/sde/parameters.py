"""Hurst indices, kinds and normalisations: names and checks."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError

Kind = Literal["I", "II"]
Normalisation = Literal["unit", "gamma"]


def as_double(value: Tensor | float, device: torch.device | None = None) -> Tensor:
    """A float64 tensor; numbers keep all their digits, which `torch.as_tensor` alone would round to float32."""
    return value.double() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64, device=device)


def check_hurst(hurst: Tensor | float) -> Tensor:
    """The Hurst index as a float64 tensor.

    Raises:
        ConfigError: If it does not lie strictly between 0 and 1.
    """
    value = as_double(hurst)
    if not bool(((value > 0) & (value < 1)).all()):
        wrong = float(value[~((value > 0) & (value < 1))].flatten()[0])
        message = f"`hurst` should lie strictly between 0 and 1, got {wrong:g}."
        raise ConfigError(message)
    return value


def check_times(times: Tensor, name: str = "times") -> Tensor:
    """Times as a float64 vector.

    Raises:
        DataError: If they are not a vector of finite, non-negative numbers.
    """
    if times.ndim != 1:
        message = f"`{name}` should be one vector shared by the batch, got shape {tuple(times.shape)}."
        raise DataError(message)
    wrong = ~(times.isfinite() & (times >= 0))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        message = f"`{name}` should be finite and not before 0, got {float(times[row]):g} in row {row}."
        raise DataError(message)
    return times.double()


def variance_at_one(hurst: Tensor, *, kind: Kind, normalisation: Normalisation) -> Tensor:
    r"""Variance of the noise at t = 1, float64.

    With the kernel (t - s)^{H - 1/2} / Gamma(H + 1/2) ("gamma") that is
    V_H = 1 / (Gamma(2H + 1) sin(pi H)) for type I and 1 / (2H Gamma(H + 1/2)^2) for type II;
    "unit" divides the noise by its root.

    Raises:
        ConfigError: If `kind` or `normalisation` is not a known name.
    """
    if kind not in ("I", "II"):
        message = f"`kind` should be 'I' (stationary increments) or 'II' (Riemann-Liouville), got {kind!r}."
        raise ConfigError(message)
    if normalisation not in ("unit", "gamma"):
        message = f"`normalisation` should be 'unit' or 'gamma', got {normalisation!r}."
        raise ConfigError(message)
    h = hurst.double()
    if normalisation == "unit":
        return torch.ones_like(h)
    return gamma_variance(h, kind)


def gamma_variance(h: Tensor, kind: Kind) -> Tensor:
    """Variance at t = 1 of the noise with the kernel (t - s)^{H - 1/2} / Gamma(H + 1/2)."""
    if kind == "I":
        return torch.exp(-torch.lgamma(2 * h + 1)) / torch.sin(math.pi * h)
    return torch.exp(-2 * torch.lgamma(h + 0.5)) / (2 * h)
