"""Function-space Markov chain Monte Carlo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.metrics import mcmc
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, between, one_of
from sciprob.solvers.crank_nicolson import ChainBlock, posterior_over_reference
from sciprob.solvers.reference import ReferenceSearch, ReferenceState
from sciprob.solvers.whitened import WhitenedTarget

_OVERDISPERSION = 2.0


@dataclass
class PCNState:
    """State of `PCN`: reference Gaussian, chains (none before it is found), draws so far."""

    reference: ReferenceState
    chains: Tensor
    energies: Tensor
    draws: Tensor
    trace: Tensor
    step: float
    kept: int = 0
    iteration: int = 0
    accepted: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PCN:
    """Generalised preconditioned Crank-Nicolson: exact for any likelihood, robust under mesh refinement.

    From the reference N(c, C), C = (I + V^T lam V)^{-1} in whitened coordinates, the proposal
    c + sqrt(1 - beta^2) (xi - c) + beta C^{1/2} z leaves the reference invariant, and is accepted by the
    ratio of posterior to reference. With `preconditioner="laplace"` c is the mode and C the Laplace
    covariance; with "prior" c = 0, C = I, the method of Cotter et al., which needs no derivatives.
    All chains take their step in one batched forward call. beta is tuned during burn-in and then
    fixed. A noise level of unknown size is integrated out exactly.

    It explores one mode well; a chain that must cross between far modes will show in R-hat.

    Args:
        chains: Chains, started overdispersed (twice the Laplace std along informed directions).
        samples: Draws kept of each chain.
        thin: Iterations between kept draws.
        burn_in: Iterations of each chain before the first kept draw.
        block: Iterations in one step of the driver.
        beta: First step size, in (0, 1].
        target_acceptance: Acceptance rate that beta is tuned to; beta stays 1 if that accepts more.
        preconditioner: `laplace` or `prior`.
        inflation: Factor on the Laplace std along informed directions, at least 1. A reference
            narrower than the posterior makes chains stick in the tails, a wider one only costs acceptance.
        newton_steps: Largest number of Gauss-Newton steps to the mode.
        rank: Most eigenpairs in C where they are found by block Krylov iterations.
        eigenvalue_tolerance: Eigenpairs below it are left to the prior.
        direct_limit: Number of unknowns or data up to which all eigenpairs are computed.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Cotter, Roberts, Stuart, White, Statist. Sci. 28 (2013); Rudolf and Sprungk, Found.
    Comput. Math. 18 (2018).
    """

    chains: int = 4
    samples: int = 500
    thin: int = 10
    burn_in: int = 1000
    block: int = 50
    beta: float = 0.5
    target_acceptance: float = 0.3
    preconditioner: Literal["laplace", "prior"] = "laplace"
    inflation: float = 1.1
    newton_steps: int = 50
    rank: int = 200
    eigenvalue_tolerance: float = 0.1
    direct_limit: int = 1000

    name: ClassVar[str] = "pcn"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.WHITENED_PRIOR})
    citations: ClassVar[tuple[str, ...]] = ("cotter2013", "rudolf2018", "vehtari2021")

    def __post_init__(self) -> None:
        one_of(self, "preconditioner", ("laplace", "prior"))
        at_least(self, 1, "chains", "thin", "block", "newton_steps", "rank", "inflation")
        at_least(self, 4, "samples")
        at_least(self, 0, "burn_in", "eigenvalue_tolerance", "direct_limit")
        between(self, 0, 1, "target_acceptance")
        between(self, 0, 1 + 1e-12, "beta")

    @property
    def iterations(self) -> int:
        """Iterations of each chain."""
        return self.burn_in + self.samples * self.thin

    @property
    def max_steps(self) -> int:
        """Those of the search for the reference, and blocks of iterations."""
        return self._search.max_steps + -(-self.iterations // self.block)

    @property
    def _search(self) -> ReferenceSearch:
        return ReferenceSearch(self.newton_steps, self.rank, self.eigenvalue_tolerance, self.direct_limit)

    def init(self, problem: Problem, streams: Streams) -> PCNState:
        """Set up the memory of the chains.

        Raises:
            UnsupportedProblemError: If the Laplace preconditioner lacks derivatives.
        """
        laplace = self.preconditioner == "laplace"
        if laplace and not {Capability.JVP, Capability.VJP} <= problem.offers:
            message = 'the Laplace preconditioner needs derivatives of the operator; set `preconditioner="prior"`.'
            raise UnsupportedProblemError(message)
        reference = self._search.begin(problem, search=laplace)
        xi = reference.centre
        draws = xi.new_zeros(self.chains, self.samples, *problem.prior.space.shape)
        trace = xi.new_zeros(self.chains, self.samples)
        state = PCNState(reference, xi.new_zeros(0, *xi.shape), xi.new_zeros(0), draws, trace, step=self.beta)
        return state if laplace else self._start(problem, state, streams)

    def step(self, problem: Problem, state: PCNState, streams: Streams) -> tuple[PCNState, Mapping[str, float]]:
        """A step towards the reference, or a block of iterations of all chains."""
        if len(state.chains):
            state = self._iterate(problem, state, streams)
            return state, state.figures
        reference = self._search.step(problem, state.reference, streams)
        state = replace(state, reference=reference)
        if reference.phase == "found":
            values = ((1 + reference.values) / self.inflation**2 - 1).clamp_min(0)
            state = self._start(problem, replace(state, reference=replace(reference, values=values)), streams)
        return state, reference.figures

    def finished(self, state: PCNState) -> Status | None:
        """Completed when all draws are made."""
        return Status.COMPLETED if state.kept == self.samples else None

    def result(self, problem: Problem, state: PCNState) -> Posterior:
        """Ensemble of the draws so far, without burn-in.

        Raises:
            UnsupportedProblemError: If there is no draw yet.
        """
        if state.kept == 0:
            message = "the chains were stopped before the end of their burn-in, there are no draws yet; `resume` them."
            raise UnsupportedProblemError(message)
        draws = state.draws[:, : state.kept].flatten(0, 1)
        return Ensemble(problem.prior.space, draws, chains=self.chains)

    def diagnostics(self, problem: Problem, state: PCNState) -> Mapping[str, Any]:
        """Acceptance, step size, R-hat and effective sample sizes of the unknown."""
        figures: dict[str, Any] = {"chains": self.chains, "draws_per_chain": state.kept, "beta": state.step}
        sampled = state.iteration - self.burn_in
        if sampled > 0:
            figures["acceptance"] = state.accepted / sampled
        if state.kept >= 4:
            summary = mcmc.summary(state.draws[:, : state.kept])
            figures |= summary | mcmc.advice(summary)
        return figures | {"rank": len(state.reference.values)}

    def _start(self, problem: Problem, state: PCNState, streams: Streams) -> PCNState:
        reference = state.reference.gaussian
        chains = reference.overdispersed(self.chains, _OVERDISPERSION, streams["start"])
        energies = posterior_over_reference(WhitenedTarget(problem), reference, chains)
        return replace(state, chains=chains, energies=energies)

    def _iterate(self, problem: Problem, state: PCNState, streams: Streams) -> PCNState:
        target = WhitenedTarget(problem)
        chains = ChainBlock(target, state.reference.gaussian, state.chains, state.energies, state.step)
        kept, accepted, first = state.kept, state.accepted, state.iteration
        last = min(first + self.block, self.iterations)
        rates = []
        for i in range(first, last):
            rate = chains.advance(streams["chains"])
            rates.append(rate)
            if i < self.burn_in:
                chains.tune(rate, self.target_acceptance, i)
                continue
            accepted += rate
            if (i - self.burn_in + 1) % self.thin == 0:
                state.draws[:, kept] = target.whitening(chains.xi).detach()
                state.trace[:, kept] = chains.misfits()
                kept += 1
        figures = {"acceptance": sum(rates) / len(rates), "beta": chains.step, "draws": float(kept)}
        if kept >= 4:
            figures["rhat_misfit"] = float(mcmc.rhat(state.trace[:, :kept]).nan_to_num(1.0))
        return replace(
            state,
            chains=chains.xi,
            energies=chains.energies,
            step=chains.step,
            iteration=last,
            kept=kept,
            accepted=accepted,
            figures=figures,
        )
