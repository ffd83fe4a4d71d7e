r"""Gaussian processes beside `AffineSDE`: fractional Gaussian noise as a series, and a Hurst index that changes.

All have `mean(times)` and `covariance(s, t)` in float64, without approximation; see `GaussianPath`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sciprob.sde.covariance import multifractional_covariance, power
from sciprob.sde.parameters import Normalisation, as_double, check_hurst, check_times, variance_at_one


class GaussianPath(Protocol):
    """A Gaussian process in time, perhaps a batch of them."""

    def mean(self, times: Tensor) -> Tensor:
        """`(*batch, n)`, float64."""
        ...

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """`(*batch, n, m)`, float64."""
        ...


@dataclass(frozen=True)
class NoiseSeries:
    r"""x(t) = level + scale (B(t + step) - B(t)), level ~ N(mean, std^2) independent of B of type I.

    At multiples of `step` this is fractional Gaussian noise; between them its moving difference.

    Args:
        hurst: H in (0, 1), `(*batch,)` as all numbers here.
        scale: sigma.
        mean_level: Mean of the level.
        level_std: Standard deviation of the level, which is integrated out.
        step: Length of the increments.
        normalisation: Of B.
    """

    hurst: Tensor | float
    scale: Tensor | float = 1.0
    mean_level: Tensor | float = 0.0
    level_std: Tensor | float = 0.0
    step: float = 1.0
    normalisation: Normalisation = "unit"

    def mean(self, times: Tensor) -> Tensor:
        """The mean level at `times (n,)`."""
        level = as_double(self.mean_level)[..., None]
        return level * torch.ones_like(check_times(times))

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """sigma^2 (|d + h|^2H - 2 |d|^2H + |d - h|^2H) / 2 + level_std^2, d = t - s, h = step."""
        h = check_hurst(self.hurst)
        variance = variance_at_one(h, kind="I", normalisation=self.normalisation) * as_double(self.scale).square()
        lag, two_h = check_times(t) - check_times(s)[:, None], 2 * h[..., None, None]
        sides = power((lag + self.step).abs(), two_h) + power((lag - self.step).abs(), two_h)
        noise = variance[..., None, None] / 2 * (sides - 2 * power(lag.abs(), two_h))
        return noise + as_double(self.level_std).square()[..., None, None]


@dataclass(frozen=True)
class MultifractionalPath:
    r"""x(t) = x(0) + scale B(t), B(t) = int_0^t (t - u)^{H(t) - 1/2} dW(u) / Gamma(H(t) + 1/2) for "gamma".

    The value form of a Hurst index that changes: the variance of B at t depends on H(t) alone.

    Args:
        hurst: H of times: `(n,)` -> `(*batch, n)`.
        scale: sigma, `(*batch,)`.
        initial_mean: Mean of x(0).
        initial_std: Its standard deviation.
        normalisation: Of B.
    """

    hurst: Callable[[Tensor], Tensor]
    scale: Tensor | float = 1.0
    initial_mean: Tensor | float = 0.0
    initial_std: Tensor | float = 0.0
    normalisation: Normalisation = "unit"

    def mean(self, times: Tensor) -> Tensor:
        """The initial mean at `times (n,)`."""
        return as_double(self.initial_mean)[..., None] * torch.ones_like(check_times(times))

    def covariance(self, s: Tensor, t: Tensor) -> Tensor:
        """scale^2 times that of the noise, + initial_std^2."""
        noise = multifractional_covariance(s, t, self.hurst(s), self.hurst(t), normalisation=self.normalisation)
        square = as_double(self.scale).square()[..., None, None]
        return square * noise + as_double(self.initial_std).square()[..., None, None]
