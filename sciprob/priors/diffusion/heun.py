"""Heun's method in sigma, with optional churn: the sampler of EDM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.sampler import Denoise, check_levels
from sciprob.random import randn


@dataclass(frozen=True)
class HeunSampler:
    """Trapezoidal steps of dz/dsigma = (z - D) / sigma, second order, two network calls per step.

    A step to level 0 is the Euler step z = D(z), one call. Unlike the exponential integrators it depends on
    sigma as the time variable, and for steps that are large in log sigma it overshoots: take 15 steps or more.

    Args:
        churn: S_churn >= 0: each step first raises sigma by the factor 1 + min(churn / steps, sqrt 2 - 1) with
            fresh noise. 0 is the probability flow.
        churn_min: Smallest level with churn.
        churn_max: Largest level with churn.
        noise_scale: S_noise, factor on that noise; above 1 it makes up for a network that removes too much.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Karras, Aittala, Aila, Laine, NeurIPS 2022, arXiv 2206.00364, algorithms 1 and 2.
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (self.churn >= 0 and 0 <= self.churn_min <= self.churn_max and self.noise_scale >= 0):
            message = (
                "Heun's sampler needs churn >= 0, 0 <= churn_min <= churn_max and noise_scale >= 0, "
                f"got {self.churn}, {self.churn_min}, {self.churn_max}, {self.noise_scale}."
            )
            raise ConfigError(message)

    def calls(self, levels: Tensor) -> int:
        """Network calls of a run over these levels."""
        return 2 * (len(levels) - 1) - (1 if float(levels[-1]) == 0 else 0)

    def run(self, denoise: Denoise, z: Tensor, levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Move z from the first level to the last; arguments as in `MultistepSampler.run`.

        Raises:
            ConfigError: For wrong levels, or churn without a generator.
        """
        sigmas = check_levels(levels)
        if self.churn > 0 and generator is None:
            message = "churn needs a `generator`."
            raise ConfigError(message)
        gain = min(self.churn / (len(sigmas) - 1), math.sqrt(2) - 1)
        for start, end in pairwise(sigmas):
            if generator is not None and gain > 0 and self.churn_min <= start <= self.churn_max:
                raised = start * (1 + gain)
                spread = self.noise_scale * math.sqrt(raised**2 - start**2)
                z, start = z + spread * randn(tuple(z.shape), z, generator), raised
            slope = (z - denoise(z, start)) / start
            there = z + (end - start) * slope
            if end > 0:
                there = z + (end - start) / 2 * (slope + (there - denoise(there, end)) / end)
            z = there
        return z
