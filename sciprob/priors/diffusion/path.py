"""Noise schedules: how signal and noise are mixed along time, as functions of the log signal-to-noise ratio.

A linear path x_t = alpha x + beta e, e standard normal, is fixed by log alpha(t) and
lambda(t) = log(alpha / beta). In z = x_t / alpha with sigma = e^{-lambda} all paths are one, so samplers and
ensembles never see a schedule; it is needed to use a network that was trained along one.

Time t is 0 at the data and grows with the noise. Flow matching often counts the other way: its time is 1 - t
and its velocity the negative of the one here.

Everything is written so that both ends keep full relative precision: 1 - alpha^2 is never formed by subtraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError


class Path:
    """A linear path; subclasses give log alpha, lambda, its inverse and two rates, elementwise in t.

    Sources: Song et al., ICLR 2021, arXiv 2011.13456 (VP, VE, sub-VP); Nichol and Dhariwal, ICML 2021,
    arXiv 2102.09672 (cosine); Karras et al., NeurIPS 2022, arXiv 2206.00364 (EDM); Lipman et al., ICLR 2023,
    arXiv 2210.02747 (conditional optimal transport); Luo et al., ICML 2023, arXiv 2301.11699 (mean reverting).
    """

    def log_alpha(self, t: Tensor) -> Tensor:
        """Log of the signal's factor."""
        raise NotImplementedError

    def log_snr(self, t: Tensor) -> Tensor:
        """The log ratio lambda = log(alpha / beta), falling in t."""
        raise NotImplementedError

    def time(self, log_snr: Tensor) -> Tensor:
        """The t of a lambda."""
        raise NotImplementedError

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """Derivative of log alpha in t, not positive."""
        raise NotImplementedError

    def log_beta_rate(self, t: Tensor) -> Tensor:
        """Derivative of log beta in t, positive."""
        raise NotImplementedError

    def log_snr_rate(self, t: Tensor) -> Tensor:
        """Derivative of lambda in t, negative; a sum without cancellation."""
        return self.log_alpha_rate(t) - self.log_beta_rate(t)

    def alpha(self, t: Tensor) -> Tensor:
        """Factor of the signal."""
        return self.log_alpha(t).exp()

    def beta(self, t: Tensor) -> Tensor:
        """Factor of the noise."""
        return (self.log_alpha(t) - self.log_snr(t)).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Noise level beta / alpha of z = x_t / alpha."""
        return (-self.log_snr(t)).exp()

    def time_of_level(self, sigma: Tensor) -> Tensor:
        """The t at which beta / alpha is `sigma`."""
        return self.time(-sigma.log())


@dataclass(frozen=True)
class VarianceExploding(Path):
    """alpha = 1, beta = t: the coordinates of EDM, in which everything here is computed."""

    def log_alpha(self, t: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(t)

    def log_snr(self, t: Tensor) -> Tensor:
        """-log t."""
        return -t.log()

    def time(self, log_snr: Tensor) -> Tensor:
        """e^{-lambda}."""
        return (-log_snr).exp()

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """Zero."""
        return torch.zeros_like(t)

    def log_beta_rate(self, t: Tensor) -> Tensor:
        """1 / t."""
        return 1 / t


@dataclass(frozen=True)
class VariancePreserving(Path):
    """alpha = e^{-T/2}, beta^2 = 1 - e^{-T}, T = beta_min t + (beta_max - beta_min) t^2 / 2, t in [0, 1].

    Args:
        beta_min: Rate at the data, >= 0.
        beta_max: Rate at the noise, >= beta_min and > 0.

    Raises:
        ConfigError: If the rates are out of range.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta_min <= self.beta_max < math.inf or not self.beta_max > 0:
            message = f"rates should be 0 <= beta_min <= beta_max, got {self.beta_min} and {self.beta_max}."
            raise ConfigError(message)

    def _total(self, t: Tensor) -> Tensor:
        return t * (self.beta_min + (self.beta_max - self.beta_min) * t / 2)

    def _rate(self, t: Tensor) -> Tensor:
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _time_of_total(self, total: Tensor) -> Tensor:
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * total).sqrt()
        return 2 * total / (self.beta_min + root)  # the quadratic's root without cancellation

    def log_alpha(self, t: Tensor) -> Tensor:
        """-T / 2."""
        return -self._total(t) / 2

    def log_snr(self, t: Tensor) -> Tensor:
        """-log(e^T - 1) / 2."""
        total = self._total(t)
        return -(total + (-torch.expm1(-total)).log()) / 2

    def time(self, log_snr: Tensor) -> Tensor:
        """From T = log(1 + e^{-2 lambda})."""
        return self._time_of_total(torch.nn.functional.softplus(-2 * log_snr, threshold=700.0))

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """-T' / 2."""
        return -self._rate(t) / 2

    def log_beta_rate(self, t: Tensor) -> Tensor:
        """T' / (2 (e^T - 1))."""
        return self._rate(t) / (2 * torch.expm1(self._total(t)))


@dataclass(frozen=True)
class SubVariancePreserving(VariancePreserving):
    """alpha = e^{-T/2}, beta = 1 - e^{-T}, T as in `VariancePreserving`."""

    def log_snr(self, t: Tensor) -> Tensor:
        """-log(2 sinh(T / 2))."""
        total = self._total(t)
        return -(total / 2 + (-torch.expm1(-total)).log())

    def time(self, log_snr: Tensor) -> Tensor:
        """From T = 2 asinh(sigma / 2)."""
        return self._time_of_total(2 * ((-log_snr).exp() / 2).asinh())

    def log_beta_rate(self, t: Tensor) -> Tensor:
        """T' / (e^T - 1)."""
        return self._rate(t) / torch.expm1(self._total(t))


