"""Variational reconstruction with a diffusion prior as regulariser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.diffusion.levels import path_levels
from sciprob.priors.diffusion.path import VariancePreserving
from sciprob.problems.problem import Problem
from sciprob.random import Streams, randn
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, between, one_of
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.solvers.diffusion.latent_problem import LatentProblem

_MOMENTS = (0.9, 0.99)
_FLOOR = 1e-8


@dataclass
class RedDiffState:
    """Points mu `(samples, *latent.shape)`, Adam's two moments, steps and network calls so far."""

    mu: Tensor
    first: Tensor
    second: Tensor
    iteration: int = 0
    network_calls: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RedDiff:
    r"""Minimise |r(mu)|^2 / 2 + weight E[sigma <stop(e_theta(mu + sigma e) - e), mu>] over points mu by Adam.

    e_theta = (z - D(z, sigma)) / sigma is the network's noise: the gradient is J^T r + weight sigma (e_theta - e),
    without a derivative of the network, and sigma is one over the signal-to-noise ratio at which it weighs time.
    Each step takes one level and one draw of e; levels run down DDPM's linear schedule.

    r is in units of the noise and both terms are sums, so that `weight` needs no tuning to the size of data and noise:
    it is the paper's lambda over the noise variance. The start is the surrogate's mean, or 0; the paper's
    pseudo-inverse would amplify the noise of ill-posed data.

    It is a point estimate. For x ~ N(0, c I) the expected gradient vanishes at (A^T A + weight k I) mu = A^T b,
    k the mean of sigma^2 / (c + sigma^2) over the levels: the posterior mean only for weight = 1 / (c k). With
    falling levels the last steps see k near 0, so that the regularisation is gone at the end and noise is fitted.
    Several starts differ by the noise of the optimisation; their spread is no uncertainty.

    Args:
        samples: Independent runs.
        steps: Steps of Adam and levels.
        weight: Of the regulariser; 1 is near the Bayesian weight for x of unit variance.
        learning_rate: Step of Adam in the unit of the latent variable, whose standard deviation is about 1.
        times: `descending` as in the paper, or `random` levels, for which the stationary point above holds.
        block: Steps of Adam in one step of the driver.
        noise_level: Variance factor to condition on where the problem leaves it open.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Mardani, Song, Kautz, Vahdat, ICLR 2024, arXiv 2305.04391, algorithm 1.
    """

    samples: int = 8
    steps: int = 1000
    weight: float = 1.0
    learning_rate: float = 0.1
    times: Literal["descending", "random"] = "descending"
    block: int = 20
    noise_level: float | None = None

    name: ClassVar[str] = "red-diff"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.DENOISER, Capability.VJP, Capability.GAUSSIAN_NOISE})
    citations: ClassVar[tuple[str, ...]] = ("mardani2024",)

    def __post_init__(self) -> None:
        at_least(self, 1, "samples", "steps", "block")
        at_least(self, 0, "weight")
        between(self, 0, 1e6, "learning_rate")
        one_of(self, "times", ("descending", "random"))

    @property
    def max_steps(self) -> int:
        """Blocks of Adam's steps."""
        return -(-self.steps // self.block)

    def levels(self, latent: LatentProblem) -> Tensor:
        """The positive levels, falling, `(steps,)`."""
        prior = latent.prior
        return path_levels(VariancePreserving(), self.steps, prior.sigma_max, prior.sigma_min)[:-1]

    def init(self, problem: Problem, streams: Streams) -> RedDiffState:
        """All points at the surrogate's mean, or 0."""
        latent = latent_problem(problem, self.noise_level)
        mu = latent.like.new_zeros(self.samples, *latent.latent.shape)
        if latent.prior.surrogate is not None:
            mu = mu + latent.prior.surrogate.mean.to(mu)
        return RedDiffState(mu, torch.zeros_like(mu), torch.zeros_like(mu))

    def step(self, problem: Problem, state: RedDiffState, streams: Streams) -> tuple[RedDiffState, Mapping[str, float]]:
        """A block of Adam's steps."""
        latent = latent_problem(problem, self.noise_level)
        levels, generator = self.levels(latent), streams["noise"]
        mu, first, second = state.mu, state.first, state.second
        before, last = latent.denoiser.calls, min(state.iteration + self.block, self.steps)
        for i in range(state.iteration, last):
            sigma = float(levels[i])
            if self.times == "random":
                sigma = float(levels[torch.randint(self.steps, (), generator=generator, device=generator.device)])
            gradient, misfit = self.gradient(latent, mu, sigma, randn(tuple(mu.shape), mu, generator))
            first = _MOMENTS[0] * first + (1 - _MOMENTS[0]) * gradient
            second = _MOMENTS[1] * second + (1 - _MOMENTS[1]) * gradient.square()
            mean, square = first / (1 - _MOMENTS[0] ** (i + 1)), second / (1 - _MOMENTS[1] ** (i + 1))
            mu = mu - self.learning_rate * mean / (square.sqrt() + _FLOOR)
        calls = state.network_calls + latent.denoiser.calls - before
        figures = {"sigma": sigma, "misfit": float(misfit.mean()), "network_calls": float(calls)}
        return replace(
            state, mu=mu, first=first, second=second, iteration=last, network_calls=calls, figures=figures
        ), figures

    def gradient(self, latent: LatentProblem, mu: Tensor, sigma: float, e: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient for one level and one draw of noise, and |r|^2 `(samples,)`."""
        residual, pulled = latent.residual_and_pullback(mu)
        with torch.no_grad():
            noisy = mu + sigma * e
            predicted = (noisy - latent.denoiser(noisy, sigma)) / sigma
        return pulled + self.weight * sigma * (predicted - e), residual.square().sum(-1)

    def finished(self, state: RedDiffState) -> Status | None:
        """Completed after all levels."""
        return Status.COMPLETED if state.iteration == self.steps else None

    def result(self, problem: Problem, state: RedDiffState) -> Posterior:
        """The points; their spread is no uncertainty."""
        latent = latent_problem(problem, self.noise_level)
        return Ensemble(problem.prior.space, latent.decode(state.mu))

    def diagnostics(self, problem: Problem, state: RedDiffState) -> Mapping[str, Any]:
        """Network calls, and the misfit, far below the number of data where noise is fitted."""
        latent = latent_problem(problem, self.noise_level)
        with torch.no_grad():
            misfit = latent.residual(state.mu).double().square().sum(-1).mean()
        return {
            "samples": self.samples,
            "network_calls": state.network_calls,
            "mean_misfit": float(misfit),
            "data": latent.white.size,
            "spread": "of optimisation, not of the posterior",
        }
