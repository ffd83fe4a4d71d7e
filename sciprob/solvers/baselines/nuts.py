"""The no-U-turn sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
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
from sciprob.solvers.coordinates import Coordinates
from sciprob.solvers.hamiltonian import ChainRun, adapted, transitions, warm_up
from sciprob.solvers.reference import ReferenceSearch, ReferenceState

_SEARCH = ReferenceSearch()
_FOR_LAPLACE = {Capability.WHITENED_PRIOR, Capability.JVP, Capability.VJP}


@dataclass
class NUTSState:
    """State of `NUTS`: reference Gaussian if there is one, positions, frozen step sizes and mass matrices, draws."""

    reference: ReferenceState | None
    positions: Tensor
    step_sizes: Tensor
    inverse_mass: Tensor
    draws: Tensor
    warmed: int = 0
    kept: int = 0
    divergences: int = 0
    gradients: int = 0
    deepest: int = 0
    acceptance: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class NUTS:
    """Hamiltonian Monte Carlo with trajectories of automatic length, by Pyro.

    Exact for smooth posteriors of moderate dimension; every leapfrog step costs one forward and one
    adjoint solve. The coordinates are those in which the Laplace approximation, or else the prior, is
    standard normal; without the former, precise data make trajectories long. Priors without
    whitening are sampled in the unconstrained coordinates of their support. Step size and diagonal
    mass matrix are adapted in the warm-up of each chain and then fixed. Divergences tell of regions
    that the chains could not enter: use `pcn`, or reparameterise.

    Args:
        chains: Chains, one after the other, each from a draw of the Laplace approximation or the prior.
        warm_up: Transitions of each chain that adapt step size and mass matrix.
        samples: Draws kept of each chain.
        block: Draws of each chain in one step of the driver.
        target_acceptance: Acceptance statistic that the step size is adapted to; nearer to 1 for
            fewer divergences.
        max_tree_depth: Trajectories have at most 2^depth leapfrog steps.
        preconditioner: `laplace`, `prior`, or `auto`: the former where the prior is whitened and the
            operator has tangents.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Hoffman and Gelman, J. Mach. Learn. Res. 15 (2014); Bingham et al., J. Mach. Learn. Res. 20 (2019).
    """

    chains: int = 4
    warm_up: int = 300
    samples: int = 500
    block: int = 10
    target_acceptance: float = 0.8
    max_tree_depth: int = 10
    preconditioner: Literal["auto", "laplace", "prior"] = "auto"

    name: ClassVar[str] = "nuts"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.VJP})
    citations: ClassVar[tuple[str, ...]] = ("hoffman2014", "bingham2019", "vehtari2021")

    def __post_init__(self) -> None:
        one_of(self, "preconditioner", ("auto", "laplace", "prior"))
        at_least(self, 1, "chains", "block", "max_tree_depth")
        at_least(self, 4, "samples")
        at_least(self, 10, "warm_up")
        between(self, 0, 1, "target_acceptance")

    @property
    def max_steps(self) -> int:
        """The search for the reference, the warm-up of each chain, then blocks of draws of all chains."""
        return _SEARCH.max_steps + self.chains - (-self.samples // self.block)

    def init(self, problem: Problem, streams: Streams) -> NUTSState:
        """Chains at draws of the prior, or of the reference once it is found.

        Raises:
            UnsupportedProblemError: If the prior has neither whitening nor density, or the Laplace
                preconditioner lacks something.
        """
        able = problem.offers >= _FOR_LAPLACE
        if self.preconditioner == "laplace" and not able:
            message = "the Laplace preconditioner needs a whitened prior and tangents of the operator; leave it `auto`."
            raise UnsupportedProblemError(message)
        search = able and self.preconditioner != "prior"
        positions = Coordinates.of(problem).start(self.chains, streams["start"])
        return NUTSState(
            reference=_SEARCH.begin(problem, search=True) if search else None,
            positions=positions,
            step_sizes=torch.ones(self.chains, dtype=torch.float64),
            inverse_mass=torch.ones_like(positions).flatten(1),
            draws=positions.new_zeros(self.chains, self.samples, *problem.prior.space.shape),
        )

    def step(self, problem: Problem, state: NUTSState, streams: Streams) -> tuple[NUTSState, Mapping[str, float]]:
        """A step towards the reference, the warm-up of one chain, or a block of draws of every chain."""
        reference = state.reference
        if reference is not None and reference.phase != "found":
            reference = _SEARCH.step(problem, reference, streams)
            return replace(state, reference=reference), reference.figures
        coordinates = Coordinates.of(problem, None if reference is None else reference.gaussian)
        act = self._warm if state.warmed < self.chains else self._draw
        state = act(coordinates, state, streams)
        return state, state.figures

    def finished(self, state: NUTSState) -> Status | None:
        """Completed when all draws are made."""
        return Status.COMPLETED if state.kept == self.samples else None

    def result(self, problem: Problem, state: NUTSState) -> Posterior:
        """Ensemble of the draws so far, without warm-up.

        Raises:
            UnsupportedProblemError: If there is no draw yet.
        """
        if state.kept == 0:
            message = "the chains were stopped before the end of their warm-up, there are no draws yet; `resume` them."
            raise UnsupportedProblemError(message)
        return Ensemble(problem.prior.space, state.draws[:, : state.kept].flatten(0, 1), chains=self.chains)

    def diagnostics(self, problem: Problem, state: NUTSState) -> Mapping[str, Any]:
        """Divergences, acceptance, tree depth, R-hat and effective sample sizes of the unknown."""
        figures: dict[str, Any] = {
            "chains": self.chains,
            "draws_per_chain": state.kept,
            "divergences": state.divergences,
            "gradients": state.gradients,
            "deepest_tree": state.deepest,
            "step_size_mean": float(state.step_sizes.mean()),
        }
        if state.kept:
            figures["acceptance"] = state.acceptance / state.kept
        if state.kept >= 4:
            summary = mcmc.summary(state.draws[:, : state.kept])
            figures |= summary | mcmc.advice(summary)
        return figures

    def _warm(self, coordinates: Coordinates, state: NUTSState, streams: Streams) -> NUTSState:
        chain = state.warmed
        run = warm_up(
            coordinates.potential,
            state.positions[chain],
            _seed(streams),
            steps=self.warm_up,
            target=self.target_acceptance,
            depth=self.max_tree_depth,
        )
        figures = {"warmed": chain + 1.0, "acceptance": run.acceptance, "step_size": run.step_size}
        return replace(state, **adapted(state, run), figures=figures)

    def _draw(self, coordinates: Coordinates, state: NUTSState, streams: Streams) -> NUTSState:
        count = min(self.block, self.samples - state.kept)
        kept = state.kept + count
        runs = []
        for chain in range(self.chains):
            run = transitions(
                coordinates.potential,
                state.positions[chain],
                _seed(streams),
                count=count,
                step_size=float(state.step_sizes[chain]),
                inverse_mass=state.inverse_mass[chain],
                depth=self.max_tree_depth,
            )
            state.draws[chain, state.kept : kept] = coordinates.parameter(run.positions)
            runs.append(run)
        return self._with_runs(state, runs, kept)

    def _with_runs(self, state: NUTSState, runs: list[ChainRun], kept: int) -> NUTSState:
        acceptance = sum(run.acceptance for run in runs) / len(runs)
        divergences = state.divergences + sum(run.divergences for run in runs)
        gradients = sum(run.gradients for run in runs)
        figures = {
            "draws": float(kept),
            "acceptance": acceptance,
            "divergences": float(divergences),
            "gradients_per_draw": gradients / (len(runs) * (kept - state.kept)),
        }
        return replace(
            state,
            positions=torch.stack([run.positions[-1] for run in runs]),
            kept=kept,
            divergences=divergences,
            gradients=state.gradients + gradients,
            deepest=max(state.deepest, *(run.deepest for run in runs)),
            acceptance=state.acceptance + acceptance * (kept - state.kept),
            figures=figures,
        )


def _seed(streams: Streams) -> int:
    generator = streams["nuts"]
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
