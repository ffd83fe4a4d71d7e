"""A ball between four walls, filmed with noise: `bouncing-ball`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators.observe_frames import FirstFrames
from sciprob.priors.videos import BouncingBall
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.problems.video_report import VideoReport
from sciprob.random import Streams


@register("bouncing-ball")
@dataclass(frozen=True, kw_only=True)
class BouncingBallVideo:
    """Noisy first frames of a video; wanted are all frames without noise, those to come included.

    The law of the videos is known by draws alone, from which a solver learns it.

    Args:
        frames: Number of frames.
        seen: How many of them are data, from the first on.
        pixels: Of each side: 8, 16, 32, 64, ...
        interval: Time between two frames; 1 counts frames.
        std: Standard deviation of the errors of each pixel; the ball has brightness 1.
        seed: Of truth and noise.
    """

    words: ClassVar[Info] = Info(
        title="A bouncing ball",
        description="The first frames of a video give the rest.",
        citations=("daems2024",),
        default_solver="fbm-video",
    )

    frames: int = 25
    seen: int = 15
    pixels: int = 16
    interval: float = 1.0
    std: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.seen <= self.frames:
            message = f"`seen` should be 2 to `frames` = {self.frames}, got {self.seen}."
            raise ConfigError(message)
        if self.pixels < 8 or not self.interval > 0 or not self.std > 0:
            message = (
                f"`pixels` should be at least 8, `interval` and `std` positive, got {self.pixels}, {self.interval:g} "
                f"and {self.std:g}."
            )
            raise ConfigError(message)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem with a simulated video.

        Raises:
            UnsupportedProblemError: For a data file.
        """
        if data is not None:
            message = f"`{name}` draws its videos, which are the prior as well; it takes no data file, got {data.name}."
            raise UnsupportedProblemError(message)
        prior = BouncingBall(self.frames, self.pixels, self.interval)
        operator = FirstFrames(prior.space, self.seen)
        likelihood = Likelihood(operator, GaussianNoise(operator.codomain, torch.tensor(self.std)))
        problem = Problem(name, prior, likelihood, report=VideoReport(), info=self.words)
        return problem.simulate(Streams(self.seed)["problem"])
