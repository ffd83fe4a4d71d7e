"""Weighted particles on their way down the noise levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciprob.solvers.diffusion.moves import Move, Prepared
from sciprob.solvers.diffusion.resampling import (
    conditional_effective_size,
    effective_size,
    log_mean_exp,
    systematic_indices,
    take,
)

Correct = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Particles:
    """Particles of one or several data sets at one noise level.

    Attributes:
        z: `(*sets, N, *shape)`.
        log_weights: `(*sets, N)`, float64.
        log_evidence: Log of the evidence gathered in earlier resampling, `(*sets,)`, without the data's constant.
        v: Noise variance.
        resampled: Whether this level began with resampling, share of the sets.
        ess: Smallest effective sample size of the sets over N, before resampling.
        kappa: Strength of guidance of the last move, NaN where it has none.
    """

    z: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    v: float
    resampled: float = 0.0
    ess: float = 1.0
    kappa: float = math.nan

    @property
    def evidence(self) -> Tensor:
        """Log of the evidence including the present weights, `(*sets,)`."""
        return self.log_evidence + log_mean_exp(self.log_weights)


def advance(
    particles: Particles,
    move: Move,
    choose: Callable[[Prepared, Particles], float],
    generator: torch.Generator,
    *,
    threshold: float,
    correct: Correct | None = None,
) -> Particles:
    """One level: move, weigh, resample the sets whose effective sample size is below `threshold` N, correct.

    Args:
        particles: At the present level.
        move: How to step.
        choose: The next variance, from what is prepared at this one.
        generator: Randomness.
        threshold: Share of N; 0 never resamples.
        correct: Steps that leave the law at the new level unchanged.
    """
    prepared = move.prepare(particles.z, particles.log_weights, particles.v)
    after = choose(prepared, particles)
    z, increments = prepared.move(after, generator)
    alive = torch.isfinite(z.flatten(particles.log_weights.ndim)).all(-1) & ~torch.isnan(increments)
    log_weights = torch.where(alive, particles.log_weights + increments, -math.inf)
    particles = replace(
        particles,
        z=torch.where(alive.reshape(*alive.shape, *(1,) * (z.ndim - alive.ndim)), z, 0.0),
        log_weights=log_weights,
        v=after,
        kappa=prepared.figures.get("kappa", math.nan),
    )
    particles = resample(particles, threshold, generator)
    if correct is not None and after > 0:
        particles = replace(particles, z=correct(particles.z, after, generator))
    return particles


def resample(particles: Particles, threshold: float, generator: torch.Generator) -> Particles:
    """Systematic resampling of the sets that need it."""
    count = particles.log_weights.shape[-1]
    size = effective_size(particles.log_weights)
    ess = float(size.min()) / count
    poor = size < threshold * count
    if not bool(poor.any()):
        return replace(particles, ess=ess, resampled=0.0)
    stay = torch.arange(count, device=poor.device).expand(particles.log_weights.shape)
    indices = torch.where(poor[..., None], systematic_indices(particles.log_weights, generator), stay)
    gained = torch.where(poor, log_mean_exp(particles.log_weights), 0.0)
    return replace(
        particles,
        z=take(particles.z, indices),
        log_weights=torch.where(poor[..., None], 0.0, particles.log_weights),
        log_evidence=particles.log_evidence + gained,
        ess=ess,
        resampled=float(poor.double().mean()),
    )


def tempered_level(
    prepared: Prepared, particles: Particles, farthest: float, target: float, *, halvings: int = 12
) -> float:
    """The smallest variance down to `farthest` at which the conditional effective sample size is `target` N.

    By bisection in sqrt(v), without further network calls; at least 2^{-6} of the way is made.

    Args:
        prepared: What is known at the present level.
        particles: At the present level.
        farthest: Next level at most.
        target: Share of N in (0, 1).
        halvings: Bisection steps.
    """
    count = particles.log_weights.shape[-1]

    def share(after: float) -> float:
        increments = prepared.increment(after).nan_to_num(nan=-math.inf)
        return float(conditional_effective_size(particles.log_weights, increments).min()) / count

    start, end = math.sqrt(particles.v), math.sqrt(farthest)
    if share(farthest) >= target:
        return farthest
    low, high = 2.0**-6, 1.0  # share of the way
    for _ in range(halvings):
        middle = (low + high) / 2
        if share((start + middle * (end - start)) ** 2) >= target:
            low = middle
        else:
            high = middle
    return (start + low * (end - start)) ** 2
