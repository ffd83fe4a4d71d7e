"""Moves of particles from one noise level to the next, with their incremental weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.random import randn
from sciprob.solvers.diffusion.kappa import adaptive_kappa, rates
from sciprob.solvers.diffusion.particles import Particles, Seen
from sciprob.solvers.diffusion.surrogate import Surrogate, Transition
from sciprob.solvers.diffusion.twists import Twist, event_inner

Moved = tuple[Tensor, Tensor, Seen | None]


class Prepared(Protocol):
    """All that needs the network at one level; any next level can then be tried."""

    @property
    def kappa(self) -> float | None:
        """Strength of guidance, where the move has one."""
        ...

    def increment(self, after: float) -> Tensor:
        """Log incremental weights `(*sets, N)` of a step to the variance `after`, as far as known before it."""
        ...

    def move(self, after: float, generator: torch.Generator) -> Moved:
        """Particles at `after`, their log incremental weights, and what was seen there."""
        ...


class Move(Protocol):
    """A way to step."""

    def look(self, z: Tensor, v: float) -> Seen | None:
        """What the move carries along with particles, for those that come from elsewhere."""
        ...

    def prepare(self, particles: Particles) -> Prepared:
        """Network calls at the particles' level."""
        ...


@dataclass(frozen=True)
class ContinuousMove:
    """Euler steps of dz = (S - kappa grad phi) dv + dW with Feynman-Kac weights, d log w = (g_0 + kappa g_1) dv.

    Exact as steps become small, at first order. kappa = 1 is the published stochastic method, kappa = 1/2 the
    corrector form whose weight needs no Laplacian, None adapts kappa to the ensemble.

    Args:
        denoiser: Of the prior.
        twist: phi.
        kappa: Strength of guidance, or None.

    Source: Chen, Ren, Min, Ying, Izzo, arXiv 2506.03979 (2025).
    """

    denoiser: Denoiser
    twist: Twist
    kappa: float | None = None

    def look(self, z: Tensor, v: float) -> Seen | None:
        """Nothing."""
        return None

    def prepare(self, particles: Particles) -> Prepared:
        """Score, twist, kappa and the weight rate."""
        z, v, axes = particles.z, particles.v, len(self.denoiser.space.shape)
        score = (self.denoiser(z, math.sqrt(v)) - z) / v
        twist = self.twist.at(z, v)
        along = event_inner(score, twist.gradient, axes)
        if self.kappa == 0.5:  # no Laplacian, which need not be known then
            rate, kappa = twist.slope - along / 2, along.new_full((*along.shape[:-1], 1), 0.5)
        else:
            square = event_inner(twist.gradient, twist.gradient, axes)
            fixed, slope = rates(along, square, twist.laplacian, twist.slope)
            if self.kappa is None:
                kappa = adaptive_kappa(particles.log_weights, fixed, slope)
            else:
                kappa = along.new_full((*along.shape[:-1], 1), self.kappa)
            rate = fixed + kappa * slope
        drift = score - kappa.to(z).reshape(*kappa.shape, *(1,) * axes) * twist.gradient
        return _EulerStep(z, v, drift, rate, float(kappa.mean()))


@dataclass(frozen=True)
class _EulerStep:
    z: Tensor
    v: float
    drift: Tensor
    rate: Tensor
    kappa: float | None

    def increment(self, after: float) -> Tensor:
        return (self.v - after) * self.rate

    def move(self, after: float, generator: torch.Generator) -> Moved:
        step = self.v - after
        z = self.z + step * self.drift + math.sqrt(step) * randn(tuple(self.z.shape), self.z, generator)
        return z, self.increment(after), None


@dataclass(frozen=True)
class FlowMove:
    """The probability flow dz = S dv / 2 with weights phi(z, v) - phi(z', v'): the published deterministic method.

    Alone it leaves copies of resampled particles together; use it with correctors.

    Args:
        denoiser: Of the prior.
        twist: phi.
        order: 1 (Euler) or 2 (Heun, two network calls a step but the last).
    """

    denoiser: Denoiser
    twist: Twist
    order: Literal[1, 2] = 2

    def look(self, z: Tensor, v: float) -> Seen | None:
        """Nothing."""
        return None

    def prepare(self, particles: Particles) -> Prepared:
        """The slope at the present level."""
        z, v = particles.z, particles.v
        slope = (z - self.denoiser(z, math.sqrt(v))) / math.sqrt(v)
        return _FlowStep(self, z, v, slope, self.twist.value(z, v))


