"""The inverse gamma distribution of an unknown noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError


@dataclass(frozen=True)
class InverseGamma:
    r"""s^2 with density b^a / Gamma(a) (s^2)^{-a-1} exp(-b / s^2), s^2 > 0.

    The conjugate prior of a Gaussian's variance; 1/s^2 is Gamma(a, b) with mean a / b. A weak prior
    around level 1 is `InverseGamma(2.0, 2.0)`.

    Args:
        shape: a > 0.
        rate: b > 0, in the unit of s^2 (dimensionless here: s^2 multiplies a nominal variance).

    Raises:
        ConfigError: If a or b is not positive and finite.
    """

    shape: float
    rate: float

    def __post_init__(self) -> None:
        for name in ("shape", "rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                message = f"`{name}` of the noise level should be positive and finite, got {value}; try 2.0."
                raise ConfigError(message)

    @property
    def mean(self) -> float:
        """E s^2 = b / (a - 1), infinite for a <= 1."""
        return self.rate / (self.shape - 1) if self.shape > 1 else math.inf

    @property
    def mode(self) -> float:
        """Largest density of s^2, b / (a + 1)."""
        return self.rate / (self.shape + 1)

    @property
    def precision(self) -> float:
        """E 1/s^2 = a / b."""
        return self.shape / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at s^2 > 0, elementwise."""
        constant = self.shape * math.log(self.rate) - math.lgamma(self.shape)
        return constant - (self.shape + 1) * value.log() - self.rate / value

    def sample(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of s^2 with the dtype and device of `like`, drawn on the generator's device."""
        alpha = torch.full(shape, self.shape, dtype=like.dtype, device=generator.device)
        return (self.rate / torch._standard_gamma(alpha, generator=generator)).to(like.device)
