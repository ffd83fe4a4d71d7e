"""A small stochastic solver and problem for the driver's tests; also run as a script to be killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import Capability, DenseMap
from sciprob.posteriors import Ensemble, Posterior
from sciprob.priors.base import GaussianPrior
from sciprob.problems.problem import Info, Problem
from sciprob.random import Streams, randn
from sciprob.solvers.base import Status
from sciprob.spaces import GridSpace, Space


@dataclass
class Counters:
    """A nested part of the state."""

    accepted: int = 0
    rate: float = 0.1


@dataclass
class ToyState:
    """One of everything a state may hold."""

    m: Tensor
    draws: list[Tensor] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    notes: dict[str, Any] = field(default_factory=dict)
    word: str | None = None


@dataclass(frozen=True)
class ToySampler:
    """Random-walk Metropolis that keeps all draws.

    Args:
        draws: Number of steps.
        scale: Size of a proposal.
        pause: Seconds each step sleeps.
        poison: Step in which the state becomes NaN.
        late: Step before which there is no result.
    """

    name: ClassVar[str] = "toy"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.GAUSSIAN_PRIOR})
    citations: ClassVar[tuple[str, ...]] = ("cotter2013",)

    draws: int = 20
    scale: float = 0.3
    pause: float = 0.0
    poison: int | None = None
    late: int = 0

    @property
    def max_steps(self) -> int:
        return self.draws

    def init(self, problem: Problem, streams: Streams) -> ToyState:
        return ToyState(problem.prior.sample(generator=streams["start"]))

    def step(self, problem: Problem, state: ToyState, streams: Streams) -> tuple[ToyState, Mapping[str, float]]:
        time.sleep(self.pause)
        proposal = state.m + self.scale * randn(tuple(state.m.shape), state.m, streams["proposal"])
        gain = self._log_density(problem, proposal) - self._log_density(problem, state.m)
        if torch.rand((), generator=streams["accept"], dtype=torch.float64).log() < gain:
            state.m = torch.stack([state.m, proposal])[1]  # an offset view, to be settled by the driver
            state.counters.accepted += 1
        state.draws.append(state.m.clone())
        state.notes["gain"] = (float(gain), state.m.sum())
        state.word = f"step {len(state.draws)}"
        if self.poison == len(state.draws):
            state.m[1] = float("nan")
        return state, {"accepted": state.counters.accepted}

    def _log_density(self, problem: Problem, m: Tensor) -> Tensor:
        return problem.likelihood.log_prob(m, problem.observed) - m.square().sum() / 2

    def finished(self, state: ToyState) -> Status | None:
        return Status.COMPLETED if len(state.draws) >= self.draws else None

    def result(self, problem: Problem, state: ToyState) -> Posterior:
        if len(state.draws) < max(self.late, 2):
            from sciprob.errors import ConvergenceError

            message = "there are too few draws."
            raise ConvergenceError(message)
        return Ensemble(problem.parameter, torch.stack(state.draws))

    def diagnostics(self, problem: Problem, state: ToyState) -> Mapping[str, Any]:
        return {"accepted": state.counters.accepted, "network_calls": 3, "advice": "Sample longer."}


class CountedMap(DenseMap):
    """A matrix that counts its forward applications, as engines do."""

    def _apply_batched(self, m: Any) -> Any:
        self._stats.forward += len(m)
        return super()._apply_batched(m)


def toy_problem(n: int = 5, **changes: Any) -> Problem:
    """y = A m + noise on a line."""
    generator = torch.Generator().manual_seed(1)
    space = GridSpace((n,), name="m", dims=("x",), lower=(0.0,), upper=(1.0,))
    data_space = Space((3,), name="y", dims=("sensor",))
    ones = torch.ones(n, dtype=torch.float64)
    from sciprob.operators import DiagonalMap

    prior = GaussianPrior(0 * ones, DiagonalMap(ones, space))
    operator = CountedMap(torch.randn(3, n, generator=generator, dtype=torch.float64), space, data_space)
    likelihood = Likelihood(operator, GaussianNoise(data_space, 0.5))
    truth = torch.randn(n, generator=generator, dtype=torch.float64)
    info = Info(title="A line", citations=("stuart2010",))
    values = {"data": operator(truth), "truth": truth, "info": info} | changes
    return Problem("toy-line", prior, likelihood, **values)


if __name__ == "__main__":
    import sciprob.solvers.loop
    from sciprob.solvers.driver import solve

    sciprob.solvers.loop._CHECKPOINT_EVERY = 0.0
    solve(toy_problem(), ToySampler(draws=400, pause=0.01), seed=3, out=sys.argv[1], progress=False, device="cpu")