@dataclass(frozen=True)
class _FlowStep:
    method: FlowMove
    z: Tensor
    v: float
    slope: Tensor
    before: Tensor
    kappa: float | None = None

    def increment(self, after: float) -> Tensor:
        return self.before - self.method.twist.value(self._euler(after), after)

    def move(self, after: float, generator: torch.Generator) -> Moved:
        z = self._euler(after)
        if self.method.order == 2 and after > 0:
            sigma, end = math.sqrt(self.v), math.sqrt(after)
            ahead = (z - self.method.denoiser(z, end)) / end
            z = self.z + (end - sigma) * (self.slope + ahead) / 2
        return z, self.before - self.method.twist.value(z, after), None

    def _euler(self, after: float) -> Tensor:
        return self.z + (math.sqrt(after) - math.sqrt(self.v)) * self.slope


@dataclass(frozen=True)
class ConditionedMove:
    r"""The optimal step for linear data: z' from M(z' | z) exp(-phi(z', v')), weighted by the integral of that.

    M(z' | z) = N(z + (1 - v'/v)(D - z), T), with T the covariance of the surrogate's own transition (of a point, where
    the surrogate is flat). The target is the chain of these M, tilted by the data, for any number of steps: evidence
    estimates are unbiased for it, and exact where prior and surrogate are the same Gaussian.

    Args:
        denoiser: Of the prior.
        surrogate: The surrogate with its data; phi is its twist.
    """

    denoiser: Denoiser
    surrogate: Surrogate

    def look(self, z: Tensor, v: float) -> Seen | None:
        """Nothing."""
        return None

    def prepare(self, particles: Particles) -> Prepared:
        """The denoised particles."""
        z, v = particles.z, particles.v
        before = self.surrogate.twist(self.surrogate.residual(z, v), v)
        return _ConditionedStep(self.surrogate, z, v, self.denoiser(z, math.sqrt(v)), before)


@dataclass(frozen=True)
class _ConditionedStep:
    surrogate: Surrogate
    z: Tensor
    v: float
    denoised: Tensor
    before: Tensor
    kappa: float | None = None

    def increment(self, after: float) -> Tensor:
        return self._at(after)[2]

    def move(self, after: float, generator: torch.Generator) -> Moved:
        mean, residual, increment = self._at(after)
        down = Transition.down(self.v, after)
        return self.surrogate.conditioned(mean, residual, after, down, generator), increment, None

    def _at(self, after: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = self.denoised + after / self.v * (self.z - self.denoised)
        residual = self.surrogate.residual(mean, after)
        gained = self.surrogate.evidence(residual, after, Transition.down(self.v, after))
        return mean, residual, gained + self.before


@dataclass(frozen=True)
class RenoisingCorrector:
    r"""Steps z -> z'' -> z that leave p_v exp(-phi) unchanged, for linear data and quadratic phi.

    z'' at the variance share * v is drawn from the prior's reverse step M(z'' | z), then z from N(z; z'', v - v'')
    exp(-phi(z, v)): two conditional laws of one joint law, of which the second is exact and the first Gaussian, as
    that of a small step is. It needs no step size for stability, and moves farther for smaller shares.

    Args:
        denoiser: Of the prior.
        surrogate: Of phi.
        steps: Steps, each with one network call.
        share: v'' / v in [0, 1).

    Source: Vono, Dobigeon, Chainais, IEEE Trans. Signal Process. 67 (2019), for share 0.
    """

    denoiser: Denoiser
    surrogate: Surrogate
    steps: int
    share: float

    def apply(self, z: Tensor, v: float, generator: torch.Generator) -> Tensor:
        """All steps at the variance v > 0."""
        lower = self.share * v
        down, up = Transition.down(v, lower), Transition(v - lower)
        for _ in range(self.steps):
            denoised = self.denoiser(z, math.sqrt(v))
            inner = denoised + self.share * (z - denoised) + self.surrogate.noise(z, down, generator)
            z = self.surrogate.conditioned(inner, self.surrogate.residual(inner, v), v, up, generator)
        return z
