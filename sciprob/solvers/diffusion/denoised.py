"""Moves whose twist sees the denoised particles: for nonlinear operators, and for priors far from their surrogate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.solvers.diffusion.surrogate import Surrogate

Observe = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Denoised:
    """What the network and the operator said of particles; it moves with them.

    Attributes:
        mean: D(z, sqrt(v)), `(*sets, N, *shape)`.
        residual: r(D), `(*sets, N, m)`.
        twist: phi, `(*sets, N)`, as it was when the particles came to their level.
    """

    mean: Tensor
    residual: Tensor
    twist: Tensor


@dataclass(frozen=True)
class DenoisedMove:
    r"""Path weights with phi(z, v) = r(D)^T S_v^{-1} r(D) / 2 + log det S_v / 2, D = D(z, sqrt(v)), for any operator.

    The chain M(z' | z) = N(z + (1 - v'/v)(D - z), T) of the prior is tilted by these twists. Particles are proposed
    from M times the Gaussian that a linear operator would make of exp(-phi(z', v')), with
    r(D(z', v')) = r(D) + A F (z' - E z'), F the surrogate's filter and A one linearisation for all particles, and
    weighted by what that leaves out: no derivative of network or operator is taken, one call of each per level. The
    target is the tilted chain for any number of steps; unbiased evidence, whatever A and the surrogate are.

    Args:
        denoiser: Of the prior.
        surrogate: For F, T and S_v, with a linear operator A.
        observe: x -> r(x), whitened residuals of the operator itself.

    Source: the twist is that of Wu et al., NeurIPS 2023, arXiv 2306.17775; the proposal is the optimal one of Cardoso
    et al., ICLR 2024, arXiv 2308.07983, for the linearised operator.
    """

    denoiser: Denoiser
    surrogate: Surrogate
    observe: Observe

    def look(self, z: Tensor, v: float) -> Denoised:
        """One network call and one forward solve."""
        mean = z if v == 0 else self.denoiser(z, math.sqrt(v))
        residual = self.observe(mean)
        return Denoised(mean, residual, self.surrogate.twist(residual, v))

    def prepare(self, z: Tensor, log_weights: Tensor, v: float, seen: Denoised) -> DenoisedStep:
        """Nothing new is needed."""
        return DenoisedStep(self, z, v, seen)


@dataclass
class DenoisedStep:
    """Particles at one level, ready to go to any next one."""

    method: DenoisedMove
    z: Tensor
    v: float
    seen: Denoised
    figures: dict[str, float] = field(default_factory=dict)

    def increment(self, after: float) -> Tensor:
        """The part of the weights that is known before the step: evidence of the linear model over the present twist."""
        return self.method.surrogate.evidence(self.seen.residual, self.v, after) + self.seen.twist

    def move(self, after: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Denoised]:
        """Particles, log incremental weights and what is seen there."""
        surrogate, seen = self.method.surrogate, self.seen
        mean = seen.mean + after / self.v * (self.z - seen.mean)
        z = surrogate.conditioned(mean, seen.residual, self.v, after, generator)
        linear = seen.residual + surrogate.data.forward(surrogate.filter(z - mean, after))
        ahead = self.method.look(z, after)
        increment = self.increment(after) + surrogate.twist(linear, after) - ahead.twist
        return z, increment, ahead
