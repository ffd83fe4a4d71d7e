"""The Gaussian that samplers start from: the mode and its Laplace covariance, found step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sciprob.problems.problem import Problem
from sciprob.random import Streams, randn
from sciprob.solvers.covariance import scale_along
from sciprob.solvers.gauss_newton import gauss_newton_step
from sciprob.solvers.linear_algebra import gram_eigenpairs
from sciprob.solvers.noise_level import first_level, level_round
from sciprob.solvers.whitened import WhitenedTarget


@dataclass(frozen=True)
class GaussianReference:
    """N(c, C) in whitened coordinates, C = (I + V^T diag(lam) V)^{-1}.

    Attributes:
        centre: c `(*white.shape)`.
        vectors: V `(r, *white.shape)`, orthonormal.
        values: lam `(r,)`.
    """

    centre: Tensor
    vectors: Tensor
    values: Tensor

    def at(self, z: Tensor) -> Tensor:
        """The points c + C^{1/2} z for `z (n, *white.shape)`; differentiable in z."""
        return self.centre + scale_along(self.vectors, (1 + self.values).rsqrt(), z)

    def propose(self, xi: Tensor, beta: float, generator: torch.Generator) -> Tensor:
        """Points c + sqrt(1 - beta^2) (xi - c) + beta C^{1/2} z for `xi (n, *white.shape)`; keeps N(c, C) invariant."""
        z = randn(tuple(xi.shape), xi, generator)
        noise = scale_along(self.vectors, (1 + self.values).rsqrt(), z)
        return self.centre + math.sqrt(1 - beta**2) * (xi - self.centre) + beta * noise

    def overdispersed(self, count: int, factor: float, generator: torch.Generator) -> Tensor:
        """Points `(count, *white.shape)` around c with `factor` times the std of C, nowhere wider than the prior."""
        z = randn((count, *self.centre.shape), self.centre, generator)
        return self.centre + scale_along(self.vectors, (factor * (1 + self.values).rsqrt()).clamp_max(1), z)

    def excess(self, xi: Tensor) -> Tensor:
        """|xi|^2 / 2 - (xi - c)^T C^{-1} (xi - c) / 2, `(n,)`.

        That is -log of prior over reference up to a constant, without the terms |xi|^2 that cancel
        and would grow with the dimension.
        """
        c = self.centre.flatten()
        along = (xi - self.centre).flatten(1) @ self.vectors.flatten(1).T
        return xi.flatten(1) @ c - c @ c / 2 - (self.values * along.square()).sum(1) / 2


@dataclass
class ReferenceState:
    """How far the search for the reference is: `phase` is `mode`, `level`, `eigenpairs` or `found`."""

    phase: str
    centre: Tensor
    vectors: Tensor
    values: Tensor
    newton: int = 0
    scale: float = 0.0
    level: float | None = None
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def gaussian(self) -> GaussianReference:
        """The reference as far as it is known; before the search, the prior."""
        return GaussianReference(self.centre, self.vectors, self.values)


@dataclass(frozen=True)
class ReferenceSearch:
    """Gauss-Newton to the mode, the noise level there if it is unknown, and the eigenpairs.

    Nothing has to be exact: a sampler has the right posterior with any reference, and a good one soon.

    Args:
        newton_steps: Largest number of Gauss-Newton steps to the mode.
        rank: Most eigenpairs where they are found by block Krylov iterations.
        eigenvalue_tolerance: Eigenpairs below it are left to the prior.
        direct_limit: Number of unknowns or data up to which all eigenpairs are computed.
    """

    newton_steps: int = 50
    rank: int = 200
    eigenvalue_tolerance: float = 0.1
    direct_limit: int = 1000

    @property
    def max_steps(self) -> int:
        """Steps that the search may take."""
        return 2 * self.newton_steps + 1

    def begin(self, problem: Problem, *, search: bool) -> ReferenceState:
        """At the prior's centre; without `search` the prior is the reference."""
        xi = WhitenedTarget(problem).origin
        empty = xi.new_zeros(0, *xi.shape)
        level = first_level(problem.likelihood.noise)
        return ReferenceState("mode" if search else "found", xi, empty, xi.new_zeros(0), level=level)

    def step(self, problem: Problem, state: ReferenceState, streams: Streams) -> ReferenceState:
        """One Gauss-Newton step, one noise level, or the eigenpairs."""
        phases = {"mode": self._mode, "level": self._level, "eigenpairs": self._eigenpairs}
        return phases[state.phase](problem, state, streams)

    def _mode(self, problem: Problem, state: ReferenceState, streams: Streams) -> ReferenceState:
        step = gauss_newton_step(
            WhitenedTarget(problem, state.level),
            state.centre,
            scale=state.scale,
            tolerance=1e-3,
            decrease=1e-4,
            cg_steps=100,
        )
        newton = state.newton + 1
        found = step.converged or step.length == 0 or newton >= self.newton_steps
        phase = "mode" if not found else "eigenpairs" if state.level is None else "level"
        figures = {"objective": step.objective, "gradient": step.gradient_norm / (step.scale or 1.0)}
        return replace(state, phase=phase, centre=step.xi, newton=newton, scale=step.scale, figures=figures)

    def _level(self, problem: Problem, state: ReferenceState, streams: Streams) -> ReferenceState:
        """Fit the level that the reference is conditioned on; samplers integrate it out."""
        assert state.level is not None
        local = WhitenedTarget(problem, state.level).linearise(state.centre)
        level, _, settled = level_round(
            problem, local, state.centre, state.level, streams["level"], tolerance=0.1, max_iterations=100
        )
        over = settled or state.newton >= self.newton_steps
        scale = state.scale * state.level / level
        return replace(state, phase="eigenpairs" if over else "mode", level=level, scale=scale)

    def _eigenpairs(self, problem: Problem, state: ReferenceState, streams: Streams) -> ReferenceState:
        local = WhitenedTarget(problem, state.level).linearise(state.centre)
        pairs = gram_eigenpairs(
            local.data_map,
            state.centre,
            streams["eigenpairs"],
            rank=self.rank,
            tolerance=self.eigenvalue_tolerance,
            direct_limit=self.direct_limit,
        )
        figures = {"rank": float(len(pairs.values))}
        return replace(state, phase="found", vectors=pairs.vectors, values=pairs.values, figures=figures)
