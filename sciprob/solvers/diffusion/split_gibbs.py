"""Split Gibbs sampling with a diffusion prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.metrics import mcmc
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.diffusion.levels import karras_levels
from sciprob.priors.diffusion.sampler import MultistepSampler
from sciprob.problems.problem import Problem
from sciprob.random import Streams, randn
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, between
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.proximal import proximal_draw


@dataclass
class SplitGibbsState:
    """Chains x `(chains, *latent.shape)`, kept draws of m, iterations, kept draws per chain, network calls so far."""

    x: Tensor
    draws: Tensor
    iteration: int = 0
    kept: int = 0
    network_calls: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SplitGibbs:
    r"""Gibbs sampling of p(x) exp(-|r(u)|^2 / 2) exp(-|x - u|^2 / (2 rho^2)): the data see u, the prior sees x.

    - u given x: the data and N(x, rho^2 I); exact where the data are affine in the latent variable, else Langevin
      dynamics.
    - x given u: the prior and N(u, rho^2 I): the reverse SDE from level rho down to 0, started at u.

    rho falls geometrically from `rho_max` to `rho_min` in the burn-in. The draws of x at `rho_min` have the law
    p(x) N(y; A x, noise + rho_min^2 A A^T): the posterior of data blurred by rho_min, exactly, if the SDE is solved.
    So it is too wide along well measured directions unless rho_min |A| is below the noise, and a smaller
    rho_min makes the chains slower in proportion: see R-hat and the effective sample sizes.

    Args:
        chains: Chains, all in one network batch.
        samples: Draws kept of each chain.
        thin: Iterations between kept draws.
        burn_in: Iterations before the first kept draw.
        rho_max: First coupling.
        decay: Factor on rho in each iteration.
        rho_min: Last coupling, at least the prior's smallest noise level.
        prior_calls: Network calls of the reverse SDE in each iteration.
        langevin_steps: For data that are not affine.
        langevin_rate: Langevin step relative to the inverse curvature.
        block: Iterations in one step of the driver.
        noise_level: Variance factor to condition on where the problem leaves it open.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Vono, Dobigeon, Chainais, IEEE Trans. Signal Process. 67 (2019); Wu, Sun, Chen, Zhang, Yue, Bouman,
    NeurIPS 2024, arXiv 2405.18782, algorithm 1 (the annealing and the prior's step).
    """

    chains: int = 16
    samples: int = 50
    thin: int = 1
    burn_in: int = 50
    rho_max: float = 10.0
    decay: float = 0.9
    rho_min: float = 0.1
    prior_calls: int = 20
    langevin_steps: int = 100
    langevin_rate: float = 0.5
    block: int = 2
    noise_level: float | None = None

    name: ClassVar[str] = "split-gibbs"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DENOISER, Capability.JVP, Capability.VJP, Capability.GAUSSIAN_NOISE}
    )
    citations: ClassVar[tuple[str, ...]] = ("vono2019", "wu2024pnpdm", "vehtari2021")

    def __post_init__(self) -> None:
        at_least(self, 1, "chains", "samples", "thin", "prior_calls", "langevin_steps", "block")
        at_least(self, 0, "burn_in")
        at_least(self, 1e-12, "rho_min")
        at_least(self, self.rho_min, "rho_max")
        between(self, 0, 1 + 1e-12, "decay", "langevin_rate")

    @property
    def iterations(self) -> int:
        """Iterations of each chain."""
        return self.burn_in + self.samples * self.thin

    @property
    def max_steps(self) -> int:
        """Blocks of iterations."""
        return -(-self.iterations // self.block)

    def rho(self, iteration: int) -> float:
        """Coupling of an iteration; `rho_min` after the burn-in whatever the decay."""
        annealed = self.rho_max * self.decay ** min(iteration, self.burn_in)
        return self.rho_min if iteration >= self.burn_in else max(annealed, self.rho_min)

    def init(self, problem: Problem, streams: Streams) -> SplitGibbsState:
        """Chains start from noise of size rho_max.

        Raises:
            UnsupportedProblemError: If rho_min is below the prior's smallest noise level.
        """
        latent = latent_problem(problem, self.noise_level)
        if self.rho_min < latent.prior.sigma_min:
            message = (
                f"`rho_min` of split-gibbs is {self.rho_min:g}, but the prior knows noise only down to "
                f"{latent.prior.sigma_min:g}; raise it."
            )
            raise UnsupportedProblemError(message)
        x = self.rho_max * randn((self.chains, *latent.latent.shape), latent.like, streams["start"])
        draws = latent.like.new_zeros(self.chains, self.samples, *problem.prior.space.shape)
        return SplitGibbsState(x, draws)

    def step(
        self, problem: Problem, state: SplitGibbsState, streams: Streams
    ) -> tuple[SplitGibbsState, Mapping[str, float]]:
        """A block of iterations of all chains."""
        latent = latent_problem(problem, self.noise_level)
        before, x, kept = latent.denoiser.calls, state.x, state.kept
        last = min(state.iteration + self.block, self.iterations)
        for i in range(state.iteration, last):
            x = self.iterate(latent, x, self.rho(i), streams["chains"])
            if i >= self.burn_in and (i - self.burn_in + 1) % self.thin == 0:
                state.draws[:, kept] = latent.decode(x)
                kept += 1
        calls = state.network_calls + latent.denoiser.calls - before
        figures = {"rho": self.rho(last - 1), "draws": float(kept), "network_calls": float(calls)}
        state = replace(state, x=x, iteration=last, kept=kept, network_calls=calls, figures=figures)
        return state, figures

    def iterate(self, latent: LatentProblem, x: Tensor, rho: float, generator: torch.Generator) -> Tensor:
        """Both conditional draws."""
        u = proximal_draw(latent, x, rho**2, generator, self.langevin_steps, self.langevin_rate)
        return self.draw_prior(latent, u, rho, generator)

    def draw_prior(self, latent: LatentProblem, u: Tensor, rho: float, generator: torch.Generator) -> Tensor:
        """Draw of x given u = x + rho e, by the reverse SDE from level rho."""
        smallest = latent.prior.sigma_min
        with torch.no_grad():
            if self.prior_calls == 1 or rho <= smallest:
                clean: Tensor = latent.denoiser(u, rho)
                return clean
            levels = karras_levels(self.prior_calls, rho, smallest)
            return MultistepSampler(order=2, eta=1.0).run(latent.denoiser, u, levels, generator)

    def finished(self, state: SplitGibbsState) -> Status | None:
        """Completed when all draws are made."""
        return Status.COMPLETED if state.kept == self.samples else None

    def result(self, problem: Problem, state: SplitGibbsState) -> Posterior:
        """Ensemble of the draws so far.

        Raises:
            UnsupportedProblemError: If there is no draw yet.
        """
        if state.kept == 0:
            message = "the chains were stopped before the end of their burn-in, there are no draws yet; `resume` them."
            raise UnsupportedProblemError(message)
        return Ensemble(problem.prior.space, state.draws[:, : state.kept].flatten(0, 1), chains=self.chains)

    def diagnostics(self, problem: Problem, state: SplitGibbsState) -> Mapping[str, Any]:
        """Network calls, R-hat and effective sample sizes of the unknown."""
        figures: dict[str, Any] = {"chains": self.chains, "draws_per_chain": state.kept}
        figures["network_calls"] = state.network_calls
        if state.kept >= 4:
            summary = mcmc.summary(state.draws[:, : state.kept])
            figures |= summary | mcmc.advice(summary)
        return figures
