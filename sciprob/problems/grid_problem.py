"""What all problems on grids share: from settings to a problem."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from scipy import stats

from sciprob.errors import SciprobWarning
from sciprob.io.sensors import Sensors, read_sensors
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import ForwardOperator
from sciprob.priors.base import Prior
from sciprob.problems.grid_data import FinerGridSimulator, Measurements, Model, transfer
from sciprob.problems.grid_settings import GridField, Grids
from sciprob.problems.learned_prior import RefinedPrior
from sciprob.problems.problem import Info, Problem, Report
from sciprob.problems.sensor_noise import SensorNoise
from sciprob.random import Streams
from sciprob.spaces import GridSpace

_LEAST_PROBABILITY = 1e-4  # of a misfit as large as the one seen, from noise alone


@dataclass(frozen=True, kw_only=True)
class GridProblem:
    """A state on a grid, measured by noisy point sensors; truth and data come from a finer grid.

    Args:
        grid: The two grids.
        noise: Errors of the sensors; with `--data` those of the file.
        seed: Seed of truth and noise.
    """

    words: ClassVar[Info] = Info()
    boundary: ClassVar[str] = "periodic"

    grid: Grids
    noise: SensorNoise
    seed: int = 0

    def space(self, points: int) -> GridSpace:
        """Grid of the state with so many points along each axis."""
        raise NotImplementedError

    def layout(self, grid: GridSpace) -> Measurements:
        """Where and when the simulated sensors measure."""
        raise NotImplementedError

    def layout_of(self, measured: Sensors) -> Measurements:
        """Where and when the sensors of a file measured."""
        return Measurements(measured.points, times=measured.times)

    def model(self, layout: Measurements, *, fine: bool) -> Model:
        """Prior and observed forward operator, on the inversion's or on the finer grid."""
        raise NotImplementedError

    def report(self, layout: Measurements) -> Report:
        """Extra scores and figures."""
        raise NotImplementedError

    @property
    def interval(self) -> tuple[float, float] | None:
        """Interval of the times of measurements; None for stationary states."""
        return None

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem, with the measurements of a file or with data made on the finer grid.

        Args:
            name: Its name.
            data: CSV file as in `sciprob.io.sensors`; the problem then has no truth.

        Warns:
            SciprobWarning: If simulated data do not fit the inversion's model at their own truth.

        Raises:
            ConfigError: For settings out of range.
            DataError: For an unusable file, or measurements outside the domain or the time interval.
        """
        grid = self.space(self.grid.inversion)
        measured = None if data is None else read_sensors(data, grid, interval=self.interval)
        layout = self.layout(grid) if measured is None else self.layout_of(measured)
        prior, operator = self.model(layout, fine=False)
        noise = GaussianNoise(operator.codomain, self.noise.std if measured is None else measured.std)
        simulator = FinerGridSimulator(lambda: self.model(layout, fine=True), noise, prior.space)
        problem = Problem(
            name,
            prior,
            Likelihood(operator, noise),
            simulator=simulator,
            report=self.report(layout),
            info=self.words,
        )
        if measured is not None:
            return problem.observe(measured.values)
        problem = problem.simulate(Streams(self.seed)["problem"])
        self._warn_if_coarse(problem, noise)
        return problem

    def _warn_if_coarse(self, problem: Problem, noise: GaussianNoise) -> None:
        """Say if the error of the inversion's grid shows above the noise: a chi-square test at the truth."""
        assert problem.truth is not None
        with torch.no_grad():
            misfit = (problem.observed - problem.operator(problem.truth)) / noise.std
        square, count = float(misfit.square().sum()), misfit.numel()
        if stats.chi2.sf(square, count) > _LEAST_PROBABILITY:
            return
        rms = (square / count) ** 0.5
        message = (
            f"with {self.grid.inversion} points along each axis the inversion's model misses the data by {rms:.1f} "
            "noise std at the truth, where 1 is expected: the grid or the time step is too coarse for these settings; "
            f"raise `grid.inversion`, at most to the {self.grid.data} of `grid.data`, or make the solution smoother."
        )
        warnings.warn(message, SciprobWarning, stacklevel=4)

    def prior_of(self, choice: GridField, grid: GridSpace, boundary: str) -> Prior:
        """The chosen prior of a field on either grid.

        A trained prior has one size, that of the inversion; on the finer grid its draws are interpolated, by
        trigonometric functions where the grid is periodic and linearly elsewhere.

        Raises:
            ConfigError: If a trained prior is not of the inversion's size.
        """
        if not choice.learned or grid.shape[0] == self.grid.inversion:
            return choice.on(grid, boundary)
        coarse = replace(self.space(self.grid.inversion), name=grid.name)
        return RefinedPrior(choice.on(coarse, boundary), transfer(coarse, grid), grid)

    def observed(self, prior: Prior, state: ForwardOperator, grid: GridSpace, layout: Measurements) -> Model:
        """Prior and state operator, seen through the sensors."""
        return prior, layout.observe(state.codomain, grid, self.boundary) @ state
