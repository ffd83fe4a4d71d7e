"""The exact solver of paths with affine drift and fractional noise, `kalman`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sciprob.errors import SciprobWarning, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.operators.observe_stored import StoredTimes
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.path import PathPosterior
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.sde.dense_paths import DensePathPosterior
from sciprob.sde.evidence import Method, PathEvidence, Route
from sciprob.sde.level_shift import level_shift
from sciprob.sde.markov_paths import MarkovPathPosterior
from sciprob.sde.maximise import maximise
from sciprob.sde.path_model import PathModel
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.kalman.estimates import (
    bounds,
    covariance_of,
    evaluate,
    first_guesses,
    hurst_profile,
    plain_figures,
    table,
    words_about,
)

_ROUND = 3  # Newton iterations of one step
_ROUNDS = 20
_SETTLED = 1e-5
_LONG_DENSE = 800  # data up to which gradients of the dense evidence are cheap
_SHIFT = 14.0  # gain in twice the log likelihood that long memory alone has in less than 1 % of series
_SHORTEST = 20


@dataclass(eq=False)
class KalmanState:
    """State of `Kalman`: the unknown numbers as real variables, then the path at the stored times."""

    phase: str
    raw: Tensor
    hessian: Tensor
    value: float = -1e300
    rounds: int = 0
    settled: bool = False
    mean: Tensor = field(default_factory=lambda: torch.zeros(0))
    variance: Tensor = field(default_factory=lambda: torch.zeros(0))
    profile: Tensor = field(default_factory=lambda: torch.zeros(0, 2))
    figures: dict[str, float] = field(default_factory=dict)


# paths that a step has conditioned, for the result; conditioned again after a reload
_CONDITIONED: WeakKeyDictionary[KalmanState, DensePathPosterior | MarkovPathPosterior] = WeakKeyDictionary()


@dataclass(frozen=True)
class Kalman:
    r"""Exact posterior of a path with affine drift and fractional noise, and the numbers of its equation.

    Unknown numbers (H, reversion, level, scale, errors) are set to the maximum of the evidence times their priors, by
    Newton's method from several Hurst indices; standard errors come from the curvature. Then the path is conditioned
    on the data: densely, which is exact, or by a Kalman filter and smoother on states whose noise is a Markov
    approximation of fractional noise, which is linear in the number of data. Bands are given the estimates.

    It fails where the drift is not affine (use `fbm-vi`), and for more increments than dense algebra holds.

    Args:
        method: `dense`, `markov`, or `auto`: dense where the covariance is known in closed form and there are at most
            `dense_limit` data.
        dense_limit: Largest number of data for which `auto` is dense.

    Raises:
        ConfigError: If a setting is out of range.

    dtype and device: float64 on the problem's device.

    Sources: Rauch, Tung and Striebel, AIAA J. 3 (1965); Beran (1994); Daems et al., ICLR 2024 (the Markov form).
    """

    method: Literal["auto", "dense", "markov"] = "auto"
    dense_limit: int = 5000

    name: ClassVar[str] = "kalman"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.PATH, Capability.GAUSSIAN_NOISE})
    citations: ClassVar[tuple[str, ...]] = ("rauch1965", "mandelbrot1968", "beran1994", "daems2024")

    def __post_init__(self) -> None:
        one_of(self, "method", ("auto", "dense", "markov"))
        at_least(self, 1, "dense_limit")

    @property
    def max_steps(self) -> int:
        """First guesses, rounds of Newton's method, the profile, the path."""
        return _ROUNDS + 3

    def init(self, problem: Problem, streams: Streams) -> KalmanState:
        """Check the model; nothing is computed yet."""
        evidence = evidence_of(problem)
        model = evidence.model
        if not model.gaussian:
            model.process(model.values(model.start()))  # raises, with the reason
        self._method(evidence)
        raw = model.start()
        phase = "guess" if model.size else "path"
        return KalmanState(phase, raw, raw.new_zeros(model.size, model.size), settled=not model.size)

    def step(self, problem: Problem, state: KalmanState, streams: Streams) -> tuple[KalmanState, Mapping[str, float]]:
        """Choose the first guess; some Newton iterations; the likelihood of H; or the path."""
        evidence = evidence_of(problem)
        if state.phase == "guess":
            state = self._guess(evidence, state)
        elif state.phase == "climb":
            state = self._climb(evidence, state)
        elif state.phase == "profile":
            route = self._route(evidence)
            together = route == "toeplitz"
            profile = hurst_profile(
                evidence.model,
                state.raw,
                state.hessian,
                lambda raw: evidence.log_posterior(raw, route),
                together=together,
            )
            state = replace(state, phase="path", profile=profile)
        else:
            state = self._condition(problem, evidence, state)
        progress = {"log_posterior": state.value} if evidence.model.size else {}
        if "hurst" in evidence.model.labels:
            progress["hurst"] = float(evidence.model.values(state.raw)["hurst"])
        return state, progress

    def finished(self, state: KalmanState) -> Status | None:
        """Converged with the path; `MAX_STEPS` if Newton's method did not settle before."""
        if state.phase != "done":
            return None
        return Status.CONVERGED if state.settled else Status.MAX_STEPS

    def result(self, problem: Problem, state: KalmanState) -> Posterior:
        """The path, known at all times.

        Raises:
            UnsupportedProblemError: If the solver was stopped before.
        """
        if state.phase != "done":
            message = "the solver was stopped before the path was conditioned, there is no posterior yet; `resume` it."
            raise UnsupportedProblemError(message)
        evidence = evidence_of(problem)
        conditional = _CONDITIONED.get(state)
        if conditional is None:
            conditional = evidence.condition(state.raw, self._method(evidence))
        return PathPosterior(problem.prior.space, conditional, mean=state.mean, variance=state.variance)

    def diagnostics(self, problem: Problem, state: KalmanState) -> Mapping[str, Any]:
        """Estimates with standard errors, evidence, route, and the likelihood of H along its ridge."""
        evidence = evidence_of(problem)
        model = evidence.model
        lower, upper = bounds(model, _spread(evidence))
        estimates = table(model, state.raw, covariance_of(state.hessian, state.raw, lower, upper)) if model.size else {}
        shift = _shift(evidence)
        advice = " ".join(filter(None, [words_about(estimates), shift.pop("words", "")]))
        if advice:
            warnings.warn(advice, SciprobWarning, stacklevel=2)
        found: dict[str, Any] = plain_figures(estimates) | {**state.figures, **shift}
        found |= {"method": self._method(evidence), "likelihood": self._route(evidence) if model.size else "none"}
        if len(state.profile):
            best = float(state.profile[:, 1].max())
            found["hurst_profile"] = [[h, value - best] for h, value in state.profile.tolist()]
        return found | ({"advice": advice} if advice else {})

    def _method(self, evidence: PathEvidence) -> Method:
        count = len(evidence.times)
        if self.method == "auto":
            series = evidence.model.observed == "increments"
            return "dense" if evidence.closed and (count <= self.dense_limit or series) else "markov"
        if self.method == "dense" and not evidence.closed:
            message = "the covariance of this path has no closed form (type II, or reversion < 0); use `markov`."
            raise UnsupportedProblemError(message)
        return self.method

    def _route(self, evidence: PathEvidence) -> Route:
        """How the evidence is maximised."""
        if self.method == "auto" and evidence.is_series:
            return "toeplitz"
        if self.method == "auto" and evidence.model.changing:  # whose exact covariance takes long, and states none
            return "markov"
        short = len(evidence.times) <= _LONG_DENSE or evidence.model.observed == "increments"
        return "dense" if self._method(evidence) == "dense" and (short or self.method == "dense") else "markov"

    def _guess(self, evidence: PathEvidence, state: KalmanState) -> KalmanState:
        route = self._route(evidence)
        guesses = first_guesses(evidence.model)
        values = evaluate(lambda raw: evidence.log_posterior(raw, route), guesses, together=route == "toeplitz")
        best = int(values.argmax())
        return replace(state, phase="climb", raw=guesses[best], value=float(values[best]))

    def _climb(self, evidence: PathEvidence, state: KalmanState) -> KalmanState:
        route = self._route(evidence)
        lower, upper = bounds(evidence.model, _spread(evidence))
        raw, value, hessian = maximise(
            lambda p: evidence.log_posterior(p, route), state.raw, lower, upper, iterations=_ROUND
        )
        rounds = state.rounds + 1
        settled = float((raw - state.raw).norm()) < _SETTLED or float(value) - state.value < 1e-7
        over = settled or rounds >= _ROUNDS
        return replace(
            state,
            phase="profile" if over else "climb",
            raw=raw,
            value=float(value),
            hessian=hessian,
            rounds=rounds,
            settled=settled,
        )

    def _condition(self, problem: Problem, evidence: PathEvidence, state: KalmanState) -> KalmanState:
        with torch.no_grad():
            conditional = evidence.condition(state.raw, self._method(evidence))
            mean, std = conditional.at(problem.prior.space.coords["time"].to(evidence.values.device))
        figures = {"log_evidence": float(conditional.log_evidence)}
        state = replace(state, phase="done", mean=mean, variance=std.square(), figures=figures)
        _CONDITIONED[state] = conditional
        return state