@dataclass(frozen=True)
class Cosine(Path):
    """alpha = cos(theta) / cos(theta_0), alpha^2 + beta^2 = 1, theta = (pi/2) (t + s) / (1 + s), t in [0, 1).

    Args:
        offset: s >= 0; 0 is the trigonometric path alpha = cos(pi t / 2), beta = sin(pi t / 2).

    Raises:
        ConfigError: If the offset is negative.
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if not 0 <= self.offset < math.inf:
            message = f"`offset` of a cosine path should not be negative, got {self.offset}."
            raise ConfigError(message)

    @property
    def _speed(self) -> float:
        return math.pi / 2 / (1 + self.offset)

    def _angles(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The angles theta - theta_0 and theta + theta_0; beta^2 cos^2 theta_0 is the product of their sines."""
        travelled = self._speed * t
        return travelled, travelled + 2 * self._speed * self.offset

    def _cos(self, t: Tensor) -> Tensor:
        return (self._speed * (1 - t)).sin()  # keeps its precision at t = 1

    def _sin(self, t: Tensor) -> Tensor:
        return (self._speed * (t + self.offset)).sin()

    def log_alpha(self, t: Tensor) -> Tensor:
        """Logarithm of cos theta / cos theta_0, from alpha^2 = 1 - beta^2 near the data."""
        low, high = self._angles(t)
        start = math.cos(self._speed * self.offset)
        near = torch.log1p(-(low.sin() * high.sin() / start**2).clamp_max(0.5)) / 2
        return torch.where(low + self._speed * self.offset < 0.6, near, (self._cos(t) / start).log())

    def log_snr(self, t: Tensor) -> Tensor:
        """Logarithm of cos theta / (sin(theta - theta_0) sin(theta + theta_0))^{1/2}."""
        low, high = self._angles(t)
        return self._cos(t).log() - (low.sin() * high.sin()).log() / 2

    def time(self, log_snr: Tensor) -> Tensor:
        """From tan^2 theta = sigma^2 / cos^2 theta_0 + tan^2 theta_0."""
        start = self._speed * self.offset
        excess = (-2 * log_snr).exp() / math.cos(start) ** 2
        tangent = (excess + math.tan(start) ** 2).sqrt()
        difference = excess / (tangent + math.tan(start))
        return (difference / (1 + tangent * math.tan(start))).atan() / self._speed

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """-theta' tan theta."""
        return -self._speed * self._sin(t) / self._cos(t)

    def log_beta_rate(self, t: Tensor) -> Tensor:
        """-(log alpha)' alpha^2 / beta^2."""
        low, high = self._angles(t)
        return self._speed * self._sin(t) * self._cos(t) / (low.sin() * high.sin())


@dataclass(frozen=True)
class OptimalTransport(Path):
    """alpha = 1 - t, beta = t, t in [0, 1]: straight lines from data to noise (CondOT, rectified flow)."""

    def log_alpha(self, t: Tensor) -> Tensor:
        """log(1 - t)."""
        return torch.log1p(-t)

    def log_snr(self, t: Tensor) -> Tensor:
        """log(1 - t) - log t."""
        return torch.log1p(-t) - t.log()

    def time(self, log_snr: Tensor) -> Tensor:
        """1 / (1 + e^lambda)."""
        return torch.sigmoid(-log_snr)

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """-1 / (1 - t)."""
        return -1 / (1 - t)

    def log_beta_rate(self, t: Tensor) -> Tensor:
        """1 / t."""
        return 1 / t


@dataclass(frozen=True)
class MeanReverting(Path):
    """x_t - mu = alpha (x - mu) + beta e, alpha = e^{-rate t}, beta = spread (1 - alpha^2)^{1/2}.

    mu, the degraded field the process returns to, is no part of the schedule: subtract it from x_t and from x.

    Args:
        rate: > 0.
        spread: Standard deviation of x_t - mu at large t, > 0.

    Raises:
        ConfigError: If a value is not positive.
    """

    rate: float = 1.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.spread > 0):
            message = f"`rate` and `spread` of a path should be positive, got {self.rate} and {self.spread}."
            raise ConfigError(message)

    def log_alpha(self, t: Tensor) -> Tensor:
        """-rate t."""
        return -self.rate * t

    def log_snr(self, t: Tensor) -> Tensor:
        """-log spread - log(e^{2 rate t} - 1) / 2."""
        total = 2 * self.rate * t
        return -math.log(self.spread) - (total + (-torch.expm1(-total)).log()) / 2

    def time(self, log_snr: Tensor) -> Tensor:
        """log(1 + (sigma / spread)^2) / (2 rate)."""
        scaled = -2 * (log_snr + math.log(self.spread))
        return torch.nn.functional.softplus(scaled, threshold=700.0) / (2 * self.rate)

    def log_alpha_rate(self, t: Tensor) -> Tensor:
        """-rate."""
        return torch.full_like(t, -self.rate)

    def log_beta_rate(self, t: Tensor) -> Tensor:
        """The rate over e^{2 rate t} - 1."""
        return self.rate / torch.expm1(2 * self.rate * t)
