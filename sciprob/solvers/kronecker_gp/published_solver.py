"""The published algorithm as a trainer of `sm-gp`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from sciprob.errors import UnsupportedProblemError
from sciprob.posteriors.base import Posterior
from sciprob.solvers.base import Status
from sciprob.solvers.kronecker_gp.published import PublishedModel, PublishedState
from sciprob.solvers.kronecker_gp.published_posterior import published_posterior
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows

if TYPE_CHECKING:
    from sciprob.priors.kernels import StationaryKernel
    from sciprob.problems.problem import Problem

_BLOCK = 10  # Adam steps in one step of the driver
_MARGIN = 1.25


@dataclass(frozen=True)
class PublishedTrainer:
    """Joint maximisation by Adam, `PublishedModel`, step by step.

    Args:
        kernel: `student-mixture` or `gaussian-mixture`.
        steps: Adam steps.
        largest_frequency: F; 0 takes 1.25 times the largest frequency of the problem's prior.
    """

    kernel: Literal["gaussian-mixture", "student-mixture"]
    steps: int
    largest_frequency: float

    def model(self, problem: Problem) -> PublishedModel:
        """The objective of a problem.

        Raises:
            UnsupportedProblemError: For sensors, or data other than those of the collocation.
        """
        rows = ProblemRows.of(problem)
        if rows.changed is not None:
            message = "the published algorithm knows only the data of the equation itself; use the default trainer."
            raise UnsupportedProblemError(message)
        kernels = [cast("StationaryKernel", axis.kernel) for axis in rows.operator.axes]
        largest = max(float(kernel.frequencies.detach().abs().max()) for kernel in kernels)
        widest = max(b - a for a, b in zip(rows.collocation.lower, rows.collocation.upper, strict=True))
        frequency = self.largest_frequency or max(_MARGIN * largest, 1 / widest)
        return PublishedModel(rows.collocation, frequency, self.kernel)

    def step(self, problem: Problem, state: PublishedState) -> tuple[PublishedState, Mapping[str, float]]:
        """Some Adam steps."""
        model, figures = self.model(problem), dict[str, float]()
        for _ in range(min(_BLOCK, self.steps - state.steps)):
            state, figures = model.step(state)  # type: ignore[assignment]
        return state, figures

    def finished(self, state: PublishedState) -> Status | None:
        """Completed when all steps are made."""
        return Status.COMPLETED if state.steps >= self.steps else None

    def result(self, problem: Problem, state: PublishedState) -> Posterior:
        """The Gaussian of U given the kernels and precisions at the last iterate."""
        return published_posterior(self.model(problem), state)

    def diagnostics(self, problem: Problem, state: PublishedState) -> Mapping[str, Any]:
        """Steps and objective, and what the bands mean."""
        return {
            "trainer": "published",
            "adam_steps": state.steps,
            "loss": state.loss,
            "largest_frequency": self.model(problem).largest_frequency,
            "posterior": "Gaussian of the grid values given kernels and precisions; too narrow between the nodes",
        }
