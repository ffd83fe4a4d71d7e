"""A steady source of heat from sensors of the temperature, by collocation: `steady-heat-source`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.heat import HeatSpectral
from sciprob.errors import ConfigError
from sciprob.expressions import Expression
from sciprob.operators.observe_spectral import SpaceTimeObservation, SpectralObservation
from sciprob.pde.collocation import Collocation
from sciprob.pde.collocation_checks import sensor_rows
from sciprob.pde.side_conditions import SideCondition
from sciprob.pde.steady_source import SteadyHeatSource
from sciprob.problems.collocation_operator import CollocationOperator
from sciprob.problems.collocation_problem import collocation_problem, sensors_of_file
from sciprob.problems.collocation_report import CollocationReport
from sciprob.problems.collocation_settings import FieldSensors
from sciprob.problems.linear_functional import functional_posterior
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.random import Streams
from sciprob.spaces import GridSpace

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior

_SOURCE_POINTS = 301  # at which the source is reported


@register("steady-heat-source")
@dataclass(frozen=True, kw_only=True)
class SteadySource:
    """Temperature u of a rod, and its steady source f = u_t - D u_xx, from noisy sensors of u.

    Known are u = 0 at first and at both ends, and that f hardly changes: (u_t - D u_xx)_t = 0 up to `drift`. The source
    itself is not among the data. Truth and data come from a spectral solve on a fine grid.

    Args:
        diffusivity: D > 0.
        source: Formula of the true source in x on [0, length], zero near the ends.
        sensors: Where u is measured, and how well; with `--data` the file says it (columns x, time, value, std).
        points: Grid points along x and t.
        length: Length of the rod.
        final_time: End of the measurements.
        data_grid: Cells of the grid on which truth and data are made.
        kernel: Family of the prior's kernels.
        scale: Lengths of the axes over those on which u varies, along x and t.
        drift: Standard deviation of f_t at each grid point. Sources that do not vanish at the ends make u rough in the
            corners at t = 0, which smooth kernels need some of it for.
        jitter: Relative errors of the zeros at the ends and at first.
        seed: Seed of the noise.
    """

    words: ClassVar[Info] = Info(
        title="A steady source of heat from sensors, by collocation",
        equation=r"(u_t - D u_{xx})_t = 0, \quad f = u_t - D u_{xx}",
        description="What heats the rod? The temperature is fused from noisy sensors and the heat equation.",
        citations=("fang2024", "cockayne2017"),
        default_solver="sm-gp",
    )

    diffusivity: float
    source: str
    sensors: FieldSensors
    points: tuple[int, int] = (41, 31)
    length: float = 1.0
    final_time: float = 1.0
    data_grid: int = 256
    kernel: Literal["gaussian", "student"] = "gaussian"
    scale: tuple[float, float] = (8.0, 6.0)
    drift: float = 0.1
    jitter: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("diffusivity", "length", "final_time", "drift", "jitter"):
            if not getattr(self, name) > 0:
                message = f"`{name}` should be positive, got {getattr(self, name)}."
                raise ConfigError(message)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem, with the measurements of a file or of the fine solve.

        Raises:
            ConfigError: For settings out of range.
            DataError: For an unusable file.
        """
        sides = tuple(SideCondition.dirichlet(side) for side in ("x_lower", "x_upper", "t_lower"))
        upper, parameters = (self.length, self.final_time), {"diffusivity": self.diffusivity}
        plain = Collocation(
            SteadyHeatSource("x"),
            (0.0, 0.0),
            upper,
            self.points,
            parameters,
            sides,
            std=self.drift,
            jitter=self.jitter,
        )
        rows = self._measured(plain) if data is None else sensors_of_file(data, plain)
        return collocation_problem(
            name,
            replace(plain, sensors=(rows,)),
            kernel=self.kernel,
            scale=self.scale,
            truth=self._temperature(plain) if data is None else None,
            report=SourceReport(self.diffusivity, self._source if data is None else None),
            info=self.words,
        )

    def _source(self, x: Tensor) -> Tensor:
        values: Tensor = Expression(self.source, ("x",)).on({"x": x})
        return values.expand(x.shape)

    def _march(self, times: Tensor) -> tuple[Tensor, GridSpace, Evolution]:
        """The trajectory at times, from 0 on, on the fine grid."""
        grid = GridSpace((self.data_grid,), "u", ("x",), lower=(0.0,), upper=(self.length,), centring="cell")
        equation = HeatSpectral(SpectralBasis(grid, "dirichlet"), diffusivity=self.diffusivity)
        zero = torch.zeros(grid.shape, dtype=torch.float64)
        march = Evolution(equation, times, unknown=("forcing",), step=self.final_time / 200, initial=zero)
        with torch.no_grad():
            return march(self._source(grid.axis(0))), grid, march

    def _temperature(self, c: Collocation) -> Tensor:
        x, t = c.points().lines
        trajectory, grid, march = self._march(t)
        observe = SpectralObservation(march.codomain, grid, x[:, None], "dirichlet")
        values: Tensor = observe(trajectory).T.contiguous()
        return values

    def _measured(self, c: Collocation) -> Any:
        count, streams = self.sensors.count, Streams(self.sensors.seed)
        upper = torch.tensor(c.upper, dtype=torch.float64)
        points = upper * torch.rand(count, 2, generator=streams["sensors"], dtype=torch.float64)
        at = points[:, 1].contiguous()
        times = torch.cat([points.new_zeros(1), at]).unique()
        trajectory, grid, march = self._march(times)
        observe = SpaceTimeObservation(march.codomain, grid, points[:, :1], at, boundary="dirichlet", order=2)
        noise = torch.randn(count, generator=Streams(self.seed)["problem"], dtype=torch.float64)
        return sensor_rows(c.coordinates, points, observe(trajectory) + self.sensors.std * noise, self.sensors.std)


