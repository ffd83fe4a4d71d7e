"""The solver `fbm-video`: latent equations with fractional noise, learned from videos."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.operators.observe_frames import FirstFrames
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.problems.problem import Problem
from sciprob.random import Streams, randn
from sciprob.sde.rates import geometric_rates
from sciprob.solvers.base import Status
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.fbm_vi.adam import Climb
from sciprob.solvers.fbm_vi.video_model import VideoModel
from sciprob.solvers.fbm_vi.video_networks import Networks, VideoShape

_SLOWEST, _FASTEST = 1e-4, 10.0  # rates, over the length of the video and over the time between two frames
_BROWNIAN = 1e-7  # rate of a process that is Brownian motion, over the length
_FEWEST_CHANNELS = 16
_TRACED = 200  # points of the trace of H in `metrics.json`


@dataclass
class VideoState:
    """State of `FractionalVideo`.

    Attributes:
        phase: "train", "validate", "draw" or "done".
        climb: What is trained.
        trace: H after each step.
        bounds: Means over batches of validation videos of the bound and its divergence, `(n, 2)`.
        members: Decoded videos drawn so far.
        log_weights: log p(x, data) / q(x) of each.
        figures: Of the last step.
    """

    phase: str
    climb: Climb
    trace: Tensor
    bounds: Tensor
    members: Tensor
    log_weights: Tensor
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FractionalVideo:
    r"""Posterior of a video from its first frames, under a latent equation that is learned from draws of the prior.

    dx = b(x) dt + sigma dB_H in a few dimensions with a neural drift b, and frames decoder(x) + noise. Trained are
    decoder, drift, scales, H and an amortised posterior (an encoder, which gives Gaussian sites and a context, and a
    control network), on noisy videos that are drawn afresh in each step, by the evidence lower bound. Then the bound
    of new videos is estimated, and paths are drawn given the frames of the problem: posterior where there are frames,
    forecast after that. All members have equal weight; bands are those of the variational posterior.

    It fails where the networks are too small or the training too short for the decoder to show what moves.

    Args:
        noise: `fractional` with an unknown H, or `brownian` for H = 1/2, the baseline.
        training_steps: Steps of training.
        batch: Videos in each step.
        rate: Step length of Adam for the networks; five times that for H, scales and start.
        latents: Latent dimensions.
        channels: Of the coarsest maps of encoder and decoder; the others have half of it, and at least 16.
        features: Of a frame.
        width: Of the two hidden layers of drift and control.
        rates: Number of Ornstein-Uhlenbeck processes of fractional noise.
        substeps: Time steps between two frames.
        validation: Batches of videos for the bound that is reported.
        members: Paths of the result.

    Raises:
        ConfigError: If a setting is out of range, or does not fit the size of the frames.

    dtype and device: networks float32, the equation float64, on the problem's device.

    Source: Daems, Opper, Crevecoeur and Birdal, ICLR 2024; see `video_model` for the differences.
    """

    noise: Literal["fractional", "brownian"] = "fractional"
    training_steps: int = 1500
    batch: int = 16
    rate: float = 3e-3
    latents: int = 2
    channels: int = 32
    features: int = 32
    width: int = 32
    rates: int = 8
    substeps: int = 1
    validation: int = 16
    members: int = 64

    name: ClassVar[str] = "fbm-video"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.VIDEO, Capability.GAUSSIAN_NOISE})
    citations: ClassVar[tuple[str, ...]] = ("daems2024",)

    def __post_init__(self) -> None:
        one_of(self, "noise", ("fractional", "brownian"))
        at_least(self, 1, "batch", "latents", "channels", "features", "width", "rates", "substeps")
        at_least(self, 2, "validation", "members")
        at_least(self, 0, "training_steps", "rate")

    @property
    def max_steps(self) -> int:
        """Training, batches of validation, the members."""
        return self.training_steps + self.validation + 1

    def init(self, problem: Problem, streams: Streams) -> VideoState:
        """Random networks."""
        model = self._model(problem)
        vector = model.start(streams["weights"])
        none = vector.new_zeros(0)
        members = vector.new_zeros(0, *problem.parameter.shape)
        phase = "train" if self.training_steps else "validate"
        return VideoState(phase, Climb.at(vector), none, vector.new_zeros(0, 2), members, none.double())

    def step(self, problem: Problem, state: VideoState, streams: Streams) -> tuple[VideoState, Mapping[str, float]]:
        """A step of training; the bound of a batch; or the members."""
        model = self._model(problem)
        if state.phase == "train":
            state = self._train(problem, model, state, streams)
        elif state.phase == "validate":
            state = self._validate(problem, model, state, streams)
        else:
            state = self._draw(problem, model, state, streams)
        return state, state.figures

    def finished(self, state: VideoState) -> Status | None:
        """Completed with the members."""
        return Status.COMPLETED if state.phase == "done" else None

    def result(self, problem: Problem, state: VideoState) -> Posterior:
        """The videos drawn.

        Raises:
            UnsupportedProblemError: If there are none yet.
        """
        if not len(state.members):
            message = "the solver was stopped before videos were drawn, there is no posterior yet; `resume` it."
            raise UnsupportedProblemError(message)
        return Ensemble(problem.parameter, state.members)

    def diagnostics(self, problem: Problem, state: VideoState) -> Mapping[str, Any]:
        """Bound of validation videos and its error, divergence, H and its history, scales, evidence of the data."""
        model = self._model(problem)
        vector = state.climb.average
        found: dict[str, Any] = {"training_steps": state.climb.step, "noise": self.noise}
        if len(state.bounds):
            found["elbo"], found["divergence"] = state.bounds.mean(0).tolist()
        if len(state.bounds) > 1:
            found["elbo_error"] = float(state.bounds[:, 0].std()) / math.sqrt(len(state.bounds))
            found["validation_videos"] = self.batch * len(state.bounds)
        if len(state.log_weights):
            found["log_evidence"] = float(state.log_weights.logsumexp(0)) - math.log(len(state.log_weights))
            found["ess"] = float(1 / torch.softmax(state.log_weights, 0).square().sum())
        found["hurst"] = float(model.hurst(vector))
        found["scale"] = [float(value) for value in model.numbers(vector)[0]]
        if self.noise == "fractional" and len(state.trace):
            kept = torch.linspace(0, len(state.trace) - 1, min(_TRACED, len(state.trace))).round().long().tolist()
            found["hurst_trace"] = [[i + 1, float(state.trace[i])] for i in kept]
        return found

    def _model(self, problem: Problem) -> VideoModel:
        """The model for the frames of a problem.

        Raises:
            UnsupportedProblemError: If the data are not first frames, or the error differs from pixel to pixel.
        """
        operator, std = problem.operator, problem.likelihood.noise.std
        if not isinstance(operator, FirstFrames) or std.numel() != 1:
            message = (
                f"`fbm-video` needs the first frames of a video with one standard deviation for all pixels, got "
                f"{type(operator).__name__} with {std.numel()}."
            )
            raise UnsupportedProblemError(message)
        times = problem.parameter.coords["time"].to(std.device)
        length, gap = float(times[-1]), float(times.diff().min())
        if self.noise == "brownian":
            rates = geometric_rates(_BROWNIAN / length, _BROWNIAN / length, 1)
        else:
            rates = geometric_rates(_SLOWEST / length, _FASTEST / gap, self.rates)
        pixels = problem.parameter.shape[-1]
        halvings = max(1, round(math.log2(pixels / 4)))
        channels = [max(min(_FEWEST_CHANNELS, self.channels), self.channels >> i) for i in range(halvings)][::-1]
        shape = VideoShape(pixels, self.latents, len(rates) + 1, tuple(channels), self.features, self.width)
        return VideoModel(
            Networks(shape), rates.to(times), times, self.substeps, float(std), self.noise == "fractional"
        )

    def _videos(self, problem: Problem, model: VideoModel, generator: torch.Generator) -> Tensor:
        """Noisy videos, `(batch, n, p, p)`."""
        clean = problem.prior.sample((self.batch,), generator=generator)
        return clean + model.std * randn(tuple(clean.shape), clean, generator)

    def _train(self, problem: Problem, model: VideoModel, state: VideoState, streams: Streams) -> VideoState:
        climb, videos = state.climb, self._videos(problem, model, streams["videos"])
        rates = torch.full_like(climb.position, self.rate)
        rates[: model.size] *= 5
        with torch.enable_grad():
            vector = climb.position.clone().requires_grad_()
            bound, divergence = model.bound(vector, videos, 1, streams["paths"])
            (gradient,) = torch.autograd.grad(bound, vector)
        climb = climb.ascend(gradient, rates, self.training_steps)
        hurst = model.hurst(climb.position)
        figures = {"elbo": float(bound.detach()), "divergence": float(divergence), "hurst": float(hurst)}
        trace = torch.cat([state.trace, hurst[None].to(state.trace)])
        phase = "train" if climb.step < self.training_steps else "validate"
        return replace(state, phase=phase, climb=climb, trace=trace, figures=figures)

    @torch.no_grad()
    def _validate(self, problem: Problem, model: VideoModel, state: VideoState, streams: Streams) -> VideoState:
        videos = self._videos(problem, model, streams["validation"])
        bound, divergence = model.bound(state.climb.average, videos, 1, streams["validation"])
        bounds = torch.cat([state.bounds, torch.stack([bound, divergence])[None].to(state.bounds)])
        phase = "validate" if len(bounds) < self.validation else "draw"
        mean = bounds.mean(0).tolist()
        return replace(state, phase=phase, bounds=bounds, figures={"elbo": mean[0], "divergence": mean[1]})

    @torch.no_grad()
    def _draw(self, problem: Problem, model: VideoModel, state: VideoState, streams: Streams) -> VideoState:
        vector, video = state.climb.average, problem.observed[None]
        drawn = model.draw(vector, video, self.members, streams["members"])
        log_weights = drawn.log_ratio + model.log_likelihood(vector, video, drawn.x)[:, 0]
        members = model.frames(vector, drawn.x[:, 0])
        return replace(state, phase="done", members=members, log_weights=log_weights, figures={})
