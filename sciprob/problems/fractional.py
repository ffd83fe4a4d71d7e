"""Paths of stochastic differential equations with fractional noise: `fractional-path`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError
from sciprob.io.series import read_series
from sciprob.problems.fractional_problem import path_problem
from sciprob.problems.fractional_settings import (
    DiffusionSettings,
    DriftSettings,
    InitialSettings,
    ObservationSettings,
)
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.sde.hurst_curve import HurstFormula
from sciprob.sde.parameters import Kind, Normalisation
from sciprob.sde.path_model import PathModel
from sciprob.sde.quantities import Quantity, Unknown


@register("fractional-path")
@dataclass(frozen=True, kw_only=True)
class FractionalPath:
    """A path of dx = b(x) dt + scale dB_H(t), from noisy values at some times.

    Every number that is unknown is written as a table with `start`, perhaps `spread` (of a prior around it: of the
    logarithm of positive numbers, of the logit of H; without it there is no prior) and `truth` (behind simulated data).

    Args:
        hurst: H: a number, a table if unknown, or a formula of t (type II noise).
        hurst_knots: Number of knots of an unknown H(t); 1 for a constant.
        hurst_truth: Formula of the H(t) behind simulated data.
        normalisation: Of the noise: `unit` (variance t^2H) or `gamma` (kernel (t - s)^(H - 1/2) / Gamma(H + 1/2)).
        observations: Times and errors of the data.
        noise: Type `I` (stationary increments) or `II` (Riemann-Liouville).
        scale: Factor of the noise.
        drift: b(x).
        diffusion: s(x), which multiplies the noise.
        drift_on: `path` for dx = b(x) dt + scale dB; `noise` for b(x) dt added to the dW inside B (Volterra).
        initial: Law of x(0).
        final_time: End of the path; with a data file 0 means its last time.
        steps: Steps of the grid on which the path is wanted.
        origin: Time of the data file that is time 0 of the path; `first` for its first row.
        seed: Of simulated data.
    """

    words: ClassVar[Info] = Info(
        title="A path with fractional noise from noisy values",
        equation=r"dx = b(x) dt + \sigma dB_H",
        description="Noisy values of a path at some times give the whole path, and what is unknown of its equation.",
        citations=("mandelbrot1968", "daems2024"),
        default_solver="kalman",
    )

    hurst: float | str | Unknown
    normalisation: Normalisation
    observations: ObservationSettings
    hurst_knots: int = 1
    hurst_truth: str | None = None
    noise: Kind = "I"
    scale: Quantity = 1.0
    drift: DriftSettings = field(default_factory=lambda: DriftSettings("none"))
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)
    drift_on: Literal["path", "noise"] = "path"
    initial: InitialSettings = field(default_factory=InitialSettings)
    final_time: float = 1.0
    steps: int = 200
    origin: float | Literal["first"] = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.final_time < 0 or self.steps < 1:
            message = f"`final_time` and `steps` should be positive, got {self.final_time} and {self.steps}."
            raise ConfigError(message)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem, with the values of a file, those given, or simulated ones.

        Raises:
            ConfigError: For numbers that do not fit together.
            DataError: For an unusable file, or rows before the origin.
        """
        std: Tensor | float = self.observations.nominal_std
        values = torch.tensor(self.observations.values, dtype=torch.float64) if self.observations.values else None
        known, horizon = False, self.final_time
        if data is not None:
            times, values, given = self._file(data)
            horizon = horizon or float(times[-1])
            std, known = (std, False) if given is None else (given, True)
        grid = torch.linspace(0, horizon, self.steps + 1, dtype=torch.float64)
        if data is None:
            times = self.observations.on(grid)
            if values is not None:
                values = values[torch.tensor(self.observations.times).argsort()]
        if float(times[0]) < 0 or not float(times[-1]) <= horizon * (1 + 1e-12):
            ends = f"{float(times[0]):g} to {float(times[-1]):g}"
            message = f"observations should lie in [0, {horizon:g}], got times from {ends}; set `final_time`."
            raise DataError(message)
        return path_problem(
            name,
            self._model(horizon, std_known=known),
            grid,
            times,
            values,
            std,
            true_std=self.observations.true_std if data is None else None,
            seed=self.seed,
            info=self.words,
        )

    def _file(self, path: Path) -> tuple[Tensor, Tensor, Tensor | None]:
        series = read_series(path)
        origin = float(series.times[0]) if self.origin == "first" else float(self.origin)
        times = series.times - origin
        if float(times[0]) < 0:
            message = (
                f"row {series.lines[0]} of `{path.name}` has time = {float(series.times[0]):g}, before the path starts "
                f'at {origin:g}; set `origin`, perhaps to "first".'
            )
            raise DataError(message)
        return times, series.values, series.std

    def _model(self, horizon: float, *, std_known: bool) -> PathModel:
        std = self.observations.std
        return PathModel(
            horizon=horizon,
            drift=self.drift.drift(),
            diffusion=self.diffusion.diffusion(),
            hurst=HurstFormula(self.hurst) if isinstance(self.hurst, str) else self.hurst,
            hurst_knots=self.hurst_knots,
            hurst_truth=None if self.hurst_truth is None else HurstFormula(self.hurst_truth),
            scale=self.scale,
            initial_mean=self.initial.mean,
            initial_std=self.initial.std,
            kind=self.noise,
            normalisation=self.normalisation,
            drift_on=self.drift_on,
            noise_std=std if isinstance(std, Unknown) and not std_known else None,
        )