class SourceReport:
    """Residuals, and the posterior of the source along the rod, in numbers and as a figure.

    Args:
        diffusivity: D.
        source: The true source at places `(n,)`; None where it is not known.
    """

    def __init__(self, diffusivity: float, source: Callable[[Tensor], Tensor] | None) -> None:
        self._diffusivity, self._source = diffusivity, source
        self._residuals = CollocationReport()

    def __call__(self, problem: Problem, posterior: Posterior, folder: Path | None) -> Mapping[str, Any]:
        """`source_relative_error`, `source_coverage`, `source_crps` besides residuals; with a folder `source.png`."""
        from sciprob.metrics.scores import score

        source = self.posterior_of_source(problem, posterior)
        numbers = dict(self._residuals(problem, posterior, folder))
        numbers["source_std"] = math.sqrt(float(source.std.square().mean()))
        truth = None
        if self._source is not None and problem.truth is not None:
            truth = self._source(source.space.coords["x"]).to(source.mean)
            numbers |= {f"source_{key}": value for key, value in score(source, truth).items()}
        if folder is not None:
            from sciprob.plot.fields import field_figure
            from sciprob.plot.style import attempt, save

            rows = cast(CollocationOperator, problem.operator).collocation.sensors[0]
            sensors = {"x": rows.points.columns(rows.coordinates)["x"]}
            title = "The source along the rod"
            attempt(
                folder / "source.png",
                lambda path: save(field_figure(source, truth=truth, sensors=sensors, title=title), path),
            )
        return numbers

    def posterior_of_source(self, problem: Problem, posterior: Posterior) -> Posterior:
        """F = u_t - D u_xx along the rod in the middle of the interval; it is the same at all times."""
        operator = cast(CollocationOperator, problem.operator)
        c = operator.collocation
        line = GridSpace((_SOURCE_POINTS,), "source", ("x",), lower=c.lower[:1], upper=c.upper[:1])
        x = line.axis(0).to(posterior.mean)
        middle = torch.full_like(x, (c.lower[1] + c.upper[1]) / 2)
        terms = {"t": 1.0, "xx": -self._diffusivity}
        return functional_posterior(posterior, operator, torch.stack([x, middle], dim=1), terms, line)
