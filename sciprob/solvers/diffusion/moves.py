"""Moves of particles from one noise level to the next, with their incremental weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.random import randn
from sciprob.solvers.diffusion.kappa import adaptive_kappa, rates
from sciprob.solvers.diffusion.surrogate import Surrogate
from sciprob.solvers.diffusion.twists import Twist, event_inner


class Prepared(Protocol):
    """All that needs the network at one level; any next level can then be tried."""

    figures: dict[str, float]

    def increment(self, after: float) -> Tensor:
        """Log incremental weights `(*sets, N)` of a step to the variance `after`, before it is made."""
        ...

    def move(self, after: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Particles at `after` and their log incremental weights."""
        ...


class Move(Protocol):
    """A way to step."""

    def prepare(self, z: Tensor, log_weights: Tensor, v: float) -> Prepared:
        """One network call at the variance v."""
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

    def prepare(self, z: Tensor, log_weights: Tensor, v: float) -> Prepared:
        """Score, twist, kappa and the weight rate."""
        axes = len(self.denoiser.space.shape)
        score = (self.denoiser(z, math.sqrt(v)) - z) / v
        twist = self.twist.at(z, v)
        fixed, slope = rates(
            event_inner(score, twist.gradient, axes),
            event_inner(twist.gradient, twist.gradient, axes),
            twist.laplacian,
            twist.slope,
        )
        if self.kappa is None:
            kappa = adaptive_kappa(log_weights, fixed, slope)
        else:
            kappa = fixed.new_full((*fixed.shape[:-1], 1), self.kappa)
        # kappa 1/2 has no Laplacian, which need not be known then
        rate = _half_rate(score, twist.gradient, twist.slope, axes) if self.kappa == 0.5 else fixed + kappa * slope
        drift = score - kappa.to(z).reshape(*kappa.shape, *(1,) * axes) * twist.gradient
        return _EulerStep(z, v, drift, rate, {"kappa": float(kappa.mean())})


def _half_rate(score: Tensor, gradient: Tensor, slope: Tensor, axes: int) -> Tensor:
    """G at kappa = 1/2, -S . grad phi / 2 + d phi / dv: that of the probability flow."""
    return slope - event_inner(score, gradient, axes) / 2


@dataclass
class _EulerStep:
    z: Tensor
    v: float
    drift: Tensor
    rate: Tensor
    figures: dict[str, float]

    def increment(self, after: float) -> Tensor:
        return (self.v - after) * self.rate

    def move(self, after: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        step = self.v - after
        z = self.z + step * self.drift + math.sqrt(step) * randn(tuple(self.z.shape), self.z, generator)
        return z, self.increment(after)


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

    def prepare(self, z: Tensor, log_weights: Tensor, v: float) -> Prepared:
        """The slope at the present level."""
        slope = (z - self.denoiser(z, math.sqrt(v))) / math.sqrt(v)
        return _FlowStep(self, z, v, slope, self.twist.value(z, v))


@dataclass
class _FlowStep:
    method: FlowMove
    z: Tensor
    v: float
    slope: Tensor
    before: Tensor
    figures: dict[str, float] = field(default_factory=dict)

    def increment(self, after: float) -> Tensor:
        return self.before - self.method.twist.value(self._flow(after), after)

    def move(self, after: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = self._flow(after)
        return z, self.before - self.method.twist.value(z, after)

    def _flow(self, after: float) -> Tensor:
        sigma, end = math.sqrt(self.v), math.sqrt(after)
        z = self.z + (end - sigma) * self.slope
        if self.method.order == 1 or after == 0:
            return z
        ahead = (z - self.method.denoiser(z, end)) / end
        return self.z + (end - sigma) * (self.slope + ahead) / 2


@dataclass(frozen=True)
class ConditionedMove:
    r"""The optimal step for linear data: z' from M(z' | z) exp(-phi(z', v')), weighted by the integral of that.

    M(z' | z) = N(z + (1 - v'/v)(D - z), T), with T the covariance of the surrogate's own transition (of a point, where
    the surrogate is flat). The target is the chain of these M, tilted by the data, for any number of steps: evidence
    estimates are unbiased for it, and exact where prior and surrogate are the same Gaussian.

    Args:
        denoiser: Of the prior.
        surrogate: The surrogate with its data.
    """

    denoiser: Denoiser
    surrogate: Surrogate

    def prepare(self, z: Tensor, log_weights: Tensor, v: float) -> Prepared:
        """The denoised particles."""
        before = self.surrogate.twist(self.surrogate.residual(z, v), v)
        return _ConditionedStep(self.surrogate, z, v, self.denoiser(z, math.sqrt(v)), before)


@dataclass
class _ConditionedStep:
    surrogate: Surrogate
    z: Tensor
    v: float
    denoised: Tensor
    before: Tensor
    figures: dict[str, float] = field(default_factory=dict)

    def increment(self, after: float) -> Tensor:
        return self._at(after)[2]

    def move(self, after: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mean, residual, increment = self._at(after)
        return self.surrogate.conditioned(mean, residual, self.v, after, generator), increment

    def _at(self, after: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = self.denoised + after / self.v * (self.z - self.denoised)
        residual = self.surrogate.residual(mean, after)
        return mean, residual, self.surrogate.evidence(residual, self.v, after) + self.before
