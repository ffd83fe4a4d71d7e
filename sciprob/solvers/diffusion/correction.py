"""A final Metropolis correction of particles, under the prior's score and the likelihood itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.linear_algebra import LinearData
from sciprob.solvers.diffusion.twists import event_inner

_POINTS = 4  # of the Gauss-Legendre rule along a segment: exact where the score is a polynomial of degree 7 there
_TARGET = 0.57  # acceptance rate, Roberts and Rosenthal (1998)


@dataclass
class Chains:
    """Metropolis chains that begin at the particles.

    Attributes:
        x: `(N, *shape)`.
        residual: r(x), `(N, m)`.
        ascent: Gradient of the log target.
        scale: h, the variance of proposals along directions that the data do not see.
        draws: Kept positions `(N, kept, *shape)`.
        steps: Steps made.
        accepted: Sum of acceptance rates after tuning.
    """

    x: Tensor
    residual: Tensor
    ascent: Tensor
    scale: float
    draws: Tensor
    steps: int = 0
    accepted: float = 0.0


@dataclass(frozen=True)
class MetropolisCorrection:
    r"""Metropolis-adjusted Langevin steps for p_sigma(x) exp(-|r(x)|^2 / 2), p_sigma the prior with the noise sigma.

    Proposals are x + P g / 2 + P^{1/2} e with g the gradient of the log target and P = (I / h + A^T A)^{-1}; h is tuned
    in the first half of the steps and then fixed. The ratio of prior densities is exact where the denoiser knows its
    `log_prob`; else it is the integral of the score along the segment by four-point Gauss quadrature, exact for a score
    that is a gradient and a polynomial of degree 7, an approximation for a network. What remains is the noise sigma on
    the prior and, for a network, that its score is not quite one.

    Args:
        problem: The latent problem.
        data: Linear data, or those of the operator linearised, for P only.
        sigma: Noise level.
        steps: Steps of each chain.
        keep: Positions kept of each chain, evenly in the second half.

    Sources: Roberts and Rosenthal, J. R. Statist. Soc. B 60 (1998); Girolami and Calderhead, ibid. 73 (2011).
    """

    problem: LatentProblem
    data: LinearData
    sigma: float
    steps: int
    keep: int

    def start(self, x: Tensor) -> Chains:
        """Chains at `x (N, *shape)`."""
        residual, ascent = self._look(x)
        draws = x.new_zeros(len(x), self.keep, *x.shape[1:])
        return Chains(x, residual, ascent, self.sigma**2, draws)

    def advance(self, chains: Chains, generator: torch.Generator) -> tuple[Chains, float]:
        """One step of every chain, and the share accepted."""
        axes, h = chains.x.ndim - 1, chains.scale
        drift = self.data.precondition(chains.ascent, h, 0.0) / 2
        noise = self.data.noise(chains.x, h, 0.0, generator)
        proposed = chains.x + drift + noise
        residual, ascent = self._look(proposed)
        back = -(drift + noise) - self.data.precondition(ascent, h, 0.0) / 2
        log_ratio = self._log_prior_ratio(chains.x, proposed)
        log_ratio += (chains.residual.double().square().sum(-1) - residual.double().square().sum(-1)) / 2
        log_ratio += (self._energy(noise, h, axes) - self._energy(back, h, axes)) / 2
        uniform = torch.rand(len(log_ratio), generator=generator, device=generator.device, dtype=torch.float64)
        taken = uniform.to(log_ratio.device).log() < log_ratio.nan_to_num(nan=-math.inf)
        rate = float(log_ratio.nan_to_num(nan=-math.inf).clamp_max(0).exp().mean())
        chains = replace(
            chains,
            x=_where(taken, proposed, chains.x),
            residual=_where(taken, residual, chains.residual),
            ascent=_where(taken, ascent, chains.ascent),
            steps=chains.steps + 1,
        )
        return self._keep(chains, rate), rate

    def _keep(self, chains: Chains, rate: float) -> Chains:
        """Tune in the first half, keep draws in the second."""
        half = self.steps // 2
        if chains.steps <= half:
            chains.scale *= math.exp((rate - _TARGET) * 4 / math.sqrt(chains.steps))
            return chains
        chains.accepted += rate
        made, total = chains.steps - half, self.steps - half
        index = made * self.keep // total
        if index > (made - 1) * self.keep // total:
            chains.draws[:, index - 1] = chains.x
        return chains

    def _look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        residual, pulled = self.problem.residual_and_pullback(x)
        return residual, (self.problem.denoiser(x, self.sigma) - x) / self.sigma**2 - pulled

    def _energy(self, x: Tensor, h: float, axes: int) -> Tensor:
        """Square norm of x under P^{-1}."""
        image = self.data.forward(x)
        energy: Tensor = event_inner(x, x, axes) / h + image.double().square().sum(-1)
        return energy

    def _log_prior_ratio(self, x: Tensor, proposed: Tensor) -> Tensor:
        denoiser: Any = self.problem.denoiser
        if hasattr(denoiser, "log_prob"):
            ratio: Tensor = denoiser.log_prob(proposed, self.sigma) - denoiser.log_prob(x, self.sigma)
            return ratio.double()
        return log_density_ratio(denoiser, x, proposed, self.sigma)


def log_density_ratio(denoiser: Denoiser, x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """Log p_sigma(y) - log p_sigma(x) as the integral of the score along the segment, `(N,)` in float64."""
    step, axes = y - x, x.ndim - 1
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    points = torch.stack([x + float(node + 1) / 2 * step for node in nodes])
    scores = (denoiser(points, sigma) - points) / sigma**2
    along = event_inner(scores, step.expand(points.shape), axes)
    ratio: Tensor = torch.tensordot(torch.from_numpy(weights / 2).to(x.device), along, dims=1)
    return ratio


def _where(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *(1 for _ in new.shape[1:])), new, old)
