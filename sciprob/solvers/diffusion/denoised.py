"""Moves whose twist sees the denoised particles: for nonlinear operators, and for priors far from their surrogate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.solvers.diffusion.moves import Moved, Prepared
from sciprob.solvers.diffusion.particles import Particles, Seen
from sciprob.solvers.diffusion.surrogate import Surrogate, Transition
from sciprob.solvers.diffusion.twists import event_inner

Observe = Callable[[Tensor], Tensor]
Pull = Callable[[Tensor, Callable[[Tensor], Tensor]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DenoisedMove:
    r"""Path weights with phi(z, v) = r(D)^T S_v^{-1} r(D) / 2 + log det S_v / 2, D = D(z, sqrt(v)), for any operator.

    The chain M(z' | z) = N(z + (1 - v'/v)(D - z), T) of the prior is tilted by these twists. Particles are proposed
    from M times the Gaussian that a linear operator would make of exp(-phi(z', v')), with
    r(D(z', v')) = r(D) + A F (z' - E z'), F the surrogate's filter and A one linearisation for all particles, and
    weighted by what that leaves out. No derivative of the network is taken, one call of network and operator is made
    per level. The target is the tilted chain for any number of steps, whatever A and the surrogate are.

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

    def look(self, z: Tensor, v: float) -> Seen:
        """One network call and one forward solve."""
        denoised = z if v == 0 else self.denoiser(z, math.sqrt(v))
        residual = self.observe(denoised)
        return Seen(denoised, residual, self.surrogate.twist(residual, v))

    def prepare(self, particles: Particles) -> Prepared:
        """Nothing new is needed."""
        seen = self.look(particles.z, particles.v) if particles.seen is None else particles.seen
        return _DenoisedStep(self, particles.z, particles.v, seen)


@dataclass(frozen=True)
class _DenoisedStep:
    method: DenoisedMove
    z: Tensor
    v: float
    seen: Seen
    kappa: float | None = None

    def increment(self, after: float) -> Tensor:
        gained = self.method.surrogate.evidence(self.seen.residual, after, Transition.down(self.v, after))
        return gained + self.seen.twist

    def move(self, after: float, generator: torch.Generator) -> Moved:
        surrogate, seen = self.method.surrogate, self.seen
        mean = seen.denoised + after / self.v * (self.z - seen.denoised)
        z = surrogate.conditioned(mean, seen.residual, after, Transition.down(self.v, after), generator)
        linear = seen.residual + surrogate.data.forward(surrogate.filter(z - mean, after))
        ahead = self.method.look(z, after)
        return z, self.increment(after) + surrogate.twist(linear, after) - ahead.twist, ahead


@dataclass(frozen=True)
class TwistedMove:
    r"""Twisted diffusion sampling: steps M(z' | z) shifted by the twist's own gradient, through network and operator.

    z' ~ N(z + (1 - v'/v)(D - z) - T grad phi(z), T), T = (v - v') v' / v I, weighted by M / proposal and
    phi(z) - phi(z'). phi is as in `DenoisedMove`, S_v = I + v c / (v + c) A A^T or I, where the operator's A is known.

    Args:
        denoiser: Of the prior; differentiable.
        weigh: (r, v) -> S_v^{-1} r.
        log_det: v -> log det S_v.
        pull: (x, r -> w) -> r(x) and J(x)^T w(r), as `LatentProblem.residual_and_pullback`.

    Source: Wu, Trippe, Naesseth, Blei, Cunningham, NeurIPS 2023, arXiv 2306.17775.
    """

    denoiser: Denoiser
    weigh: Callable[[Tensor, float], Tensor]
    log_det: Callable[[float], float]
    pull: Pull

    def look(self, z: Tensor, v: float) -> Seen:
        """Network, operator and the adjoints of both."""
        if v == 0:
            denoised, point = z, None
        else:
            point = z.detach().requires_grad_()
            with torch.enable_grad():
                denoised = self.denoiser(point, math.sqrt(v))
        residual, pulled = self.pull(denoised.detach(), lambda r: self.weigh(r, v))
        twist = ((residual * self.weigh(residual, v)).double().sum(-1) + self.log_det(v)) / 2
        gradient = pulled if point is None else torch.autograd.grad(denoised, point, pulled)[0]
        return Seen(denoised.detach(), residual, twist, gradient)

    def prepare(self, particles: Particles) -> Prepared:
        """Nothing new is needed."""
        seen = self.look(particles.z, particles.v) if particles.seen is None else particles.seen
        return _TwistedStep(self, particles.z, particles.v, seen)


@dataclass(frozen=True)
class _TwistedStep:
    method: TwistedMove
    z: Tensor
    v: float
    seen: Seen
    kappa: float | None = None

    def increment(self, after: float) -> Tensor:
        return torch.zeros_like(self.seen.twist)

    def move(self, after: float, generator: torch.Generator) -> Moved:
        seen = self.seen
        assert seen.gradient is not None
        axes = len(self.method.denoiser.space.shape)
        variance = (self.v - after) * after / self.v
        noise = torch.randn(self.z.shape, generator=generator, device=generator.device, dtype=self.z.dtype)
        noise = math.sqrt(variance) * noise.to(self.z.device)
        mean = seen.denoised + after / self.v * (self.z - seen.denoised)
        z = mean - variance * seen.gradient + noise
        # log N(z'; mean, T) - log N(z'; mean - T grad, T)
        ratio = event_inner(seen.gradient, noise - variance / 2 * seen.gradient, axes)
        ahead = self.method.look(z, after)
        return z, ratio + seen.twist - ahead.twist, ahead
