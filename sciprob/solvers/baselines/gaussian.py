"""Exact conditioning of linear problems with Gaussian prior and noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.covariance import Draws, Unwhitened, advice_on_draws
from sciprob.solvers.linear_algebra import conjugate_gradients, inner, thin_svd
from sciprob.solvers.noise_level import first_level, level_round
from sciprob.solvers.whitened import LocalModel, WhitenedTarget

_ENTRIES = 40_000_000  # of the dense whitened operator in the direct method
_ROUNDS = 12


@dataclass
class GaussianState:
    """State of `Gaussian`: whitened mean, and eigenpairs or draws of the covariance."""

    phase: str
    xi: Tensor
    vectors: Tensor
    values: Tensor
    draws: Tensor
    drawn: int = 0
    level: float | None = None
    rounds: int = 0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Gaussian:
    """Exact posterior of y = G m + noise with linear G, Gaussian m and noise.

    In whitened coordinates with B = W^{1/2} G L the posterior is N(xi, (I + B^T B)^{-1}). Where one
    side of B is small, a singular value decomposition gives it to round-off, with the evidence.
    Where both are large, conjugate gradients give the mean to `tolerance`, and exact independent
    draws by perturb-and-optimise; marginal std then have the relative error 1 / sqrt(2 samples).

    A noise level that is to be estimated is set to the maximum of its posterior density (evidence
    maximisation), and its remaining uncertainty is ignored.

    Args:
        method: `direct`, `draws`, or `auto`: direct where the smaller side of B is at most `direct_limit`.
        direct_limit: Largest small side of B for which `auto` takes the direct method.
        samples: Exact draws of the method `draws`.
        block: Draws per step, solved together.
        tolerance: Residual of the mean relative to the right-hand side, for `draws`.
        draw_tolerance: Root-mean-square residual of draws in units of the prior's std.
        cg_steps: Largest number of conjugate-gradient iterations of one solve.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Stuart, Acta Numerica 19 (2010); Papandreou and Yuille, NeurIPS (2010).
    """

    method: Literal["auto", "direct", "draws"] = "auto"
    direct_limit: int = 1500
    samples: int = 64
    block: int = 32
    tolerance: float = 1e-7
    draw_tolerance: float = 1e-2
    cg_steps: int = 2000

    name: ClassVar[str] = "gaussian"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.LINEAR, Capability.GAUSSIAN_PRIOR, Capability.GAUSSIAN_NOISE}
    )
    citations: ClassVar[tuple[str, ...]] = ("stuart2010", "papandreou2010")

    def __post_init__(self) -> None:
        one_of(self, "method", ("auto", "direct", "draws"))
        at_least(self, 2, "samples")
        at_least(self, 1, "block", "cg_steps", "direct_limit")
        at_least(self, 0, "tolerance", "draw_tolerance")

    @property
    def max_steps(self) -> int:
        """One if direct, else one for the mean, some for an unknown level, and the blocks of draws."""
        return 1 if self.method == "direct" else 2 + _ROUNDS + -(-self.samples // self.block)

    def init(self, problem: Problem, streams: Streams) -> GaussianState:
        """Choose the method."""
        target = WhitenedTarget(problem)
        xi, white, data = target.origin, target.white.size, problem.operator.codomain.size
        small = min(white, data) <= self.direct_limit and white * data <= _ENTRIES
        direct = self.method == "direct" or (self.method == "auto" and small)
        draws = xi.new_zeros(0 if direct else self.samples, *problem.prior.space.shape)
        empty = xi.new_zeros(0, *xi.shape)
        level = first_level(problem.likelihood.noise)
        return GaussianState("direct" if direct else "mean", xi, empty, xi.new_zeros(0), draws, level=level)

    def step(
        self, problem: Problem, state: GaussianState, streams: Streams
    ) -> tuple[GaussianState, Mapping[str, float]]:
        """The whole direct solve; or the mean, a round for the noise level, or a block of draws."""
        if state.phase == "direct":
            state = self._solve_directly(problem, state)
        elif state.phase == "mean":
            state = self._solve_mean(problem, state, streams)
        else:
            state = self._draw(problem, state, streams)
        return state, state.figures

    def finished(self, state: GaussianState) -> Status | None:
        """Converged once the covariance is there."""
        return Status.CONVERGED if state.phase == "done" else None

    def result(self, problem: Problem, state: GaussianState) -> Posterior:
        """The Gaussian posterior; of the method `draws`, with the draws so far.

        Raises:
            UnsupportedProblemError: If fewer than two draws were made.
        """
        parts = Unwhitened.of(problem.prior)
        if len(state.draws) == 0 and state.phase == "done":
            return parts.posterior_from_root(state.xi, state.vectors, state.values, None)
        if state.drawn < 2:
            message = "the exact solve was stopped before its first draws, there is no posterior yet; `resume` it."
            raise UnsupportedProblemError(message)
        return parts.posterior_from_draws(state.xi, state.draws[: state.drawn])

    def diagnostics(self, problem: Problem, state: GaussianState) -> Mapping[str, Any]:
        """Figures of the solve; `noise_level` is the estimated factor on the noise variance."""
        level = {} if state.level is None else {"noise_level": state.level, "noise_level_by": "evidence maximisation"}
        method = "draws" if len(state.draws) else "direct"
        advice = advice_on_draws(state.figures, self.draw_tolerance, "cg_steps")
        return {"method": method, **level, **state.figures, **advice}

    def _solve_directly(self, problem: Problem, state: GaussianState) -> GaussianState:
        noise = problem.likelihood.noise
        target = WhitenedTarget(problem, None if state.level is None else 1.0)
        local = target.linearise(state.xi)
        left, singular, right = thin_svd(local.data_map, state.xi)
        residual = target.residual(local.clean).flatten()
        coefficients = left.flatten(1) @ residual
        rest = float((residual - coefficients @ left.flatten(1)).square().sum())
        values, level = singular.square(), state.level
        if level is not None:
            level = _most_probable_level(noise, values, coefficients, rest, len(residual))
            scale = math.sqrt(level)
            values, singular, coefficients, rest = values / level, singular / scale, coefficients / scale, rest / level
            target = WhitenedTarget(problem, level)
        xi = torch.tensordot(singular * coefficients / (1 + values), right, dims=1)
        misfit = rest + float((coefficients.square() / (1 + values)).sum())
        evidence = float(target.noise.log_prob(target.data, target.data)) - 0.5 * float(values.log1p().sum() + misfit)
        kept = values > 1e-15
        figures = {"log_evidence": evidence, "informed_directions": float((values / (1 + values)).sum())}
        return replace(
            state, phase="done", xi=xi, vectors=right[kept], values=values[kept], level=level, figures=figures
        )

    def _solve_mean(self, problem: Problem, state: GaussianState, streams: Streams) -> GaussianState:
        target = WhitenedTarget(problem, state.level)
        local = target.linearise(target.origin)
        xi, figures = self._mean(target, local)
        state = replace(state, xi=xi, phase="draws", figures=state.figures | figures)
        if state.level is None or state.rounds < 0:
            return state
        return self._update_level(problem, state, local, streams)

    def _mean(self, target: WhitenedTarget, local: LocalModel) -> tuple[Tensor, dict[str, float]]:
        b, residual = local.data_map, target.residual(local.clean)[None]
        tolerance = max(self.tolerance, 10 * torch.finfo(residual.dtype).eps)
        if b.codomain.size < b.domain.size:
            bound = tolerance * inner(residual, residual).sqrt()
            cg = conjugate_gradients(lambda w: w + b(b.T(w)), residual, bound, self.cg_steps)
            xi = b.T(cg.solution)[0]
        else:
            rhs = b.T(residual)
            cg = conjugate_gradients(local.hessian, rhs, tolerance * inner(rhs, rhs).sqrt(), self.cg_steps)
            xi = cg.solution[0]
        figures = {"mean_cg_iterations": float(cg.iterations), "mean_cg_converged": float(cg.converged)}
        return xi.detach(), figures

    def _update_level(
        self, problem: Problem, state: GaussianState, local: LocalModel, streams: Streams
    ) -> GaussianState:
        """One round of evidence maximisation; then another mean, the last one with `rounds` = -1."""
        assert state.level is not None
        at_mean = replace(local, clean=problem.operator(problem.prior.whitening(state.xi)))
        level, informed, settled = level_round(
            problem,
            at_mean,
            state.xi,
            state.level,
            streams["level"],
            tolerance=self.draw_tolerance,
            max_iterations=self.cg_steps,
        )
        rounds = -1 if settled or state.rounds + 2 >= _ROUNDS else state.rounds + 1
        figures = state.figures | {"noise_level": level, "informed_directions": informed}
        return replace(state, phase="mean", level=level, rounds=rounds, figures=figures)

    def _draw(self, problem: Problem, state: GaussianState, streams: Streams) -> GaussianState:
        local = WhitenedTarget(problem, state.level).linearise(state.xi)
        draws = Draws(self.block, self.draw_tolerance, self.cg_steps)
        drawn, figures = draws.next_block(problem, local, state.draws, state.drawn, streams["draws"])
        phase = "done" if drawn == self.samples else "draws"
        return replace(state, drawn=drawn, phase=phase, figures=state.figures | figures)


def _most_probable_level(noise: Any, values: Tensor, coefficients: Tensor, rest: float, size: int) -> float:
    """Maximise log p(y | s^2) + log p(s^2) over s^2, from the singular values at level 1, on ever finer grids."""
    values, square = values.double(), coefficients.double().square()
    low, high = -30.0, 30.0
    for _ in range(8):
        t = torch.linspace(low, high, 121, dtype=torch.float64, device=values.device)
        level = t.exp()
        total = level[:, None] + values
        log_likelihood = -0.5 * (total.log() + square / total).sum(1) - 0.5 * ((size - len(values)) * t + rest / level)
        best = int((log_likelihood + noise.level.log_prob(level)).argmax())
        low, high = float(t[max(best - 1, 0)]), float(t[min(best + 1, 120)])
    return math.exp((low + high) / 2)
