"""Gaussian approximation around the most probable whitened coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.covariance import Draws, Unwhitened, advice_on_draws, low_rank_deviations
from sciprob.solvers.gauss_newton import gauss_newton_step
from sciprob.solvers.linear_algebra import gram_eigenpairs
from sciprob.solvers.noise_level import first_level, level_round
from sciprob.solvers.whitened import WhitenedTarget

_ROUNDS = 10


@dataclass
class LaplaceState:
    """State of `Laplace`: the search for the mode, then its covariance."""

    phase: str
    xi: Tensor
    vectors: Tensor
    values: Tensor
    draws: Tensor
    drawn: int = 0
    newton: int = 0
    scale: float = 0.0
    converged: bool = False
    level: float | None = None
    rounds: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Laplace:
    """Gauss-Newton to the mode of the whitened posterior, and the Gaussian with its curvature there.

    xi ~ N(xi*, (I + B^T B)^{-1}), B = W^{1/2} J L at xi*: exact for linear problems with Gaussian
    noise, good where the forward operator is nearly linear over a posterior standard deviation, and
    blind to further modes and skewness. For transformed priors m = t(x), x is Gaussian and t exact.

    Args:
        newton_steps: Largest number of Gauss-Newton steps, for each noise level tried.
        tolerance: Gradient norm at which to stop, relative to the one at the prior's centre.
        decrease: Stop also when a full step lowers -log p by less than this fraction of it.
        cg_steps: Largest number of conjugate-gradient iterations in one Gauss-Newton step.
        covariance: `low-rank` (eigenpairs), `draws` (perturb-and-optimise, for images with many
            data), or `auto`: low-rank where unknowns or data are at most `direct_limit`.
        direct_limit: Number of unknowns or data up to which all eigenpairs are computed.
        rank: Most eigenpairs kept where they are found by block Krylov iterations.
        eigenvalue_tolerance: Eigenpairs below it are left out; each exaggerates the variance along
            its direction by this fraction at most.
        samples: Draws where the posterior is given by draws.
        block: Draws per step, solved together: many take fewer iterations than few, and more memory.
        draw_tolerance: Root-mean-square residual of draws in units of the prior's std.
        draw_cg_steps: Largest number of conjugate-gradient iterations for a block of draws; draws that
            stop here before `draw_tolerance` (`cg_residual` tells) are wider than the posterior.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Bui-Thanh et al., SIAM J. Sci. Comput. 35 (2013); Halko et al., SIAM Review 53 (2011).
    """

    newton_steps: int = 30
    tolerance: float = 1e-8
    decrease: float = 1e-4
    cg_steps: int = 100
    covariance: Literal["auto", "low-rank", "draws"] = "auto"
    direct_limit: int = 1000
    rank: int = 300
    eigenvalue_tolerance: float = 0.01
    samples: int = 64
    block: int = 32
    draw_tolerance: float = 0.02
    draw_cg_steps: int = 200

    name: ClassVar[str] = "laplace"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.JVP, Capability.VJP, Capability.WHITENED_PRIOR})
    citations: ClassVar[tuple[str, ...]] = ("buithanh2013", "halko2011", "papandreou2010")

    def __post_init__(self) -> None:
        one_of(self, "covariance", ("auto", "low-rank", "draws"))
        at_least(self, 1, "newton_steps", "cg_steps", "rank", "block", "draw_cg_steps")
        at_least(self, 2, "samples")
        at_least(self, 0, "tolerance", "decrease", "eigenvalue_tolerance", "draw_tolerance", "direct_limit")

    @property
    def max_steps(self) -> int:
        """Gauss-Newton steps for every level tried, then the covariance."""
        return (self.newton_steps + 1) * (_ROUNDS + 1) + 1 + -(-self.samples // self.block)

    def init(self, problem: Problem, streams: Streams) -> LaplaceState:
        """Begin at the prior's centre."""
        xi = WhitenedTarget(problem).origin
        empty = xi.new_zeros(0, *xi.shape)
        level = first_level(problem.likelihood.noise)
        return LaplaceState("newton", xi, empty, xi.new_zeros(0), empty, level=level)

    def step(self, problem: Problem, state: LaplaceState, streams: Streams) -> tuple[LaplaceState, Mapping[str, float]]:
        """A Gauss-Newton step, a new noise level, the eigenpairs, or a block of draws."""
        steps = {"newton": self._newton, "level": self._level, "covariance": self._low_rank, "draws": self._draws}
        state = steps[state.phase](problem, state, streams)
        return state, state.figures

    def finished(self, state: LaplaceState) -> Status | None:
        """Converged with the covariance; `MAX_STEPS` if the mode was not reached in `newton_steps`."""
        if state.phase != "done":
            return None
        return Status.CONVERGED if state.converged else Status.MAX_STEPS

    def result(self, problem: Problem, state: LaplaceState) -> Posterior:
        """The posterior: Gaussian, transformed Gaussian, or an ensemble of pushed draws.

        Raises:
            UnsupportedProblemError: If the covariance has not been computed yet.
        """
        parts = Unwhitened.of(problem.prior)
        if state.drawn >= 2:
            return parts.posterior_from_draws(state.xi, state.draws[: state.drawn])
        if state.phase != "done":
            message = "the Laplace approximation was stopped before its covariance was known; `resume` it."
            raise UnsupportedProblemError(message)
        return parts.posterior_from_root(state.xi, state.vectors, state.values, None)

    def diagnostics(self, problem: Problem, state: LaplaceState) -> Mapping[str, Any]:
        """Figures of the search and of the covariance; `truncated_eigenvalue` bounds what low rank left out."""
        level = {} if state.level is None else {"noise_level": state.level, "noise_level_by": "evidence maximisation"}
        kind = "draws" if state.drawn else "low-rank"
        figures = {"newton_steps": state.newton, "mode_converged": state.converged, "covariance": kind}
        advice = advice_on_draws(state.figures, self.draw_tolerance, "draw_cg_steps")
        return {**figures, **level, **state.figures, **advice}

    def _newton(self, problem: Problem, state: LaplaceState, streams: Streams) -> LaplaceState:
        target = WhitenedTarget(problem, state.level)
        step = gauss_newton_step(
            target,
            state.xi,
            scale=state.scale,
            tolerance=self.tolerance,
            decrease=self.decrease,
            cg_steps=self.cg_steps,
        )
        figures = {
            "objective": step.objective,
            "gradient": step.gradient_norm / step.scale if step.scale else 0.0,
            "cg_iterations": float(step.cg_iterations),
            "step_length": step.length,
        }
        newton = state.newton + 1
        over = step.converged or step.length == 0 or newton >= self.newton_steps * (abs(state.rounds) + 1)
        phase = "newton"
        if over:
            phase = "covariance" if state.level is None or state.rounds < 0 else "level"
            phase = "draws" if phase == "covariance" and self._by_draws(problem, target) else phase
        return replace(
            state, phase=phase, xi=step.xi, newton=newton, scale=step.scale, converged=step.converged, figures=figures
        )

    def _by_draws(self, problem: Problem, target: WhitenedTarget) -> bool:
        small = min(target.white.size, problem.operator.codomain.size) <= self.direct_limit
        return self.covariance == "draws" or (self.covariance == "auto" and not small)

    def _level(self, problem: Problem, state: LaplaceState, streams: Streams) -> LaplaceState:
        """One round of evidence maximisation; then the mode again, the last time with negative `rounds`."""
        assert state.level is not None
        level, informed, settled = level_round(
            problem,
            WhitenedTarget(problem, state.level).linearise(state.xi),
            state.xi,
            state.level,
            streams["level"],
            tolerance=self.draw_tolerance,
            max_iterations=self.draw_cg_steps,
        )
        rounds = state.rounds + 1
        rounds = -rounds if settled or rounds >= _ROUNDS else rounds
        figures = state.figures | {"noise_level": level, "informed_directions": informed}
        scale = state.scale * state.level / level  # the data's part of the gradient changes by this factor
        return replace(state, phase="newton", level=level, rounds=rounds, scale=scale, figures=figures)

    def _low_rank(self, problem: Problem, state: LaplaceState, streams: Streams) -> LaplaceState:
        local = WhitenedTarget(problem, state.level).linearise(state.xi)
        pairs = gram_eigenpairs(
            local.data_map,
            state.xi,
            streams["eigenpairs"],
            rank=self.rank,
            tolerance=self.eigenvalue_tolerance,
            direct_limit=self.direct_limit,
        )
        figures = state.figures | {
            "rank": float(len(pairs.values)),
            "truncated_eigenvalue": pairs.truncated,
            "informed_directions": float((pairs.values / (1 + pairs.values)).sum()),
            "log_evidence": -local.objective - 0.5 * float(pairs.values.log1p().sum()),
        }
        state = replace(state, phase="done", vectors=pairs.vectors, values=pairs.values, figures=figures)
        if Unwhitened.of(problem.prior).gaussian is None:
            draws = low_rank_deviations(pairs.vectors, pairs.values, state.xi, streams["draws"], self.samples)
            state = replace(state, draws=draws, drawn=self.samples)
        return state

    def _draws(self, problem: Problem, state: LaplaceState, streams: Streams) -> LaplaceState:
        shape = Unwhitened.of(problem.prior).shape
        draws = state.draws if state.drawn else state.xi.new_zeros(self.samples, *shape)
        local = WhitenedTarget(problem, state.level).linearise(state.xi)
        blocks = Draws(self.block, self.draw_tolerance, self.draw_cg_steps)
        drawn, figures = blocks.next_block(problem, local, draws, state.drawn, streams["draws"])
        phase = "done" if drawn == self.samples else "draws"
        return replace(state, phase=phase, draws=draws, drawn=drawn, figures=state.figures | figures)
