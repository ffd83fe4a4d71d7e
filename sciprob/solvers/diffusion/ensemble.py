"""Weighted particles with a diffusion prior: `diffusion-ensemble`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import SciprobWarning, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.diffusion.levels import karras_levels
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, between, one_of
from sciprob.solvers.diffusion.ensemble_setup import EnsembleMethod, EnsembleSetup, ensemble_setup
from sciprob.solvers.diffusion.level_step import advance, tempered_level
from sciprob.solvers.diffusion.moves import Prepared
from sciprob.solvers.diffusion.particles import Particles

_DEGENERATE = 0.02  # share of effective particles below which an ensemble says that it failed
_RELINEARISE = 0.5  # share of the level at which a nonlinear operator was linearised


@dataclass
class DiffusionEnsembleState:
    """State of `DiffusionEnsemble`.

    Attributes:
        particles: At the present level.
        grid: Number of the next level of the fixed grid.
        point: Where a nonlinear operator is linearised.
        point_sigma: Noise level at which that was chosen.
        history: By level: sigma, ess, resampled, kappa.
        network_calls: Batched calls of the network.
    """

    particles: Particles
    grid: int = 1
    point: Tensor | None = None
    point_sigma: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    network_calls: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DiffusionEnsemble:
    r"""Weighted particles that follow a diffusion prior's noise levels down to the posterior.

    Particles z at the noise variance v represent p_v(z) exp(-phi(z, v)), where p_v is the prior's law of x + sqrt(v) e
    and phi brings the data in, phi(z, 0) = -log p(y | z). They move, gather log-weights for what the move does not
    account for, and are resampled where the weights become uneven. No approximation of p(y | z) enters the target:
    errors come from the denoiser, the steps and the number of particles, and the weights say when particles do not
    suffice. The evidence comes with it.

    Moves:
        `conditioned`: the optimal Gaussian step towards the data, for linear operators. With a Gaussian prior that is
            its own surrogate it is exact for any number of steps, weights and evidence included.
        `denoised`: steps that compare the denoised particles with the data; for nonlinear operators, one shared
            linearisation guides all particles, and the weights make up for it.
        `continuous`: Euler steps of the guided stochastic equation; `kappa=1` is the published AFDPS-SDE, `kappa=0.5`
            the Feynman-Kac corrector, None adapts kappa.
        `flow`: the probability flow, with correctors: the published AFDPS-ODE.
        `auto`: `conditioned` for linear operators, else `denoised`.

    Twists phi, for linear operators: `surrogate` (the prior's Gaussian surrogate, or the variance 1 where it has none)
    and `inflation` (S_v = I + v A A^T); for any: `isotropic` (noise variance 1 + gamma^2 v), `linear`
    (1 - sigma / sigma_max) and `constant`. The last two are unstable at large noise levels; they are for comparison.

    Args:
        particles: N.
        steps: Levels of the fixed grid, each with one network call (two for `flow`) and one for each corrector step.
        move: How particles step.
        twist: phi.
        kappa: Strength of guidance of the move `continuous`; None adapts it to the ensemble.
        gamma: Of the twist `isotropic`.
        correctors: Corrector steps at each level.
        corrector: `langevin` (preconditioned, unadjusted) or `renoising` (a Gibbs step, stable for any size).
        corrector_step: Step size in (0, 1): delta of `langevin`, 1 - v''/v of `renoising`.
        threshold: Effective share of particles below which they are resampled.
        tempering: Conditional effective share that every level must keep, by levels between those of the grid;
            0 keeps to the grid.
        sigma_max: First level; default that of the prior.
        sigma_min: Last level above 0; default that of the prior.
        noise_level: Variance factor to condition on, where that of the noise is unknown.
        direct_limit: Smaller side of the operator up to which it is decomposed; beyond it, conjugate gradients.

    Raises:
        ConfigError: If a setting is out of range, or settings contradict each other.

    Sources: Chen, Ren, Min, Ying, Izzo, arXiv 2506.03979 (2025); Skreta et al., arXiv 2503.02819 (2025); Cardoso,
    Janati, Le Corff, Moulines, ICLR 2024, arXiv 2308.07983.
    """

    particles: int = 256
    steps: int = 100
    move: Literal["auto", "conditioned", "denoised", "continuous", "flow"] = "auto"
    twist: Literal["surrogate", "inflation", "isotropic", "linear", "constant"] = "surrogate"
    kappa: float | None = None
    gamma: float = 1.0
    correctors: int = 0
    corrector: Literal["langevin", "renoising"] = "renoising"
    corrector_step: float = 0.4
    threshold: float = 0.5
    tempering: float = 0.0
    sigma_max: float | None = None
    sigma_min: float | None = None
    noise_level: float | None = None
    direct_limit: int = 4096

    name: ClassVar[str] = "diffusion-ensemble"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.DENOISER, Capability.GAUSSIAN_NOISE})
    citations: ClassVar[tuple[str, ...]] = ("chen2025afdps",)

    def __post_init__(self) -> None:
        one_of(self, "move", ("auto", "conditioned", "denoised", "continuous", "flow"))
        one_of(self, "twist", ("surrogate", "inflation", "isotropic", "linear", "constant"))
        one_of(self, "corrector", ("langevin", "renoising"))
        at_least(self, 2, "particles", "steps")
        at_least(self, 0, "correctors", "threshold", "tempering", "gamma", "direct_limit")
        between(self, 0, 1, "corrector_step")
        between(self, -1e-12, 1, "tempering")
        _ = self._method

    @property
    def max_steps(self) -> int:
        """Levels of the grid, or 64 times as many where levels are put between."""
        return self.steps * (64 if self.tempering > 0 else 1)

    def init(self, problem: Problem, streams: Streams) -> DiffusionEnsembleState:
        """Particles at the largest level.

        Raises:
            UnsupportedProblemError: If the problem lacks what the move needs.
        """
        setup = self._setup(problem)
        v = self._levels(setup)[0] ** 2
        point = None if setup.problem.linear else _centre(setup)
        before = setup.problem.denoiser.calls
        particles = setup.start(self.particles, v, point, streams["start"])
        calls = setup.problem.denoiser.calls - before
        return DiffusionEnsembleState(particles, point=point, point_sigma=math.sqrt(v), network_calls=calls)

    def step(
        self, problem: Problem, state: DiffusionEnsembleState, streams: Streams
    ) -> tuple[DiffusionEnsembleState, Mapping[str, float]]:
        """One level."""
        setup = self._setup(problem)
        levels, before = self._levels(setup), setup.problem.denoiser.calls
        farthest = levels[state.grid] ** 2

        def choose(prepared: Prepared, particles: Particles) -> float:
            return tempered_level(prepared, particles, farthest, self.tempering) if self.tempering > 0 else farthest

        particles, figures = advance(
            state.particles,
            setup.move(state.point),
            choose,
            streams["moves"],
            threshold=self.threshold,
            correct=setup.corrector(state.point),
        )
        grid = state.grid + (particles.v == farthest)
        state = replace(state, particles=particles, grid=grid)
        if figures.sigma <= _RELINEARISE * state.point_sigma:
            state = self._relinearise(setup, state)
        history = {key: list(values) for key, values in state.history.items()}
        row = {"sigma": figures.sigma, "ess": figures.ess, "resampled": float(figures.resampled)}
        row |= {} if figures.kappa is None else {"kappa": figures.kappa}
        for key, value in row.items():
            history.setdefault(key, []).append(value)
        calls = state.network_calls + setup.problem.denoiser.calls - before
        shown = {key: row[key] for key in ("sigma", "ess", "kappa") if key in row} | {"network_calls": float(calls)}
        return replace(state, history=history, network_calls=calls, figures=shown), shown

    def finished(self, state: DiffusionEnsembleState) -> Status | None:
        """Completed at level zero."""
        return Status.COMPLETED if state.particles.v == 0 else None

    def result(self, problem: Problem, state: DiffusionEnsembleState) -> Posterior:
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
        lowest = min(state.history["ess"])
        if lowest < _DEGENERATE:
            warnings.warn(degeneracy(lowest, self.particles), SciprobWarning, stacklevel=2)
        decoded = self._setup(problem).problem.decode(particles.z)
        return Ensemble(problem.prior.space, decoded, particles.log_weights)

    def diagnostics(self, problem: Problem, state: DiffusionEnsembleState) -> Mapping[str, Any]:
        """Evidence, effective sizes, resampling, network calls; `degenerate` says whether to distrust the result."""
        setup, particles, history = self._setup(problem), state.particles, state.history
        lowest = min(history.get("ess", [1.0]))
        figures: dict[str, Any] = {
            "particles": self.particles,
            "levels": len(history.get("sigma", [])),
            "network_calls": state.network_calls,
            "ess": particles.ess * self.particles,
            "ess_smallest": lowest * self.particles,
            "resamplings": int(sum(history.get("resampled", []))),
            "ancestors": len(particles.ancestors.unique()),
            "degenerate": lowest < _DEGENERATE,
        }
        if particles.v == 0 and setup.linear(state.point).exact:
            figures["log_evidence"] = float(setup.problem.log_normaliser.double() + particles.evidence)
        if lowest < _DEGENERATE:
            figures["advice"] = degeneracy(lowest, self.particles)
        return figures | {"by_level": history}

    @property
    def _method(self) -> EnsembleMethod:
        return EnsembleMethod(
            self.move, self.twist, self.kappa, self.gamma, self.correctors, self.corrector, self.corrector_step
        )

    def _setup(self, problem: Problem) -> EnsembleSetup:
        return ensemble_setup(problem, self._method, self.noise_level, self.direct_limit)

    def _levels(self, setup: EnsembleSetup) -> list[float]:
        prior = setup.problem.prior
        levels: list[float] = karras_levels(
            self.steps, self.sigma_max or prior.sigma_max, self.sigma_min or prior.sigma_min
        ).tolist()
        return levels

    def _relinearise(self, setup: EnsembleSetup, state: DiffusionEnsembleState) -> DiffusionEnsembleState:
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


def degeneracy(share: float, particles: int) -> str:
    """What a degenerate ensemble means."""
    return (
        f"the weights left {max(1.0, share * particles):.1f} of {particles} particles at one level: means may be "
        "far off and spreads too small; take more particles or levels, `correctors`, or `split-gibbs`."
    )


def _centre(setup: EnsembleSetup) -> Tensor:
    """The surrogate's mean, where a nonlinear operator is linearised first."""
    surrogate = setup.problem.prior.surrogate
    zero = setup.problem.like.new_zeros(setup.problem.latent.shape)
    return zero if surrogate is None else surrogate.mean.to(zero)
