"""The spectral-mixture Kronecker Gaussian-process solver, `sm-gp`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, cast

from sciprob.errors import SciprobWarning, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.pde.jet import Jet
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.process import ProcessPosterior
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.kronecker_gp.anderson import fixed_point
from sciprob.solvers.kronecker_gp.bayesian import KernelSampler, figures, kernel_sampler, mixture
from sciprob.solvers.kronecker_gp.candidates import Candidate, candidates, pack, unpack
from sciprob.solvers.kronecker_gp.gp_state import GPState, moved
from sciprob.solvers.kronecker_gp.hyperparameters import climb
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra, newton_step
from sciprob.solvers.kronecker_gp.published import PublishedState
from sciprob.solvers.kronecker_gp.published_solver import PublishedTrainer
from sciprob.solvers.kronecker_gp.resolution import advice, is_good
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows
from sciprob.solvers.kronecker_gp.scoring import fit, restore
from sciprob.spaces import GridSpace

_NEWTON = 25  # most iterations for one kernel


@dataclass(frozen=True)
class SpectralMixtureGP:
    """Gaussian process with spectral-mixture kernels, conditioned on an equation at grid points and on all data.

    u ~ GP(0, prod_j k_j + polynomials), k_j a mixture of envelopes times cosines. The frequencies come from the source,
    boundary and initial data. A linear equation at the grid points, conditions and sensors are linear functionals of u,
    on which it is conditioned exactly. A nonlinear equation is linearised again and again (Gauss-Newton, or
    an accelerated fixed point); its posterior is then the Laplace approximation at the solution.

    With exact data, standard deviations are scaled by the larger of the profiled amplitude
    sqrt(y^T (G + S)^-1 y / n) and the root mean square of standardised residuals between the grid points. Several
    kernels are tried, and the one with the smallest scaled std is kept: it has to fit the data (amplitude), obey
    the equation where it was not imposed (held-out residual), and leave little open. The exact solution plays no
    part. Bands cover truths from the prior at their level; for smoother ones they are conservative.

    With noisy data nothing is rescaled, and the kernels are those of the problem's prior.

    It fails where the grid has fewer than about 2.5 points per wavelength, and loses accuracy where
    the solution is not smooth (shocks); the held-out residual tells, and an advice names the grid that would do.

    Args:
        kernel: `gaussian-mixture`, `student-mixture` (Matern-5/2 envelopes), `prior` (that of the problem), or
            `auto`: the former in any, both in one dimension, and the prior's for noisy data.
        components: Most frequencies per coordinate.
        choice: `expected-error`, `evidence`, or `auto` as described.
        tolerance: Relative scaled std at which no further kernel is tried.
        evidence_steps: Rounds of at most 10 L-BFGS iterations on the evidence; the better of before and after is kept.
            A larger evidence is not a smaller error: on few noisy data bands became too narrow.
        nonlinear: `gauss-newton`, `fixed-point` (Anderson; one factorisation), or `auto`: the latter first in two
            or more dimensions, and the former where it does not converge.
        null_space: Polynomials 1, x, ... added to each axis, for what a source does not show.
        cut: Smallest eigenvalue of an axis' covariance that is kept, relative to the largest; 0: 1e-15 in one
            dimension and 1e-14 in more, where ranks multiply.
        hyperparameters: `point`, the best fit; `nuts` (for noisy data and small problems) samples the kernels'
            parameters around it, see `KernelSampler`: the posterior is then an ensemble on the grid.
        samples: Draws of the parameters in each of two chains, each with two draws of the field.
        warm_up: Transitions of each chain before.
        trainer: `closed-form`, all of the above, or `published`: the joint maximisation by Adam of Fang et al., for
            comparison; of the other settings it reads `kernel`.
        adam_steps: Steps of the published trainer.
        largest_frequency: Its initial frequencies reach from 0 to this; 0: 1.25 times the largest of the prior.

    Raises:
        ConfigError: If a setting is out of range.

    dtype and device: float64 on the problem's device.

    Sources: Fang et al., ICLR 2024, arXiv 2311.04465 (kernels); Cockayne et al., 2017 (conditioning);
    Chen et al., J. Comput. Phys. 447 (2021) (Gauss-Newton).
    """

    kernel: Literal["auto", "gaussian-mixture", "student-mixture", "prior"] = "auto"
    components: int = 8
    choice: Literal["auto", "expected-error", "evidence"] = "auto"
    tolerance: float = 1e-6
    evidence_steps: int = 0
    nonlinear: Literal["auto", "gauss-newton", "fixed-point"] = "auto"
    null_space: int = 2
    cut: float = 0.0
    hyperparameters: Literal["point", "nuts"] = "point"
    samples: int = 100
    warm_up: int = 100
    trainer: Literal["closed-form", "published"] = "closed-form"
    adam_steps: int = 2000
    largest_frequency: float = 0.0

    name: ClassVar[str] = "sm-gp"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.COLLOCATION})
    citations: ClassVar[tuple[str, ...]] = ("fang2024", "chen2021", "cockayne2017")

    def __post_init__(self) -> None:
        one_of(self, "kernel", ("auto", "gaussian-mixture", "student-mixture", "prior"))
        one_of(self, "choice", ("auto", "expected-error", "evidence"))
        one_of(self, "nonlinear", ("auto", "gauss-newton", "fixed-point"))
        one_of(self, "hyperparameters", ("point", "nuts"))
        one_of(self, "trainer", ("closed-form", "published"))
        at_least(self, 4, "samples")
        at_least(self, 10, "warm_up")
        at_least(self, 1, "components", "adam_steps")
        at_least(self, 0, "tolerance", "null_space", "cut", "evidence_steps", "largest_frequency")

    @property
    def max_steps(self) -> int:
        """Iterations for each kernel, rounds of the evidence, blocks of the chains."""
        if self.trainer == "published":
            return self.adam_steps
        return 6 * (_NEWTON + 1) + self.evidence_steps + KernelSampler.steps(self.samples)

    def init(self, problem: Problem, streams: Streams) -> GPState | PublishedState:
        """Nothing is computed yet."""
        ProblemRows.of(problem)
        return GPState() if self.trainer == "closed-form" else self._published.model(problem).init()

    def step(
        self, problem: Problem, state: GPState | PublishedState, streams: Streams
    ) -> tuple[GPState | PublishedState, Mapping[str, float]]:
        """Fit one kernel to a linear equation; one iteration for a nonlinear one; a round of the evidence."""
        if isinstance(state, PublishedState):
            return self._published.step(problem, state)
        rows = ProblemRows.of(problem)
        if state.phase == "chains":
            state = self._sample(rows, state, streams)
            return state, {} if state.chains is None else state.chains.progress()
        if state.phase == "evidence":
            state = self._climb(rows, state)
        elif rows.collocation.pde.linear:
            state = self._begin(rows, state)
            state = self._score(rows, state, None)
        else:
            state = self._iterate(rows, state)
        figures = {"residual": state.residual} if state.u else {}
        return state, figures | ({} if state.best is None else state.best.progress())

    def finished(self, state: GPState | PublishedState) -> Status | None:
        """Converged when the kernels are tried; `MAX_STEPS` if a nonlinear iteration did not settle."""
        if isinstance(state, PublishedState):
            return self._published.finished(state)
        if state.phase != "done":
            return None
        assert state.best is not None
        return Status.CONVERGED if state.best.settled else Status.MAX_STEPS

    def result(self, problem: Problem, state: GPState | PublishedState) -> Posterior:
        """The process of the best fit, or the mixture over the kernels' parameters.

        Raises:
            UnsupportedProblemError: If there is none yet.
        """
        if isinstance(state, PublishedState):
            return self._published.result(problem, state)
        if state.best is None:
            message = "the solver was stopped before its first fit, there is no posterior yet; `resume` it."
            raise UnsupportedProblemError(message)
        space = cast(GridSpace, problem.prior.space)
        if self.hyperparameters == "nuts":
            if state.chains is None or state.chains.kept == 0:
                message = "the chains were stopped before their first draw, there is no posterior yet; `resume` them."
                raise UnsupportedProblemError(message)
            return mixture(space, state.chains)
        return ProcessPosterior(space, restore(state.best), scale=state.best.std_factor)

    def diagnostics(self, problem: Problem, state: GPState | PublishedState) -> Mapping[str, Any]:
        """The kernel, how it was chosen, residuals at and between the nodes, evidence, rank, scale of the std."""
        if isinstance(state, PublishedState):
            return self._published.diagnostics(problem, state)
        if state.best is None:
            return {}
        rows = ProblemRows.of(problem)
        words = advice(state.best, rows.collocation)
        if words:
            warnings.warn(words, SciprobWarning, stacklevel=2)
        found: dict[str, Any] = {"kernel": state.best.label, "kernels_tried": len(state.tried)}
        found |= {"chosen_by": self._choice(rows), **state.best.figures()}
        if not rows.collocation.pde.linear:
            found |= {"newton_iterations": state.newton, "posterior": "Laplace approximation at the solution"}
        chains = {} if state.chains is None else figures(state.chains)
        words = " ".join(filter(None, (words, chains.pop("advice", ""))))
        return found | chains | ({"advice": words} if words else {})

    @property
    def _published(self) -> PublishedTrainer:
        kind: Literal["gaussian-mixture", "student-mixture"]
        kind = "gaussian-mixture" if self.kernel == "gaussian-mixture" else "student-mixture"
        return PublishedTrainer(kind, self.adam_steps, self.largest_frequency)

    def _algebra(self, rows: ProblemRows) -> LinearAlgebra:
        cut = self.cut or (1e-15 if len(rows.collocation.shape) == 1 else 1e-14)
        return LinearAlgebra(cut, self.null_space)

    def _choice(self, rows: ProblemRows) -> str:
        if self.choice != "auto":
            return self.choice
        return "evidence" if rows.noisy else "expected-error"

    def _begin(self, rows: ProblemRows, state: GPState) -> GPState:
        """The kernels of the current candidate, with frequencies from the latest iterate."""
        candidate = self._candidates(rows)[state.candidate]
        u = Jet(state.u) if state.u else None
        kernels = candidate.kernels(rows.operator, self.components, u)
        return replace(state, kernels=pack(kernels))

    def _candidates(self, rows: ProblemRows) -> tuple[Candidate, ...]:
        return candidates(self.kernel, len(rows.collocation.shape), noisy=rows.noisy)

    def _iterate(self, rows: ProblemRows, state: GPState) -> GPState:
        """One Gauss-Newton step, or the whole fixed point; the fit once it has settled."""
        u = Jet(state.u) if state.u else None
        if state.iterations <= 1:  # the first iterate shows frequencies that the source hides
            state = self._begin(rows, state)
        kernels = unpack(state.kernels)
        several = len(rows.collocation.shape) > 1
        tried = self.nonlinear == "fixed-point" or (self.nonlinear == "auto" and several)
        if tried and state.iterations == 0:
            found = fixed_point(self._algebra(rows), rows, kernels, u)
            if found.converged or self.nonlinear == "fixed-point":
                state = moved(state, found.u, found.residual, found.iterations)
                return self._score(rows, state, found.u, settled=found.converged)
        step = newton_step(self._algebra(rows), rows, kernels, u)
        settled = step.finished(state.residual, 1e-10)
        state = moved(state, step.u, step.residual, 1)
        if settled or state.iterations >= _NEWTON:
            return self._score(rows, state, step.u, settled=settled)
        return state

    def _score(self, rows: ProblemRows, state: GPState, u: Jet | None, *, settled: bool = True) -> GPState:
        """Condition with the current kernels, keep the better of this and the best, go to the next candidate."""
        kernels, queue = unpack(state.kernels), self._candidates(rows)
        label = queue[state.candidate].label
        new = fit(self._algebra(rows), rows, kernels, u, label, self._choice(rows), settled=settled)
        best = new if state.best is None or new.score < state.best.score else state.best
        following = queue[state.candidate + 1] if state.candidate + 1 < len(queue) else None
        over = is_good(best, self.tolerance, following)
        phase = "fit" if not over else "evidence" if self.evidence_steps else self._last
        return replace(
            state,
            phase=phase,
            best=best,
            first=state.kernels if best is new else state.first,
            candidate=state.candidate + (not over),
            iterations=0,
            residual=1e300,
            tried=[*state.tried, new.line()],
        )

    def _climb(self, rows: ProblemRows, state: GPState) -> GPState:
        """A round of L-BFGS on the evidence, kept if the score improves."""
        best = state.best
        assert best is not None
        u = Jet(state.u) if state.u else None
        kernels = climb(self._algebra(rows), rows, unpack(best.kernels), u)
        new = fit(self._algebra(rows), rows, kernels, u, best.label, self._choice(rows), settled=best.settled)
        rounds = state.rounds + 1
        better = new.score < best.score
        over = rounds >= self.evidence_steps or not better
        return replace(
            state,
            phase=self._last if over else "evidence",
            rounds=rounds,
            best=new if better else best,
            tried=[*state.tried, new.line()],
        )

    @property
    def _last(self) -> str:
        return "chains" if self.hyperparameters == "nuts" else "done"

    def _sample(self, rows: ProblemRows, state: GPState, streams: Streams) -> GPState:
        """The start of the chains, a warm-up, or a block of draws."""
        assert state.best is not None
        u = Jet(state.u) if state.u else None
        algebra, best = self._algebra(rows), state.best.kernels
        sampler = kernel_sampler(algebra, rows, best, state.first, u, self.samples, self.warm_up)
        chains = sampler.begin(streams) if state.chains is None else sampler.step(state.chains, streams)
        return replace(state, chains=chains, phase="done" if sampler.finished(chains) else "chains")
