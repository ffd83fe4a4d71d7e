"""From a proposal to the posterior: importance weights at once if they are even enough, else by steps with moves."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sciprob.solvers.rgnp.infer_moves import Moves, Particles
from sciprob.solvers.rgnp.infer_proposal import Mixture, mixture_of_members, mixture_of_moments
from sciprob.solvers.rgnp.infer_target import FieldPosterior

_STAGES = 60
_ROUNDS = 4
_MEMBERS = 128  # components of a refined proposal
_PRIOR_SHARE = 0.05


def temper(
    target: FieldPosterior, proposal: Mixture, n: int, least: float, generator: torch.Generator
) -> tuple[Particles, dict[str, float]]:
    r"""Weighted draws of the posterior along q^{1-t} p^t, t from 0 to 1.

    First, as long as the proposal would not give `least` n effective members at once, it is replaced, a few
    times, by a component with the moments of its weighted members or by small ones around them. Then each
    step in t is the largest that keeps so many members effective. If t = 1 is reached in one, this is
    importance sampling. Otherwise the members are resampled and moved by Langevin steps in the metric of
    the Gauss-Newton Hessian, corrected by Metropolis, before the next.

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
    t, stages, moves = 0.0, 0, Moves(target, proposal)
    while t < 1 and stages < _STAGES:
        advance = _largest_step(particles, 1 - t, least * n)
        t = 1.0 if advance == 1 - t else t + advance
        particles.log_weights = particles.log_weights + advance * _difference(particles)
        stages += 1
        if t < 1:
            particles = resampled(particles, generator)
        if stages > 1 or t < 1:
            moves.until_decorrelated(particles, t, generator)
    ess = effective(particles.log_weights)
    if stages > 1 and moves.displacement < 1:
        ess = min(ess, at_once)
    figures = {"ess": ess, "rounds": rounds, "stages": float(stages), "tempered": t, **moves.figures()}
    return particles, figures


def correct(
    target: FieldPosterior, particles: Particles, least: float, generator: torch.Generator
) -> tuple[Particles, float]:
    """Members of an approximate posterior, weighted for the target, which is asked once for each.

    Where that leaves fewer than `least` n effective members, one component with their moments is drawn from and
    weighted, and the better population is taken; no moves are made, as the target is costly.

    Returns:
        The particles and their effective number.
    """
    exact = target.log_density(particles.xi)
    log_weights = particles.log_weights + exact - particles.posterior
    best, most = replace(particles, log_weights=log_weights, posterior=exact), effective(log_weights)
    n = len(particles.xi)
    for _ in range(_ROUNDS):
        if most >= least * n:
            break
        # flattened weights overestimate the spread, which is the safe side
        refined = mixture_of_moments(best.xi, flattened(best.log_weights, max(0.1 * n, 2.0)), _PRIOR_SHARE)
        drawn = _drawn(target, refined, n, generator)
        drawn = replace(drawn, log_weights=_difference(drawn))
        if (found := effective(drawn.log_weights)) <= most:
            break
        best, most = drawn, found
    return best, most


def flattened(log_weights: Tensor, least: float) -> Tensor:
    """Log weights times the largest number up to one that leaves `least` effective members."""
    low, high = 0.0, 1.0
    if effective(log_weights) >= least:
        return log_weights
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(middle * log_weights) >= least else (low, middle)
    return low * log_weights


def resampled(particles: Particles, generator: torch.Generator) -> Particles:
    """Equal weights, by systematic resampling."""
    n = len(particles.xi)
    u = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64).to(particles.xi.device)
    cumulative = torch.softmax(particles.log_weights.double(), 0).cumsum(0)
    levels = (torch.arange(n, device=u.device) + u) / n * cumulative[-1]
    index = torch.searchsorted(cumulative, levels).clamp_max(n - 1)
    moved = (particles.xi[index], particles.proposal[index], particles.posterior[index])
    return Particles(*moved, torch.zeros_like(particles.log_weights))


def _adapted(
    target: FieldPosterior, proposal: Mixture, n: int, least: float, generator: torch.Generator
) -> tuple[Mixture, Particles, float]:
    """The best proposal of a few rounds, with draws from it, and the number of rounds."""
    best, most = _drawn(target, proposal, n, generator), 0.0
    for i in range(_ROUNDS):
        most = effective(_difference(best))
        if most >= least * n:
            return proposal, best, float(i)
        flat = flattened(_difference(best), 0.25 * _MEMBERS)
        if i % 2 == 0:
            refined = mixture_of_moments(best.xi, flat, _PRIOR_SHARE)
        else:
            seeds = resampled(replace(best, log_weights=flat), generator).xi
            order = torch.randperm(n, generator=generator, device=generator.device)[:_MEMBERS].to(seeds.device)
            refined = mixture_of_members(target, seeds[order], _PRIOR_SHARE)
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
