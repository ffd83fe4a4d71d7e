"""Series that are fractional noise, or fractional Brownian motion: `fractional-series`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError
from sciprob.io.package_series import SeriesName, package_series
from sciprob.io.series import Series, read_series
from sciprob.problems.fractional_problem import path_problem
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.sde.path_model import PathModel
from sciprob.sde.quantities import Quantity, Unknown

_EXACT = 1e-3  # std of values taken as exact, relative to their increments
_WEAK = 10.0  # std of the unknown level, relative to the spread of the values


@register("fractional-series")
@dataclass(frozen=True, kw_only=True)
class FractionalSeries:
    """How rough, or how persistent, is a measured series, and how does it go on?

    The values are fractional Gaussian noise around an unknown level (`increments`: river flows, varves) or fractional
    Brownian motion from an unknown start (`levels`: log-volatility); which of the two shifts H by 1. Time counts from
    the first row.

    Args:
        observed: `increments` or `levels`.
        source: A series of `sciprob.io.package_series`; not needed with `--data`.
        last: Number of last values that are used; 0 for all.
        hurst: H; by default unknown without prior.
        scale: Standard deviation of the increments of the noise over one step; by default unknown.
        std: Standard deviation of measurement errors: a table if unknown; by default the values are as good as exact
            (1e-3 of the spread of their increments).
        forecast: Steps of the grid beyond the last value.
        unknown: Name of the values.
        unit: Their unit.
    """

    words: ClassVar[Info] = Info(
        title="The Hurst index of a series, and its forecast",
        description="The exact likelihood of a series gives its Hurst index with a standard error, and its forecast.",
        citations=("mandelbrot1968", "beran1994"),
        default_solver="kalman",
    )

    observed: Literal["increments", "levels"]
    source: SeriesName | None = None
    last: int = 0
    hurst: Quantity = field(default_factory=lambda: Unknown(0.5))
    scale: Quantity | None = None
    std: Quantity | None = None
    forecast: int = 0
    unknown: str = "x"
    unit: str = "1"

    def __post_init__(self) -> None:
        if self.last < 0 or self.forecast < 0:
            message = f"`last` and `forecast` should not be negative, got {self.last} and {self.forecast}."
            raise ConfigError(message)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem.

        Args:
            name: Its name.
            data: CSV file with columns time, value and perhaps std, as in `sciprob.io.series`.

        Raises:
            ConfigError: If there is neither a source nor a file.
            MissingExtraError: If the package of the source is not installed.
            DataError: For an unusable file, a series that does not vary, or increments that are not on a grid of steps.
        """
        series = self._series(name, data)
        step = _step(series, name if data is None else data.name, whole=self.observed == "increments")
        times, values = series.times, series.values
        spread = float((values.diff() if self.observed == "levels" else values).std())
        if not spread > 0:
            message = f"the series of `{name}` should vary, got {len(values)} equal values or steps."
            raise DataError(message)
        std, unknown = self._std(series, spread)
        end = float(times[-1]) + self.forecast * step
        ahead = float(times[-1]) + step * torch.arange(1, self.forecast + 1, dtype=torch.float64)
        model = PathModel(
            horizon=end,
            hurst=self.hurst,
            scale=Unknown(spread * step**-0.5) if self.scale is None else self.scale,
            initial_mean=float(values.mean()),
            initial_std=_WEAK * float(values.std()),
            observed=self.observed,
            step=step,
            normalisation="unit",
            noise_std=unknown,
        )
        grid = torch.cat([_missing(times, step) if self.observed == "increments" else times[:0], ahead])
        return path_problem(
            name, model, grid, times, values, std, unknown=self.unknown, unit=self.unit, info=self.words
        )

    def _series(self, name: str, data: Path | None) -> Series:
        if data is not None:
            found = read_series(data)
        elif self.source is not None:
            values = package_series(self.source)
            times = torch.arange(len(values), dtype=torch.float64)
            found = Series(times, values, None, tuple(range(2, len(values) + 2)))
        else:
            message = f"`{name}` has no data; name a `source`, or give a series with `--data FILE` (time,value[,std])."
            raise ConfigError(message)
        cut = slice(-self.last if self.last else None, None)
        times = found.times[cut] - found.times[cut][0]
        return Series(times, found.values[cut], None if found.std is None else found.std[cut], found.lines[cut])

    def _std(self, series: Series, spread: float) -> tuple[Tensor | float, Unknown | None]:
        if series.std is not None:
            return series.std, None
        if isinstance(self.std, Unknown):
            return self.std.start, self.std
        return (_EXACT * spread if self.std is None else self.std), None


def _step(series: Series, name: str, *, whole: bool) -> float:
    """The median gap, of which all gaps have to be multiples for increments.

    Raises:
        DataError: Naming the row whose gap is none.
    """
    gaps = series.times.diff()
    step = float(gaps.median())
    ratio = gaps / step
    wrong = ((ratio - ratio.round()).abs() > 1e-6) | (ratio < 0.5)
    if whole and bool(wrong.any()):
        row = int(wrong.nonzero()[0]) + 1
        message = (
            f"row {series.lines[row]} of `{name}` comes {float(gaps[row - 1]):g} after the row before, not a multiple "
            f"of the step {step:g}; increments need equal spacing (missing rows are allowed)."
        )
        raise DataError(message)
    return step


def _missing(times: Tensor, step: float) -> Tensor:
    """Multiples of the step between the times, which are merged with them."""
    return step * torch.arange(round(float(times[-1]) / step) + 1, dtype=torch.float64)
