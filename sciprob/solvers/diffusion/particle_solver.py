"""What solvers share that carry weighted particles down the noise levels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import SciprobWarning, UnsupportedProblemError
from sciprob.metrics import mcmc
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.diffusion.levels import karras_levels
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, between, one_of
from sciprob.solvers.diffusion.correction import Chains, MetropolisCorrection
from sciprob.solvers.diffusion.ensemble_setup import EnsembleMethod, EnsembleSetup, ensemble_setup
from sciprob.solvers.diffusion.level_step import advance, tempered_level
from sciprob.solvers.diffusion.moves import Prepared
from sciprob.solvers.diffusion.particles import Particles, resample

_DEGENERATE = 0.02  # share of effective particles below which an ensemble says that it failed
_BLOCK = 10  # corrections in one step
_KEPT = 16  # draws of each chain
_HOPELESS = 0.1  # effective share that one level may leave before the weights are given up
_CORRECTORS = 2  # at least so many corrector steps after that
_FAMILIES = 0.02  # share of the first particles from which the others may descend before that
_RELINEARISE = 0.5  # share of the level at which a nonlinear operator was linearised


@dataclass
class ParticleState:
    """State of a `ParticleSolver`.

    Attributes:
        particles: At the present level.
        grid: Number of the next level of the fixed grid.
        point: Where a nonlinear operator is linearised.
        point_sigma: Noise level at which that was chosen.
        history: By level: sigma, ess, resampled, kappa.
        equal: Whether the particles keep equal weights.
        given_up: Level at which path weights were given up, None if they were not.
        chains: Of the final correction.
        network_calls: Batched calls of the network.
    """

    particles: Particles
    grid: int = 1
    point: Tensor | None = None
    point_sigma: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    equal: bool = False
    given_up: float | None = None
    chains: Chains | None = None
    network_calls: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ParticleSolver:
    """Weighted particles on Karras' grid of noise levels; subclasses say how they move.

    Args:
        particles: N.
        steps: Levels of the grid.
        weights: `path`: particles carry the weights of their moves and are resampled. `equal`: all keep equal weights
            and none is resampled, for images and other data of many numbers, where path weights leave a handful of
            particles whatever their number; what the moves do not account for is then left to correctors. `auto`:
            path weights; if one level's own weights leave less than a tenth of the particles, or all descend from less
            than 2 % of the first ones, the ensemble begins anew with equal weights and at least two corrector steps;
            for operators and twists without correctors, path weights.
        threshold: Effective share of particles below which they are resampled.
        tempering: Conditional effective share that every level must keep, by levels between those of the grid;
            0 keeps to the grid.
        sigma_max: First level; default that of the prior, or 1 where a run starts from another.
        sigma_min: Last level above 0; default that of the prior.
        noise_level: Variance factor to condition on, where that of the noise is unknown.
        direct_limit: Smaller side of the operator up to which it is decomposed; beyond it, conjugate gradients.
        corrections: Metropolis steps of every particle at the end, as a chain of its own; see `MetropolisCorrection`.
            The posterior is then their second half, with R-hat and effective draws.
        correction_sigma: Noise level on the prior that these steps allow; default the last level above 0.

    Raises:
        ConfigError: If a setting is out of range.
    """

    particles: int = 256
    steps: int = 100
    weights: Literal["auto", "path", "equal"] = "auto"
    threshold: float = 0.5
    tempering: float = 0.0
    sigma_max: float | None = None
    sigma_min: float | None = None
    noise_level: float | None = None
    direct_limit: int = 4096
    corrections: int = 0
    correction_sigma: float | None = None

    name: ClassVar[str]
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DENOISER, Capability.JVP, Capability.VJP, Capability.GAUSSIAN_NOISE}
    )
    citations: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        one_of(self, "weights", ("auto", "path", "equal"))
        at_least(self, 2, "particles", "steps")
        at_least(self, 0, "threshold", "direct_limit", "corrections")
        between(self, -1e-12, 1, "tempering")

    @property
    def _method(self) -> EnsembleMethod:
        """How particles move."""
        raise NotImplementedError

    @property
    def max_steps(self) -> int:
        """Levels, twice if the weights may be given up, 64 times as many with levels between; blocks of corrections."""
        again = self.weights == "auto" and not self._method.renoises
        levels = self.steps * (64 if self.tempering > 0 else 1) * (2 if again else 1)
        return levels + -(-self.corrections // _BLOCK)

    def init(self, problem: Problem, streams: Streams) -> ParticleState:
        """Particles at the largest level.

        Raises:
            UnsupportedProblemError: If the problem lacks what the move needs.
        """
        setup = self._setup(problem)
        levels = self._levels(setup)
        setup.warn_of_blind_end(levels[-2])
        v, point = levels[0] ** 2, setup.first_point()
        before = setup.problem.denoiser.calls
        particles = setup.start(self.particles, v, point, streams["start"])
        calls = setup.problem.denoiser.calls - before
        return ParticleState(
            particles,
            point=point,
            point_sigma=math.sqrt(v),
            equal=self.weights == "equal" or not setup.weighted,
            network_calls=calls,
        )

    def step(
        self, problem: Problem, state: ParticleState, streams: Streams
    ) -> tuple[ParticleState, Mapping[str, float]]:
        """One level, or a block of corrections."""
        setup = self._setup(problem)
        if state.particles.v == 0:
            return self._correct(setup, state, streams)
        levels, before = self._levels(setup), setup.problem.denoiser.calls
        farthest = levels[state.grid] ** 2

        def choose(prepared: Prepared, particles: Particles) -> float:
            return tempered_level(prepared, particles, farthest, self.tempering) if self.tempering > 0 else farthest

        particles, figures = advance(state.particles, setup.move(state.point), choose, streams["moves"])
        resampled = False
        if state.equal:
            particles = replace(particles, log_weights=torch.zeros_like(particles.log_weights))
        else:
            particles, resampled = resample(particles, self.threshold, streams["moves"])
            if self.weights == "auto" and setup.correctable and self._hopeless(particles, figures.level_ess):
                return self._begin_anew(problem, state, figures.sigma, streams)
        correct = setup.corrector(state.point, 0 if state.given_up is None else _CORRECTORS)
        if correct is not None and particles.v > 0:
            particles = replace(particles, z=correct(particles.z, particles.v, streams["moves"]))
        grid = state.grid + (particles.v == farthest)
        state = replace(state, particles=particles, grid=grid)
        if figures.sigma <= _RELINEARISE * state.point_sigma:
            state = self._relinearise(setup, state)
        history = {key: list(values) for key, values in state.history.items()}
        row = {"sigma": figures.sigma, "ess": figures.ess, "resampled": float(resampled)}
        row |= {} if figures.kappa is None else {"kappa": figures.kappa}
        for key, value in row.items():
            history.setdefault(key, []).append(value)
        calls = state.network_calls + setup.problem.denoiser.calls - before
        shown = {key: row[key] for key in ("sigma", "ess", "kappa") if key in row} | {"network_calls": float(calls)}
        return replace(state, history=history, network_calls=calls, figures=shown), shown

    def finished(self, state: ParticleState) -> Status | None:
        """Completed at level zero and after all corrections."""
        corrected = 0 if state.chains is None else state.chains.steps
        return Status.COMPLETED if state.particles.v == 0 and corrected >= self.corrections else None

    def result(self, problem: Problem, state: ParticleState) -> Posterior:
        """The particles with their weights; a warning if hardly any has weight.

        Raises:
            UnsupportedProblemError: If they still carry noise.
        """
        particles = state.particles
        if particles.v > 0:
            message = (
                f"the particles are at noise level {math.sqrt(particles.v):.3g} and no posterior yet; `resume` the run."
            )
            raise UnsupportedProblemError(message)
        if (words := self._advice(state)) is not None:
            warnings.warn(words, SciprobWarning, stacklevel=2)
        latent = self._setup(problem).problem
        if state.chains is not None and state.chains.steps == self.corrections:
            draws = latent.decode(state.chains.draws.flatten(0, 1))
            return Ensemble(problem.prior.space, draws, chains=self.particles)
        decoded = latent.decode(particles.z)
        return Ensemble(problem.prior.space, decoded, particles.log_weights)

    def diagnostics(self, problem: Problem, state: ParticleState) -> Mapping[str, Any]:
        """Evidence, effective sizes, resampling, network calls; `degenerate` says whether to distrust the result."""
        setup, particles, history = self._setup(problem), state.particles, state.history
        lowest = min(history.get("ess", [1.0]))
        figures: dict[str, Any] = {
            "particles": self.particles,
            "weights": "equal" if state.equal else "path",
            "levels": len(history.get("sigma", [])),
            "network_calls": state.network_calls,
            "ess": particles.ess * self.particles,
            "ess_smallest": lowest * self.particles,
            "resamplings": int(sum(history.get("resampled", []))),
            "ancestors": _families(particles),
            "degenerate": self._degenerate(state),
        }
        if state.given_up is not None:
            figures["weights_given_up_at_sigma"] = state.given_up
        if particles.v == 0 and not state.equal and setup.linear(state.point).exact:
            figures["log_evidence"] = float(setup.problem.log_normaliser.double() + particles.evidence)
        if (words := self._advice(state)) is not None:
            figures["advice"] = words
        return figures | self._chain_figures(setup, state) | {"by_level": history}

    def _hopeless(self, particles: Particles, level_ess: float) -> bool:
        """Whether the weights will not come back to many particles."""
        return level_ess < _HOPELESS or self._inbred(particles)

    def _inbred(self, particles: Particles) -> bool:
        """Whether the particles of a data set descend from a few of the first."""
        return _families(particles) <= max(1, _FAMILIES * self.particles)

    def _degenerate(self, state: ParticleState) -> bool:
        """Whether path weights have failed: at one level, or by and by."""
        if state.equal:
            return False
        return min(state.history.get("ess", [1.0])) < _DEGENERATE or self._inbred(state.particles)

    def _begin_anew(
        self, problem: Problem, state: ParticleState, sigma: float, streams: Streams
    ) -> tuple[ParticleState, Mapping[str, float]]:
        """Particles at the largest level again, with equal weights."""
        fresh = self.init(problem, streams)
        particles = replace(fresh.particles, log_weights=torch.zeros_like(fresh.particles.log_weights))
        calls = state.network_calls + fresh.network_calls + 1
        figures = {"sigma": math.sqrt(particles.v), "network_calls": float(calls)}
        anew = replace(fresh, particles=particles, equal=True, given_up=sigma, network_calls=calls, figures=figures)
        return anew, figures

    def _correct(
        self, setup: EnsembleSetup, state: ParticleState, streams: Streams
    ) -> tuple[ParticleState, Mapping[str, float]]:
        """A block of Metropolis steps, the first after resampling."""
        before, chains, rates = setup.problem.denoiser.calls, state.chains, []
        if state.point is None and not setup.problem.linear:
            state = replace(state, point=state.particles.z.mean(0))
        correction = self._correction(setup, state)
        if chains is None:
            chosen, _ = resample(state.particles, math.inf, streams["moves"])
            chains = correction.start(chosen.z)
        for _ in range(min(_BLOCK, self.corrections - chains.steps)):
            chains, rate = correction.advance(chains, streams["corrections"])
            rates.append(rate)
        calls = state.network_calls + setup.problem.denoiser.calls - before
        figures = {"acceptance": sum(rates) / len(rates), "network_calls": float(calls)}
        return replace(state, chains=chains, network_calls=calls, figures=figures), figures

    def _correction(self, setup: EnsembleSetup, state: ParticleState) -> MetropolisCorrection:
        sigma = self.correction_sigma or self.sigma_min or setup.problem.prior.sigma_min
        keep = min(_KEPT, self.corrections - self.corrections // 2)
        return MetropolisCorrection(setup.problem, setup.linear(state.point), sigma, self.corrections, keep)

    def _chain_figures(self, setup: EnsembleSetup, state: ParticleState) -> dict[str, Any]:
        """Acceptance, R-hat and effective draws of the corrections."""
        chains = state.chains
        if chains is None or chains.steps < self.corrections or chains.draws.shape[1] < 4:
            return {}
        summary = mcmc.summary(setup.problem.decode(chains.draws))
        acceptance = chains.accepted / (self.corrections - self.corrections // 2)
        return {"corrections": self.corrections, "acceptance": acceptance} | summary | mcmc.advice(summary)

    def _setup(self, problem: Problem) -> EnsembleSetup:
        return ensemble_setup(problem, self._method, self.noise_level, self.direct_limit)

    def _advice(self, state: ParticleState) -> str | None:
        """What to say of the weights, if anything."""
        if state.given_up is not None:
            return (
                f"path weights left too few particles at noise level {state.given_up:.2g} and were given up for equal "
                "ones: mean and spread rely on the correctors, compare runs with more of them; there is no evidence."
            )
        if self._degenerate(state):
            lowest = max(1.0, min(state.history.get("ess", [1.0])) * self.particles)
            return (
                f"the weights left {lowest:.1f} of {self.particles} particles at one level, and all descend from "
                f"{_families(state.particles)} of the first: means may be far off and spreads too small; use "
                '`weights="auto"`, more particles or levels.'
            )
        return None

    def _levels(self, setup: EnsembleSetup) -> list[float]:
        prior = setup.problem.prior
        levels: list[float] = karras_levels(
            self.steps, self.sigma_max or setup.sigma_max, self.sigma_min or prior.sigma_min
        ).tolist()
        return levels

    def _relinearise(self, setup: EnsembleSetup, state: ParticleState) -> ParticleState:
        """Linearise at the ensemble's denoised mean; the change of the twist goes into the weights."""
        particles = state.particles
        seen = particles.seen
        if seen is None or state.point is None or particles.v == 0:
            return state
        weights = particles.log_weights.softmax(-1).to(seen.denoised)
        point = torch.tensordot(weights, seen.denoised, dims=1)
        twist = setup.surrogate(point).twist(seen.residual, particles.v)
        changed = particles.log_weights + seen.twist - twist
        particles = replace(particles, log_weights=changed, seen=replace(seen, twist=twist))
        return replace(state, particles=particles, point=point, point_sigma=math.sqrt(particles.v))


def _families(particles: Particles) -> int:
    """Number of first particles from which those of the poorest data set descend."""
    return min(len(row.unique()) for row in particles.ancestors.reshape(-1, particles.ancestors.shape[-1]))
