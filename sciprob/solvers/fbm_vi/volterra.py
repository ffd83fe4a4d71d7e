r"""Simulation-free bound for equations with the drift in the noise channel.

x = x(0) + sigma sum_k omega_k (y_k - y_k(0)),  dy_k = (h(t, x) - gamma_k y_k) dt + dW: the Volterra equation
x = x(0) + sigma int_0^t K(t - r) (h dr + dW). The posterior q is the prior with h = 0 times Gaussian sites, so it
differs from the prior by a control u of the one common noise and is absolutely continuous whatever the sites are.
(x, u) is jointly Gaussian at each time, and one pass of Kalman filter and smoother gives its moments. With Z the
normaliser of the sites,

    KL(q || p) = E_q sum_j log site_j - log Z + int_0^T E_q [h^2 / 2 - h u] dt.

Only the mean of u given x enters: its variance, which is singular at the sites, is in Z. Nothing is simulated.
Sources: Bartosh, Vetrov and Naesseth, ICML 2025, for matching without simulation; Verma, Adam and Solin, AISTATS 2024,
for sites.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.sde.kalman import Filtered, StateSpace, backward_terms, kalman_filter
from sciprob.sde.markov import MarkovNoise
from sciprob.sde.special import legendre
from sciprob.sde.transition import Transition, transition
from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.quadrature import normal_nodes
from sciprob.solvers.fbm_vi.reference import Reference, make_reference
from sciprob.solvers.fbm_vi.simulate import Drift, Paths, draw_noise, simulate
from sciprob.solvers.fbm_vi.sites import Sites, merge_times


@dataclass(frozen=True)
class Prior:
    """Noise, scale sigma `(D,)`, and the law of x(0): mean and deviation `(D,)`."""

    noise: MarkovNoise
    scale: Tensor
    initial_mean: Tensor
    initial_std: Tensor


@dataclass(frozen=True)
class PseudoData:
    """Sites at times `(J,)`, increasing: values and log precisions `(J, D)`."""

    times: Tensor
    values: Tensor
    log_precision: Tensor


@dataclass(frozen=True)
class Moments:
    """Of x and of the control u under q.

    Attributes:
        mean: Of x at the times, `(M, D)`.
        variance: Of x, `(M, D)`.
        control: Mean of u, `(M, D)`.
        covariance: Of x and u, `(M, D)`.
        divergence: KL of q from the prior without drift, a number.
    """

    mean: Tensor
    variance: Tensor
    control: Tensor
    covariance: Tensor
    divergence: Tensor

    def first(self, count: int) -> Moments:
        """Those of the first times."""
        return Moments(
            self.mean[:count], self.variance[:count], self.control[:count], self.covariance[:count], self.divergence
        )


def site_moments(prior: Prior, sites: PseudoData, times: Tensor) -> Moments:
    """Moments at any `times (M,)` in any order; differentiable in sites, H and scale.

    Filter and smoother pass over the J sites only, O(J K^3); all times follow from the sites next to them at once,
    O(M K^2). At the time of a site the control is that just after it.
    """
    dimension = len(prior.scale)
    model, filtered, means, covariances = _filter(prior, sites)
    zero = torch.zeros_like(model.initial)
    scores, informations = [zero[..., 0]], [zero]  # nothing is seen after the last site
    for _, score, information in backward_terms(model, filtered):
        scores.append(score)
        informations.append(information)
    every = torch.cat([times, sites.times])
    gap = torch.searchsorted(sites.times, every, right=True)
    ends = torch.cat([every.new_zeros(1), sites.times, every.new_full((1,), torch.inf)])
    ahead = ends[gap + 1] - every
    into, onto = _moves(prior, every - ends[gap]), _moves(prior, torch.where(ahead.isinf(), 0.0, ahead))
    row = into.matrix[..., :1, :] @ torch.stack(covariances, dim=1)[:, gap] @ into.matrix.mT
    row = row.squeeze(-2) + into.noise[..., 0, :]  # covariances with x, before later sites
    mean = (into.matrix[..., 0, :] * torch.stack(means, dim=1)[:, gap]).sum(-1)
    later = torch.stack(scores[::-1], dim=1)[:, gap]
    score = (onto.matrix.mT @ later[..., None]).squeeze(-1)
    by_row = torch.stack(informations[::-1], dim=1)[:, gap] @ (onto.matrix @ row[..., None])
    by_row = (onto.matrix.mT @ by_row).squeeze(-1)
    white = (2 * prior.noise.rates).sqrt().expand(dimension, -1)
    by_noise = torch.cat([(prior.scale * prior.noise.weights.sum(-1))[:, None], white], dim=-1)[:, None]  # G
    mean = (mean + (row * score).sum(-1)).mT + prior.initial_mean
    variance = (row[..., 0] - (row * by_row).sum(-1)).mT.clamp_min(0)
    control, covariance = (score * by_noise).sum(-1).mT, -(by_row * by_noise).sum(-1).mT
    n = len(times)
    error = (sites.values - mean[n:]).square() + variance[n:]
    expected = sites.log_precision - math.log(2 * math.pi) - sites.log_precision.exp() * error
    divergence = expected.sum() / 2 - filtered.log_evidence.sum()
    return Moments(mean[:n], variance[:n], control[:n], covariance[:n], divergence)


def drift_cost(drift: Drift, times: Tensor, moments: Moments) -> Tensor:
    """E_q [h^2 / 2 - h u] summed over dimensions at each time, `(M,)`, by Gaussian quadrature."""
    nodes, shares = normal_nodes(moments.mean.shape[-1], moments.mean)
    std = moments.variance.clamp_min(1e-300).sqrt()[:, None, :]
    x = moments.mean[:, None, :] + std * nodes
    h = drift(times[:, None, None], x)
    u = moments.control[:, None, :] + moments.covariance[:, None, :] / std * nodes
    return torch.einsum("m,tmd->t", shares, h.square() / 2 - h * u)


def expected_log_likelihood(values: Tensor, std: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """E_q sum log N(values; x, std^2), a number."""
    square = ((values - mean).square() + variance) / std.square()
    return -(square + (2 * math.pi * std.square()).log()).sum() / 2


def quadrature_times(breaks: Tensor, count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a rule for an integral from the first to the last of `breaks`, `count` in each gap.

    Nodes crowd at both ends of a gap, where integrands behave like powers of the distance. Gauss-Legendre
    without a generator; with one, a uniform node in each of `count` strata, which makes the rule unbiased.
    """
    left, gap = breaks[:-1, None], breaks.diff()[:, None]
    if generator is None:
        zeta, share = legendre(count, breaks)
    else:
        shape = (len(gap), count)
        uniform = torch.rand(shape, generator=generator, dtype=breaks.dtype, device=generator.device).to(breaks.device)
        zeta = (torch.arange(count, dtype=breaks.dtype, device=breaks.device) + uniform) / count
        share = torch.full_like(zeta, 1 / count)
    times = left + gap * zeta.square() * (3 - 2 * zeta)
    return times.flatten(), (gap * 6 * zeta * (1 - zeta) * share).flatten()


