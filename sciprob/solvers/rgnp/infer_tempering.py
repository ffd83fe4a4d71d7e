"""From a proposal to the posterior: importance weights at once if they are even enough, else by steps with moves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.solvers.rgnp.infer_proposal import Mixture, mixture_of_members
from sciprob.solvers.rgnp.infer_target import FieldPosterior

_STAGES = 60
_ROUNDS = 4
_MEMBERS = 128  # components of a refined proposal
_PRIOR_SHARE = 0.05
_MOST = 20  # moves after one resampling
_LONGEST = 10.0
_WANTED = 0.6  # acceptance of Langevin moves


@dataclass
class Particles:
    """Members `(n, d)`, their log densities under proposal and posterior `(n,)`, and their log weights `(n,)`."""

    xi: Tensor
    proposal: Tensor
    posterior: Tensor
    log_weights: Tensor


def temper(
    target: FieldPosterior, proposal: Mixture, n: int, least: float, generator: torch.Generator
) -> tuple[Particles, dict[str, float]]:
    r"""Weighted draws of the posterior along q^{1-t} p^t, t from 0 to 1.

    First, as long as the proposal would not give `least` n effective members at once, it is replaced by
    small components around its best members, a few times. Then each step in t is the largest that keeps
    so many members effective. If t = 1 is reached in one, this is importance sampling. Otherwise the
    members are resampled and moved by Langevin steps in the metric of the Gauss-Newton Hessian,
    corrected by Metropolis, before the next.

    Returns:
        The particles, and the figures `ess` (effective members; where moves did not decorrelate them, those of
        importance sampling at once), `rounds`, `stages`, `tempered` (the last t; below one only if the
        number of stages ran out), `moves`, `acceptance` and `displacement` (mean squared, since the last
        resampling, over the variance: two for independent members).

    Sources: Del Moral, Doucet, Jasra, Sequential Monte Carlo samplers, J. R. Statist. Soc. B 68 (2006); Cappe et al.,
    Population Monte Carlo, J. Comput. Graph. Statist. 13 (2004).
    """
    proposal, particles, rounds = _adapted(target, proposal, n, least, generator)
    at_once = effective(_difference(particles))
    t, stages, moves = 0.0, 0, _Moves(target, proposal)
    while t < 1 and stages < _STAGES:
        advance = _largest_step(particles, 1 - t, least * n)
        t = 1.0 if advance == 1 - t else t + advance
        particles.log_weights = particles.log_weights + advance * _difference(particles)
        stages += 1
        if t < 1:
            particles = _resampled(particles, generator)
        if stages > 1 or t < 1:
            moves.until_decorrelated(particles, t, generator)
    ess = effective(particles.log_weights)
    if stages > 1 and moves.displacement < 1:
        ess = min(ess, at_once)
    figures = {"ess": ess, "rounds": rounds, "stages": float(stages), "tempered": t, **moves.figures()}
    return particles, figures


def flattened(log_weights: Tensor, least: float) -> Tensor:
    """Log weights times the largest number up to one that leaves `least` effective members."""
    low, high = 0.0, 1.0
    if effective(log_weights) >= least:
        return log_weights
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle * log_weights) >= least else (low, middle)
    return low * log_weights


def _adapted(
    target: FieldPosterior, proposal: Mixture, n: int, least: float, generator: torch.Generator
) -> tuple[Mixture, Particles, float]:
    """The best proposal of a few rounds, with draws from it, and the number of rounds."""
    best, most = _drawn(target, proposal, n, generator), 0.0
    for i in range(_ROUNDS):
        most = effective(_difference(best))
        if most >= least * n:
            return proposal, best, float(i)
        seeds = _resampled(replace(best, log_weights=flattened(_difference(best), 0.25 * _MEMBERS)), generator)
        order = torch.randperm(n, generator=generator, device=generator.device)[:_MEMBERS].to(seeds.xi.device)
        refined = mixture_of_members(target, seeds.xi[order], _PRIOR_SHARE)
        drawn = _drawn(target, refined, n, generator)
        if effective(_difference(drawn)) > most:
            proposal, best = refined, drawn
    return proposal, best, float(_ROUNDS)


def _drawn(target: FieldPosterior, proposal: Mixture, n: int, generator: torch.Generator) -> Particles:
    xi = proposal.sample(n, generator)
    q = proposal.log_prob(xi)
    return Particles(xi, q, target.log_density(xi), torch.zeros_like(q))


def effective(log_weights: Tensor) -> float:
    """Effective sample size of log weights."""
    return float((2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp())


def _difference(particles: Particles) -> Tensor:
    return particles.posterior - particles.proposal


def _largest_step(particles: Particles, rest: float, least: float) -> float:
    """The largest step in t up to `rest` with enough effective members, by bisection."""
    difference = _difference(particles)
    if effective(particles.log_weights + rest * difference) >= least:
        return rest
    low, high = 0.0, rest
    for _ in range(40):
        middle = 0.5 * (low + high)
        enough = effective(particles.log_weights + middle * difference) >= least
        low, high = (middle, high) if enough else (low, middle)
    return high


def _resampled(particles: Particles, generator: torch.Generator) -> Particles:
    """Equal weights, by systematic resampling."""
    n = len(particles.xi)
    u = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).to(particles.xi.device)
    cumulative = torch.softmax(particles.log_weights.double(), 0).cumsum(0)
    levels = (torch.arange(n, device=u.device) + u) / n * cumulative[-1]
    index = torch.searchsorted(cumulative, levels).clamp_max(n - 1)
    moved = (particles.xi[index], particles.proposal[index], particles.posterior[index])
    return Particles(*moved, torch.zeros_like(particles.log_weights))


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


class _Moves:
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
