"""One noise level of a weighted ensemble: move and weigh; and the choice of the next level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciprob.errors import NonFiniteError
from sciprob.solvers.diffusion.moves import Move, Prepared
from sciprob.solvers.diffusion.particles import Particles
from sciprob.solvers.diffusion.resampling import conditional_effective_size, effective_size

Correct = Callable[[Tensor, float, torch.Generator], Tensor]
Choose = Callable[[Prepared, Particles], float]


@dataclass(frozen=True)
class LevelFigures:
    """What happened on the way to one level.

    Attributes:
        sigma: The level.
        ess: Smallest effective sample size of the sets over N.
        level_ess: The same of the weights of this level alone.
        kappa: Strength of guidance, None where the move has none.
    """

    sigma: float
    ess: float
    level_ess: float
    kappa: float | None


def advance(
    particles: Particles,
    move: Move,
    choose: Choose,
    generator: torch.Generator,
) -> tuple[Particles, LevelFigures]:
    """One level: move and weigh.

    Args:
        particles: At the present level.
        move: How to step.
        choose: The next variance, from what is prepared at this one.
        generator: Randomness.

    Raises:
        NonFiniteError: If all particles of a set have become infinite or NaN.
    """
    prepared = move.prepare(particles)
    after = choose(prepared, particles)
    z, increments, seen = prepared.move(after, generator)
    axes = increments.ndim
    alive = torch.isfinite(z.flatten(axes)).all(-1) & ~torch.isnan(increments)
    log_weights = torch.where(alive, particles.log_weights + increments, -math.inf)
    if not bool(torch.isfinite(log_weights).any(-1).all()):
        message = (
            f"no particle is left at noise level {math.sqrt(after):.3g}: all have become infinite or impossible; use "
            "the surrogate or inflation twist, more levels, or a smaller `sigma_max`."
        )
        raise NonFiniteError(message)
    # the dead have no weight, but their numbers would still reach the network
    z = torch.where(alive.reshape(*alive.shape, *(1,) * (z.ndim - axes)), z, 0.0)
    particles = replace(particles, z=z, log_weights=log_weights, v=after, seen=seen)
    own = torch.where(alive, increments, -math.inf)
    level_ess = float(effective_size(own).min()) / own.shape[-1]
    return particles, LevelFigures(math.sqrt(after), particles.ess, level_ess, prepared.kappa)


def tempered_level(prepared: Prepared, particles: Particles, farthest: float, target: float) -> float:
    """The smallest variance down to `farthest` at which the conditional effective sample size is `target` N.

    By bisection in sqrt(v), without network calls; at least 1/64 of the way is made.

    Args:
        prepared: What is known at the present level.
        particles: At the present level.
        farthest: Next level at most.
        target: Share of N in (0, 1).
    """
    count = particles.log_weights.shape[-1]
    start, end = math.sqrt(particles.v), math.sqrt(farthest)

    def enough(share: float) -> bool:
        after = farthest if share == 1 else (start + share * (end - start)) ** 2
        increments = prepared.increment(after).nan_to_num(nan=-math.inf)
        size = float(conditional_effective_size(particles.log_weights, increments).min())
        return size >= target * count

    if enough(1.0):
        return farthest
    low, high = 1 / 64, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return (start + low * (end - start)) ** 2
