"""Weighted particles at one noise level."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciprob.solvers.diffusion.resampling import effective_size, log_mean_exp, systematic_indices, take


@dataclass(frozen=True)
class Seen:
    """What the network and the operator said of particles; it is resampled with them.

    Attributes:
        denoised: D(z, sqrt(v)), `(*sets, N, *shape)`.
        residual: r(D), `(*sets, N, m)`.
        twist: phi, `(*sets, N)`, by which the particles have been weighted.
        gradient: Gradient of phi in z, where the move needs it.
    """

    denoised: Tensor
    residual: Tensor
    twist: Tensor
    gradient: Tensor | None = None


@dataclass(frozen=True)
class Particles:
    """Particles of one or several data sets at one noise level.

    Attributes:
        z: `(*sets, N, *shape)`.
        log_weights: `(*sets, N)`, float64.
        log_evidence: Log of the evidence gathered before the last resampling, `(*sets,)`, without the data's constant.
        ancestors: Particle at the first level that each descends from, `(*sets, N)`.
        v: Noise variance.
        seen: For moves that carry it along.
    """

    z: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    ancestors: Tensor
    v: float
    seen: Seen | None = None

    @classmethod
    def first(cls, z: Tensor, log_evidence: Tensor, v: float, seen: Seen | None = None) -> Particles:
        """Equally weighted particles; `z (*sets, N, *shape)`, `log_evidence (*sets,)`."""
        sets = log_evidence.ndim
        weights = torch.zeros(z.shape[: sets + 1], dtype=torch.float64, device=z.device)
        ancestors = torch.arange(z.shape[sets], device=z.device).expand(weights.shape).clone()
        return cls(z, weights, log_evidence.double(), ancestors, v, seen)

    @property
    def evidence(self) -> Tensor:
        """Log of the evidence including the present weights, `(*sets,)`."""
        return self.log_evidence + log_mean_exp(self.log_weights)

    @property
    def ess(self) -> float:
        """Smallest effective sample size of the sets, over N."""
        return float(effective_size(self.log_weights).min()) / self.log_weights.shape[-1]


def resample(particles: Particles, threshold: float, generator: torch.Generator) -> tuple[Particles, bool]:
    """Systematic resampling of the sets whose effective sample size is below `threshold` N; whether there were any."""
    count = particles.log_weights.shape[-1]
    poor = effective_size(particles.log_weights) < threshold * count
    if not bool(poor.any()):
        return particles, False
    stay = torch.arange(count, device=poor.device).expand(particles.log_weights.shape)
    indices = torch.where(poor[..., None], systematic_indices(particles.log_weights, generator), stay)
    gained = torch.where(poor, log_mean_exp(particles.log_weights), 0.0)
    chosen = replace(
        particles,
        z=take(particles.z, indices),
        log_weights=torch.where(poor[..., None], 0.0, particles.log_weights),
        log_evidence=particles.log_evidence + gained,
        ancestors=take(particles.ancestors, indices),
        seen=None if particles.seen is None else _taken(particles.seen, indices),
    )
    return chosen, True


def _taken(seen: Seen, indices: Tensor) -> Seen:
    gradient = None if seen.gradient is None else take(seen.gradient, indices)
    return Seen(take(seen.denoised, indices), take(seen.residual, indices), take(seen.twist, indices), gradient)
