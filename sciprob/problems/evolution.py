"""Inverse problems of evolution equations on spectral grids, measured in space and time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralEquation
from sciprob.errors import ConfigError
from sciprob.priors.base import Prior
from sciprob.problems.grid_data import Measurements, Model
from sciprob.problems.grid_problem import GridProblem
from sciprob.problems.grid_report import TrajectoryReport
from sciprob.problems.grid_settings import GridSensors
from sciprob.problems.problem import Report
from sciprob.spaces import GridSpace

_FRAMES = 25


@dataclass(frozen=True)
class Steps:
    """Largest time steps.

    Args:
        inversion: With which the unknown is sought.
        data: With which the data are made, not larger; not used with `--data`.
    """

    inversion: float
    data: float

    def __post_init__(self) -> None:
        if not 0 < self.data <= self.inversion:
            message = f"a problem needs 0 < step.data <= step.inversion, got {self.data} and {self.inversion}."
            raise ConfigError(message)


@dataclass(frozen=True)
class SnapshotSensors(GridSensors):
    """Sensors at random places, each read at the same evenly spaced times.

    Args:
        count: How many.
        seed: Seed of their places.
        snapshots: How many times they are read; the first one interval after the start.
        until: Time of the last reading; default the final time. What comes later is a forecast.
    """

    snapshots: int = 5
    until: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.snapshots < 1:
            message = f"`snapshots` should be at least 1, got {self.snapshots}."
            raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class EvolutionProblem(GridProblem):
    """What the evolution problems share; each adds its equation, its unknown and their settings.

    Args:
        grid: Points along each axis of the two grids.
        step: Time steps on the two grids.
        final_time: End of the interval in which measurements lie; forecasts reach so far.
        sensors: Where and when is measured; with `--data` the file says it (column `time`).
        noise: Errors of the sensors; with `--data` those of the file.
        seed: Seed of truth and noise.
    """

    unknown: ClassVar[str] = "initial"  # one of the names of `Evolution`

    step: Steps
    final_time: float
    sensors: SnapshotSensors = field(default_factory=SnapshotSensors)

    def __post_init__(self) -> None:
        until = self.final_time if self.sensors.until is None else self.sensors.until
        if not 0 < until <= self.final_time:
            message = (
                f"the last reading should lie in the interval (0, {self.final_time:g}] of `final_time`, got "
                f"sensors.until = {until:g}; lower it, or raise `final_time`."
            )
            raise ConfigError(message)
        for name in ("viscosity", "diffusivity", "drag", "reaction"):
            value = getattr(self, name, 0.0)
            if not value >= 0:
                message = f"`{name}` should not be negative, got {value}."
                raise ConfigError(message)

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """The equation on a grid."""
        raise NotImplementedError

    def prior_on(self, grid: GridSpace) -> Prior:
        """Prior of the unknown."""
        raise NotImplementedError

    def initial(self, grid: GridSpace) -> Tensor | None:
        """The initial state where it is known."""
        return None

    def evolution(self, grid: GridSpace, times: Tensor, step: float) -> Evolution:
        """Unknown -> trajectory at `times`."""
        return Evolution(self.equation(grid), times, unknown=(self.unknown,), step=step, initial=self.initial(grid))

    @property
    def interval(self) -> tuple[float, float]:
        """From the start to the final time."""
        return 0.0, self.final_time

    def layout(self, grid: GridSpace) -> Measurements:
        """All sensors at all snapshots."""
        until = self.final_time if self.sensors.until is None else self.sensors.until
        count = self.sensors.snapshots
        times = until * torch.arange(1, count + 1, dtype=torch.float64) / count
        return Measurements(self.sensors.place(grid), snapshots=times)

    def model(self, layout: Measurements, *, fine: bool) -> Model:
        """Prior and observed evolution."""
        grid = self.space(self.grid.data if fine else self.grid.inversion)
        evolution = self.evolution(grid, layout.stored_times, self.step.data if fine else self.step.inversion)
        return self.observed(self.prior_on(grid), evolution, grid, layout)

    def report(self, layout: Measurements) -> Report:
        """Residuals and the posterior trajectory up to the final time."""
        times = torch.linspace(0, self.final_time, _FRAMES, dtype=torch.float64)
        frames = self.evolution(self.space(self.grid.inversion), times, self.step.inversion)
        return TrajectoryReport(frames, layout.coordinates)


def interval_grid(points: int, name: str, length: float = 1.0) -> GridSpace:
    """Periodic interval [0, length)."""
    return GridSpace((points,), name=name, dims=("x",), lower=(0.0,), upper=(length,), centring="periodic")


def square_grid(points: int, name: str, length: float, centring: str) -> GridSpace:
    """Square [0, length]^2 with axes y, x."""
    return GridSpace(
        (points, points),
        name=name,
        dims=("y", "x"),
        lower=(0.0, 0.0),
        upper=(length, length),
        centring=centring,
    )


def named(grid: GridSpace, name: str) -> GridSpace:
    """The same grid under another name, for an unknown that is not the state."""
    return replace(grid, name=name)