def evidence_of(problem: Problem) -> PathEvidence:
    """Model and data of a path problem.

    Raises:
        UnsupportedProblemError: If the data are not values of the path at stored times.
    """
    operator, model = problem.operator, getattr(problem.prior, "model", None)
    if not isinstance(operator, StoredTimes) or not isinstance(model, PathModel):
        message = f"`kalman` needs values of a path at stored times, got {type(operator).__name__}."
        raise UnsupportedProblemError(message)
    values = problem.observed.double()
    std = problem.likelihood.noise.std.double().expand(values.shape)
    times = operator.codomain.coords["time"].to(values.device)
    return PathEvidence(model, times, values, std)


def _spread(evidence: PathEvidence) -> float:
    return max(float((evidence.values - evidence.values.mean()).square().mean().sqrt()), 1.0)


def _shift(evidence: PathEvidence) -> dict[str, Any]:
    """Whether one shift of the level explains long memory of an equally spaced series of increments."""
    model = evidence.model
    if model.observed != "increments" or not evidence.is_series or "hurst" not in model.labels:
        return {}
    if len(evidence.values) < _SHORTEST:
        return {}
    found = level_shift(evidence.values)
    if float(found.gain) < _SHIFT:
        return {"level_shift_gain": float(found.gain)}
    words = (
        f"A shift of the level by {float(found.size):.4g} at row {int(found.index)} explains much of the memory: with "
        f"it taken out H is {float(found.hurst):.3f} (twice the log likelihood grows by {float(found.gain):.1f})."
    )
    return {"level_shift_gain": float(found.gain), "hurst_without_shift": float(found.hurst), "words": words}
