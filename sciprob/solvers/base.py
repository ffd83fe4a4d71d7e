"""What the driver needs of a solver."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from sciprob.operators.base import Capability
from sciprob.random import Streams

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem


class Status(enum.Enum):
    """How a run ended; the value is the advice."""

    CONVERGED = "The stopping rule was met."
    COMPLETED = "All planned steps were made."
    MAX_STEPS = "Stopped at the largest number of steps before the stopping rule was met; raise it or `resume`."
    BUDGET = "Stopped by the time budget; `sciprob resume` continues where it ended."
    INTERRUPTED = "Stopped by the user; `sciprob resume` continues where it ended."


@dataclass(frozen=True)
class Outcome:
    """Status and figures of a finished run.

    Args:
        status: How it ended.
        steps: Steps made.
        seconds: Wall-clock time of the solver, all parts of a resumed run together.
        solves: forward, adjoint, tangent, factorisations, ...
        info: The last step's figures.
    """

    status: Status
    steps: int
    seconds: float
    solves: Mapping[str, int] = field(default_factory=dict)
    info: Mapping[str, float] = field(default_factory=dict)


class Solver[State](Protocol):
    """A method: a frozen dataclass of settings with three functions.

    `State` is a dataclass whose fields are tensors, numbers, strings, booleans, None, or
    dictionaries and lists of those, so that it can be checkpointed without pickle. All
    randomness comes from `streams` (named generators; the driver saves their states), and a step
    depends on nothing but its arguments, so a resumed run equals an uninterrupted one.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Capability]]
    citations: ClassVar[tuple[str, ...]]

    @property
    def max_steps(self) -> int:
        """Largest number of steps; 1 for closed-form methods."""
        ...

    def init(self, problem: Problem, streams: Streams) -> State:
        """Prepare the first state; cheap compared with all steps."""
        ...

    def step(self, problem: Problem, state: State, streams: Streams) -> tuple[State, Mapping[str, float]]:
        """One step of about 0.1 to 10 seconds, and figures for progress bar and log."""
        ...

    def finished(self, state: State) -> Status | None:
        """A status once the stopping rule is met, else None."""
        ...

    def result(self, problem: Problem, state: State) -> Posterior:
        """The posterior from the final, or an early, state."""
        ...

    def diagnostics(self, problem: Problem, state: State) -> Mapping[str, Any]:
        """Plain numbers for `metrics.json`."""
        ...
