"""Moves of particles: Langevin steps in the metric of the Gauss-Newton Hessian, corrected by Metropolis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.solvers.rgnp.infer_proposal import Mixture
from sciprob.solvers.rgnp.infer_target import FieldPosterior

_MOST = 20  # moves after one resampling
_LONGEST = 10.0
_WANTED = 0.6  # acceptance


@dataclass
class Particles:
    """Members `(n, d)`, their log densities under proposal and posterior `(n,)`, and their log weights `(n,)`."""

    xi: Tensor
    proposal: Tensor
    posterior: Tensor
    log_weights: Tensor


class Moves:
    """Langevin moves with a step that is tuned to the acceptance.

    Args:
        target: The posterior.
        proposal: The other end of the path.
    """

    def __init__(self, target: FieldPosterior, proposal: Mixture) -> None:
        self.target, self.proposal = target, proposal
        self.step, self.displacement = 1.0, 0.0
        self.rates: list[float] = []

    def until_decorrelated(self, particles: Particles, t: float, generator: torch.Generator) -> None:
        """Move the members until their mean squared displacement is their variance, along every axis."""
        start = particles.xi
        shares = torch.softmax(particles.log_weights, 0)
        variance = shares @ (start - shares @ start).square() + 1e-300
        local = _Local.of(self.target, self.proposal, start, t)
        for _ in range(_MOST):
            local, rate = _langevin(self.target, self.proposal, particles, local, t, self.step, generator)
            self.step = min(_LONGEST, self.step * 2.0 ** (2 * (rate - _WANTED)))
            self.rates.append(rate)
            self.displacement = float((shares @ (particles.xi - start).square() / variance).min())
            if self.displacement > 1:
                break

    def figures(self) -> dict[str, float]:
        """See `temper`."""
        rate = sum(self.rates) / len(self.rates) if self.rates else 1.0
        return {"moves": float(len(self.rates)), "acceptance": rate, "displacement": self.displacement}


@dataclass(frozen=True)
class _Local:
    """Drift and metric of Langevin moves at members: H^{-1} g / 2 and a root of H, H the Gauss-Newton Hessian."""

    drift: Tensor
    root: Tensor

    @classmethod
    def of(cls, target: FieldPosterior, proposal: Mixture, xi: Tensor, t: float) -> _Local:
        gradient, hessian = target.linearise(xi)
        with torch.enable_grad():
            point = xi.detach().requires_grad_()
            of_proposal = torch.autograd.grad(proposal.log_prob(point).sum(), point)[0]
        root = torch.linalg.cholesky(hessian)
        uphill = (1 - t) * of_proposal - t * gradient
        return cls(0.5 * torch.cholesky_solve(uphill[..., None], root)[..., 0], root)

    def log_prob(self, difference: Tensor, step: float) -> Tensor:
        """Log density of N(step^2 drift, step^2 H^{-1}) at moves `(n, d)`, up to a constant."""
        scaled = (self.root.mT @ (difference / step - step * self.drift)[..., None])[..., 0]
        return self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * scaled.square().sum(-1)


def _langevin(
    target: FieldPosterior,
    proposal: Mixture,
    particles: Particles,
    here: _Local,
    t: float,
    step: float,
    generator: torch.Generator,
) -> tuple[_Local, float]:
    """One move of all members for q^{1-t} p^t; changes them in place, and returns the mean acceptance.

    The metric is that of each member's own place, so that moves follow a curved ridge. The covariance's
    gradient is left out of the drift; Metropolis makes up for that.

    Source: Girolami, Calderhead, Riemann manifold Langevin and Hamiltonian Monte Carlo methods,
    J. R. Statist. Soc. B 73 (2011).
    """
    noise = randn(tuple(particles.xi.shape), particles.xi, generator)
    across = torch.linalg.solve_triangular(here.root.mT, noise[..., None], upper=True)[..., 0]
    move = step * (step * here.drift + across)
    new = particles.xi + move
    there = _Local.of(target, proposal, new, t)
    q, p = proposal.log_prob(new), target.log_density(new)
    gain = (1 - t) * (q - particles.proposal) + t * (p - particles.posterior)
    ratio = gain + there.log_prob(-move, step) - here.log_prob(move, step)
    ratio = ratio.nan_to_num(nan=-torch.inf, neginf=-torch.inf).clamp_max(0)
    u = torch.rand(len(new), generator=generator, device=generator.device, dtype=torch.float64).to(ratio)
    accept = u.log() < ratio
    particles.xi = torch.where(accept[:, None], new, particles.xi)
    particles.proposal = torch.where(accept, q, particles.proposal)
    particles.posterior = torch.where(accept, p, particles.posterior)
    kept = _Local(
        torch.where(accept[:, None], there.drift, here.drift),
        torch.where(accept[:, None, None], there.root, here.root),
    )
    return kept, float(ratio.exp().mean())
