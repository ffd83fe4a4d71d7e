"""What solvers share that take a batch of independent members down the noise levels."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.diffusion.levels import path_levels
from sciprob.priors.diffusion.path import VariancePreserving
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.problems.problem import Problem
from sciprob.random import Streams, randn
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.linear_algebra import LinearData, linear_data


@dataclass
class AnnealingState:
    """Members z `(samples, *latent.shape)` at the level of number `level`, and network calls so far."""

    z: Tensor
    level: int = 0
    network_calls: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Annealing:
    """Independent members from N(0, sigma_max^2 I) down the levels of DDPM's linear schedule to zero.

    Args:
        samples: Members; they share network and forward calls and nothing else.
        steps: Levels.
        block: Levels in one step of the driver.
        noise_level: Variance factor to condition on where the problem leaves it open.

    Raises:
        ConfigError: If a setting is out of range.
    """

    samples: int = 64
    steps: int = 1000
    block: int = 10
    noise_level: float | None = None

    name: ClassVar[str]
    needs: ClassVar[frozenset[Capability]]
    citations: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        at_least(self, 1, "samples", "steps", "block")

    @property
    def max_steps(self) -> int:
        """Blocks of levels."""
        return -(-self.steps // self.block)

    def levels(self, prior: DiffusionPrior) -> Tensor:
        """Noise levels `(steps + 1,)`, the last 0."""
        return path_levels(VariancePreserving(), self.steps, prior.sigma_max, prior.sigma_min)

    def move(self, latent: LatentProblem, z: Tensor, start: float, end: float, generator: torch.Generator) -> Tensor:
        """Members at level `end` from members at level `start`."""
        raise NotImplementedError

    def check(self, problem: Problem) -> None:
        """Refuse what the method cannot do, before work starts."""

    def init(self, problem: Problem, streams: Streams) -> AnnealingState:
        """Noise at the largest level."""
        self.check(problem)
        latent = latent_problem(problem, self.noise_level)
        noise = randn((self.samples, *latent.latent.shape), latent.like, streams["start"])
        return AnnealingState(latent.prior.sigma_max * noise)

    def step(
        self, problem: Problem, state: AnnealingState, streams: Streams
    ) -> tuple[AnnealingState, Mapping[str, float]]:
        """A block of levels."""
        latent = latent_problem(problem, self.noise_level)
        levels = self.levels(latent.prior).tolist()
        before, z = latent.denoiser.calls, state.z
        last = min(state.level + self.block, self.steps)
        for i in range(state.level, last):
            z = self.move(latent, z, levels[i], levels[i + 1], streams["moves"]).detach()
        calls = state.network_calls + latent.denoiser.calls - before
        figures = {"sigma": levels[last], "network_calls": float(calls)}
        return replace(state, z=z, level=last, network_calls=calls, figures=figures), figures

    def finished(self, state: AnnealingState) -> Status | None:
        """Completed at level zero."""
        return Status.COMPLETED if state.level == self.steps else None

    def result(self, problem: Problem, state: AnnealingState) -> Posterior:
        """The members, equally weighted.

        Raises:
            UnsupportedProblemError: If they still carry noise.
        """
        if state.level < self.steps:
            message = f"the members are at level {state.level} of {self.steps} and still noise; `resume` the run."
            raise UnsupportedProblemError(message)
        latent = latent_problem(problem, self.noise_level)
        return Ensemble(problem.prior.space, latent.decode(state.z))

    def diagnostics(self, problem: Problem, state: AnnealingState) -> Mapping[str, Any]:
        """Network calls, and the misfit, which is near the number of data for a posterior that fits them."""
        latent = latent_problem(problem, self.noise_level)
        with torch.no_grad():
            misfit = latent.residual(state.z).double().square().sum(-1).mean()
        return {
            "samples": self.samples,
            "network_calls": state.network_calls,
            "mean_misfit": float(misfit),
            "data": latent.white.size,
        }


_latest: dict[str, Any] = {}


def latent_problem(problem: Problem, level: float | None) -> LatentProblem:
    """The latent problem, kept from one step of the driver to the next while the problem is the same object."""
    reference = _latest.get("problem")
    if reference is None or reference() is not problem or _latest["level"] != level:
        latent = LatentProblem(problem, level=level)
        _latest.clear()
        _latest.update(problem=weakref.ref(problem), level=level, latent=latent)
    latent_kept: LatentProblem = _latest["latent"]
    return latent_kept


def affine_data(latent: LatentProblem) -> LinearData:
    """A and b of r(x) = A x - b with their decomposition, kept likewise.

    Raises:
        UnsupportedProblemError: If the data are not affine in the latent variable.
    """
    if _latest.get("latent") is not latent:
        return linear_data(*latent.affine())
    if "linear" not in _latest:
        _latest["linear"] = linear_data(*latent.affine())
    kept: LinearData = _latest["linear"]
    return kept