def simulated_divergence(
    prior: Prior,
    sites: PseudoData,
    drift: Drift,
    horizon: float,
    *,
    step: float,
    paths: int,
    generator: torch.Generator,
) -> Tensor:
    """Draws of log q / p of whole paths, `(paths,)`: their mean is KL(q || p) up to O(step^{H + 1/2}).

    The drift acts through increments of the noise, h at the start of each step. For comparison, and for weights of
    paths; differentiable.
    """
    grid, index = merge_times(sites.times, horizon, step)
    reference = make_reference(
        prior.noise, grid, scale=prior.scale, initial_mean=prior.initial_mean, initial_std=prior.initial_std
    )
    guide = make_guide(reference, Sites(index, sites.values, sites.log_precision.exp()))
    drawn = simulate(reference, guide, draw_noise(reference, paths, generator))
    return -drawn.log_ratio - drift_gain(reference, drawn, drift)


def drift_gain(reference: Reference, paths: Paths, drift: Drift) -> Tensor:
    """Log density of paths with the drift h in the noise against that without, int h dW - h^2 dt / 2, `(P,)`."""
    x = paths.states[:-1, ..., 0].mT  # (N, P, D)
    h = drift(reference.times[:-1, None, None], x)
    along = torch.einsum("ndpr,ndr->npd", paths.noises, reference.push)
    energy = reference.push.square().sum(-1)[:, None, :]
    return (along * h - energy * h.square() / 2).sum((0, 2))


def _filter(prior: Prior, sites: PseudoData) -> tuple[StateSpace, Filtered, list[Tensor], list[Tensor]]:
    """Model and predictions at the sites; means `(D, s)` and covariances of the state at 0 and after each site."""
    noise, dimension, times = prior.noise, len(prior.scale), sites.times
    moves = _moves(prior, torch.cat([times[:1], times.diff()]))
    g = noise.rates
    past = 2 * (g[:, None] * g).sqrt() / (g[:, None] + g)
    past = past if noise.kind == "I" else torch.zeros_like(past)
    initial = torch.nn.functional.pad(past, (1, 0, 1, 0)).expand(dimension, -1, -1)
    initial = initial + torch.nn.functional.pad(prior.initial_std.square()[:, None, None], (0, len(g), 0, len(g)))
    model = StateSpace(moves.matrix, moves.noise, torch.arange(len(times)), initial)
    values, variances = (sites.values - prior.initial_mean).T, torch.exp(-sites.log_precision).T
    filtered = kalman_filter(model, values, variances, list(range(len(times))))
    means, covariances = [torch.zeros_like(initial[..., 0])], [initial]
    for i, (mean, row) in enumerate(zip(filtered.mean, filtered.row, strict=True)):
        gain = row / (row[..., 0] + variances[:, i])[:, None]
        means.append(mean + gain * (values[:, i] - mean[..., 0])[:, None])
        predicted = moves.matrix[:, i] @ covariances[-1] @ moves.matrix[:, i].mT + moves.noise[:, i]
        covariances.append(predicted - gain[..., :, None] * row[..., None, :])
    return model, filtered, means, covariances


def _moves(prior: Prior, steps: Tensor) -> Transition:
    """Transitions without a drift, `(D, n, s, s)`."""
    return transition(steps, prior.noise.rates, prior.noise.weights, torch.zeros_like(prior.scale), prior.scale)
