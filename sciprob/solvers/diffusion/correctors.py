"""Langevin steps that leave the tempered posterior of one noise level unchanged, up to their step size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.solvers.diffusion.linear_algebra import LinearData
from sciprob.solvers.diffusion.twists import Twist


@dataclass(frozen=True)
class LangevinCorrector:
    r"""z += delta P grad log q + sqrt(2 delta) P^{1/2} noise, P = (I / v + A^T (I + g A A^T)^{-1} A)^{-1}.

    q is the prior at the level times exp(-phi). P is at least as small as the inverse curvature of -log q wherever the
    denoiser contracts, so that delta up to 1 is stable; the bias of the unadjusted step is of first order in delta.

    Args:
        denoiser: Of the prior.
        twist: phi.
        data: Linear data.
        steps: Steps, each with one network call.
        delta: Step size, about 0.3 to 0.6.
        variance: Variance c of the surrogate, for g = v c / (v + c).
    """

    denoiser: Denoiser
    twist: Twist
    data: LinearData
    steps: int
    delta: float
    variance: float = math.inf

    def apply(self, z: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """All steps at the variance v > 0."""
        g = v / (1 + v / self.variance)
        for _ in range(self.steps):
            ascent = (self.denoiser(z, math.sqrt(v)) - z) / v - self.twist.at(z, v).gradient
            noise = self.data.noise(z, v, g, generator)
            z = z + self.delta * self.data.precondition(ascent, v, g) + math.sqrt(2 * self.delta) * noise
        return z
