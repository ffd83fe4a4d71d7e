"""The solver `fbm-vi`: variational inference for paths driven by fractional noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sciprob.errors import SciprobWarning, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.sde.drifts import NetworkDrift
from sciprob.sde.rates import rates_for_times
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least
from sciprob.solvers.fbm_vi.adam import Climb
from sciprob.solvers.fbm_vi.guided import Guided, GuideState
from sciprob.solvers.fbm_vi.matched import Matched
from sciprob.solvers.fbm_vi.target import Numbers, PathTarget

_BLOCK = 500  # paths drawn in one step
_EXACT = 1e-3  # standard deviation of log weights below which there is nothing to train
_AFRESH = 25  # steps after which a guide follows the numbers
_CURVE = 41  # points of a drift that was learned
_FEW = 50.0  # effective members below which an advice is given


@dataclass
class PathState:
    """State of `FractionalVI`: what is trained, the guide, and the members drawn so far."""

    phase: str
    climb: Climb
    guide: GuideState | None
    bound: float
    members: Tensor
    log_weights: Tensor
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FractionalVI:
    r"""Variational posterior of a path of dx = b(x) dt + sigma dB_H, and the numbers of its equation.

    The noise is a sum of Ornstein-Uhlenbeck processes of one Brownian motion (Markov approximation), and the posterior
    adds a control to that Brownian motion. The states at time 0, which carry the past, are inferred too.

    Drift in the path: the control is that of the linearised equation in closed form, plus a network of time and
    states, which is trained on simulated paths. An affine drift needs no training: the bound is the evidence.
    Drift in the noise (`drift_on = "noise"`): Gaussian sites, trained in closed form without simulation.

    Unknown numbers are set to the maximum of the bound (times their priors); bands are given these. The result is an
    ensemble of paths with importance weights, which correct the variational approximation; `diagnostics` has the bound
    (`elbo`), the log evidence estimated by the weights, and the effective sample size `ess`.

    It fails where the effective sample size is small: long paths with many switches between wells.

    Args:
        training_steps: Steps of training.
        paths: Paths in each step, for a drift in the path.
        rate: Step length of Adam for the network; five or ten times that for numbers, sites and the start.
        width: Of the network's two hidden layers.
        time_step: Largest time step of training; 0: 1 / 80 of the path. Paths are drawn on the problem's grid.
        rates: Number of Ornstein-Uhlenbeck processes; 0: three in two decades.
        sites: Sites between two data, for a drift in the noise.
        nodes: Random times between two sites, for a drift in the noise.
        members: Paths of the result.

    Raises:
        ConfigError: If a setting is out of range.

    dtype and device: float64 on the problem's device.

    Sources: Daems, Opper, Crevecoeur and Birdal, ICLR 2024; Bartosh, Vetrov and Naesseth, ICML 2025.
    """

    training_steps: int = 300
    paths: int = 64
    rate: float = 5e-3
    width: int = 32
    time_step: float = 0.0
    rates: int = 0
    sites: int = 3
    nodes: int = 6
    members: int = 2000

    name: ClassVar[str] = "fbm-vi"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.PATH, Capability.GAUSSIAN_NOISE})
    citations: ClassVar[tuple[str, ...]] = ("daems2024",)

    def __post_init__(self) -> None:
        at_least(self, 1, "paths", "width", "nodes")
        at_least(self, 2, "members")
        at_least(self, 0, "training_steps", "rate", "time_step", "rates", "sites")

    @property
    def max_steps(self) -> int:
        """The guide, training, blocks of members."""
        return 1 + self.training_steps + -(-self.members // _BLOCK)

    def init(self, problem: Problem, streams: Streams) -> PathState:
        """Check the problem; nothing is computed yet."""
        target = self._target(problem)
        raw = target.model.start().to(target.values)
        none = raw.new_zeros(0)
        return PathState("guide", Climb.at(raw), None, -math.inf, raw.new_zeros(0, len(target.stored)), none)

    def step(self, problem: Problem, state: PathState, streams: Streams) -> tuple[PathState, Mapping[str, float]]:
        """Set up the guide or the sites; a step of training; or a block of members."""
        target = self._target(problem)
        if state.phase == "guide":
            state = self._begin(target, state, streams)
        elif state.phase == "train":
            state = self._train(target, state, streams)
        else:
            state = self._draw(target, state, streams)
        return state, state.figures

    def finished(self, state: PathState) -> Status | None:
        """Completed with the last member."""
        return Status.COMPLETED if state.phase == "done" else None

    def result(self, problem: Problem, state: PathState) -> Posterior:
        """The weighted paths so far.

        Raises:
            UnsupportedProblemError: If there are none yet.
        """
        if len(state.members) < 2:
            message = (
                "the solver was stopped before its first paths were drawn, there is no posterior yet; `resume` it."
            )
            raise UnsupportedProblemError(message)
        return Ensemble(problem.prior.space, state.members, state.log_weights)

    def diagnostics(self, problem: Problem, state: PathState) -> Mapping[str, Any]:
        """Bound, evidence by weights, effective sample size, unknown numbers, sizes.

        With a drift in the noise `step_error` is what the time steps of the paths take off their mean log weight, of
        order H + 1/2 in the step; that of `log_evidence` is smaller, as paths of large weight are less concerned.
        """
        target = self._target(problem)
        found: dict[str, Any] = dict(state.figures)
        if len(state.log_weights):
            found |= _figures(state.log_weights)
            found["elbo"] = found["mean_log_weight"]
            if target.model.drift_on == "noise":  # the bound by quadrature has no error of the time step, paths have
                found |= {"elbo": state.bound, "step_error": state.bound - found["mean_log_weight"]}
        numbers = target.numbers(state.climb.average[: target.model.size])
        found |= {name: float(numbers[name]) for name in self._plain(target)}
        if isinstance(target.model.drift, NetworkDrift) and len(state.members):
            found["drift_curve"] = _drift_curve(target, numbers, state.members)
        found |= {"training_steps": state.climb.step, "ou_processes": len(target.rates)}
        found["training"] = "simulated" if target.model.drift_on == "path" else "simulation-free"
        if state.guide is not None:
            found["linearised_share"] = state.guide.share
        if found.get("ess", math.inf) < min(_FEW, self.members / 4):
            words = f"Only {found['ess']:.0f} paths carry the weight; raise `training_steps`, `width` or `members`."
            warnings.warn(words, SciprobWarning, stacklevel=2)
            found["advice"] = words
        return found

    def _target(self, problem: Problem) -> PathTarget:
        blank = PathTarget.of(problem, torch.ones(1, dtype=torch.float64))
        model, ends = blank.model, torch.cat([blank.times.new_zeros(1), blank.times.unique()])
        gaps = ends.diff()
        smallest = float(gaps[gaps > 0].min()) if bool((gaps > 0).any()) else model.horizon
        rates = rates_for_times(
            horizon=model.horizon,
            resolution=min(smallest, self._time_step(model.horizon)),
            kind=model.kind,
            count=self.rates or None,
        )
        return replace(blank, rates=rates.to(blank.values))

    def _time_step(self, horizon: float) -> float:
        return self.time_step or horizon / 80

    def _guided(self, target: PathTarget) -> Guided:
        return Guided(target, self._time_step(target.model.horizon), self.width)

    def _matched(self, target: PathTarget) -> Matched:
        return Matched(target, self.sites, self.nodes, self._time_step(target.model.horizon) / 4)

    def _begin(self, target: PathTarget, state: PathState, streams: Streams) -> PathState:
        raw = state.climb.position
        if target.model.drift_on == "noise":
            return replace(
                state,
                phase="train" if self.training_steps else "draw",
                climb=Climb.at(self._matched(target).start(raw)),
            )
        guided = self._guided(target)
        guide = guided.guide(raw, streams["guide"])
        vector = guided.start(guide, raw, streams["weights"])
        with torch.no_grad():
            trial = guided.draw(guide, vector, 64, streams["guide"]).log_weights
        exact = float(trial.std()) < _EXACT and not target.model.size
        figures = {"elbo": float(trial.mean())}
        phase = "draw" if exact or not self.training_steps else "train"
        return replace(state, phase=phase, climb=Climb.at(vector), guide=guide, figures=figures)

    def _train(self, target: PathTarget, state: PathState, streams: Streams) -> PathState:
        """One step of Adam on the bound."""
        size, climb, guide = target.model.size, state.climb, state.guide
        with torch.enable_grad():
            vector = climb.position.clone().requires_grad_()
            if guide is None:
                matched = self._matched(target)
                bound = matched.bound(vector, streams["times"])
                rates, figures = matched.rates(climb.position, self.rate), {"elbo": float(bound.detach())}
            else:
                guided = self._guided(target)
                if size and climb.step and climb.step % _AFRESH == 0:
                    moved = guided.guide(climb.position[:size], None, guide.share)
                    guide = replace(moved, center=guide.center, spread=guide.spread)
                log_weights = guided.draw(guide, vector, self.paths, streams["paths"]).log_weights
                bound, rates = log_weights.mean(), guided.rates(guide, climb.position, self.rate)
                found = _figures(log_weights.detach())
                figures = {"elbo": float(bound.detach()), "ess_share": found["ess"] / self.paths}
            prior = target.model.log_prior(vector[:size]) if size else 0.0
            (gradient,) = torch.autograd.grad(bound + prior, vector)
        climb = climb.ascend(gradient, rates, self.training_steps)
        figures |= {name: float(value) for name, value in self._unknown(target, climb.position).items()}
        phase = "train" if climb.step < self.training_steps else "draw"
        return replace(state, phase=phase, climb=climb, guide=guide, figures=figures)

    def _unknown(self, target: PathTarget, vector: Tensor) -> dict[str, Tensor]:
        numbers = target.numbers(vector[: target.model.size])
        return {name: numbers[name] for name in self._plain(target)}

    def _plain(self, target: PathTarget) -> list[str]:
        """Names of unknown numbers, without vectors."""
        return [name for name in target.model.unknowns if name not in target.model.drift.vectors]

    @torch.no_grad()
    def _draw(self, target: PathTarget, state: PathState, streams: Streams) -> PathState:
        """A block of members at the average of late positions."""
        vector, count = state.climb.average, min(_BLOCK, self.members - len(state.members))
        bound = state.bound
        if state.guide is None:
            matched = self._matched(target)
            sample = matched.draw(vector, count, streams["members"], target.stored)
            if not len(state.members):
                bound = float(matched.bound(vector, None))
        else:
            sample = self._guided(target).draw(state.guide, vector, count, streams["members"], target.stored)
        at = (sample.grid[:, None] - target.stored).abs().argmin(0)
        members = torch.cat([state.members, sample.x[:, at]])
        log_weights = torch.cat([state.log_weights, sample.log_weights])
        phase = "draw" if len(members) < self.members else "done"
        found = _figures(log_weights)
        figures = {"log_evidence": found["log_evidence"], "ess": found["ess"]}
        return replace(
            state, phase=phase, bound=bound, members=members, log_weights=log_weights, figures=state.figures | figures
        )


def _drift_curve(target: PathTarget, numbers: Numbers, members: Tensor) -> list[list[float]]:
    """Pairs of x and b(x) where the paths are: between their quantiles of 1 and 99 %."""
    values = members.flatten()[:: max(1, members.numel() // 100_000)]
    low, high = values.quantile(0.01), values.quantile(0.99)
    x = low + (high - low) * torch.linspace(0, 1, _CURVE, dtype=values.dtype, device=values.device)
    return torch.stack([x, target.model.drift(x, numbers)], dim=1).tolist()


def _figures(log_weights: Tensor) -> dict[str, float]:
    """Mean and its error, the log of the mean weight (a bound that is close where `ess` is large), 1 / sum w^2."""
    count = len(log_weights)
    weights = torch.softmax(log_weights, 0)
    return {
        "mean_log_weight": float(log_weights.mean()),
        "elbo_error": float(log_weights.std() / math.sqrt(count)) if count > 1 else math.nan,
        "log_evidence": float(log_weights.logsumexp(0)) - math.log(count),
        "ess": float(1 / weights.square().sum()),
    }
