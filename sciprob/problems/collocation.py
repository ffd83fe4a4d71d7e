"""Equations on boxes, from source and boundary data: `collocation`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import torch

from sciprob.errors import ConfigError
from sciprob.expressions import Expression
from sciprob.pde.collocation import Collocation
from sciprob.pde.collocation_checks import sensor_rows
from sciprob.pde.field_values import Value
from sciprob.pde.functionals import Functionals, ScatteredPoints
from sciprob.pde.manufactured import Manufactured
from sciprob.pde.pde import PDE
from sciprob.problems.collocation_problem import collocation_problem, sensors_of_file
from sciprob.problems.collocation_report import CollocationReport
from sciprob.problems.collocation_settings import FieldSensors, Side, equation_named, field_of, number_of
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.random import Streams


@register("collocation")
@dataclass(frozen=True, kw_only=True)
class CollocationKind:
    """An equation for one field u on a box, from its source, its values on sides, and perhaps sensors.

    With `exact` the problem is manufactured: source and values on sides are those of this solution, which no
    solver sees, and which scores it.

    Args:
        pde: Name of the equation: `poisson` (Laplace u = f), `diffusion` (-div k grad u = f), `helmholtz`, `allen-cahn`
            (Laplace u + r u (u^2 - 1) = f), and in time `advection`, `advection-diffusion`, `heat`, `fisher-kpp`,
            `allen-cahn-evolution`, `burgers`, `korteweg-de-vries`.
        points: Grid points along each coordinate, time last.
        lower: Lower bounds, numbers or such as `-pi`; default 0.
        upper: Upper bounds.
        exact: Formula of a solution.
        parameters: Coefficients of the equation, numbers or formulas in x, y, z, t.
        source: f without `exact`.
        boundary: What is known on the sides `x_lower`, `x_upper`, ...; initial data are those on `t_lower`. Where it is
            given, these sides and no others; by default the values on all sides but the final time.
        sensors: Noisy values of u inside.
        kernel: Family of the prior's kernels, whose frequencies come from source and boundary data.
        components: Most frequencies per coordinate.
        scale: Envelopes per length of a coordinate: how fast amplitudes vary.
        jitter: Relative errors of exact data.
        seed: Seed of the sensors' noise.
    """

    words: ClassVar[Info] = Info(
        title="An equation on a box from source and boundary data",
        description="A Gaussian process is conditioned on an equation at points, on boundary data and measurements.",
        citations=("fang2024", "chen2021", "cockayne2017"),
        default_solver="sm-gp",
    )

    pde: str
    points: tuple[int, ...]
    upper: tuple[float | str, ...]
    lower: tuple[float | str, ...] = ()
    exact: str | None = None
    parameters: dict[str, float | str] = field(default_factory=dict)
    source: float | str | None = None
    boundary: dict[str, Side] = field(default_factory=dict)
    sensors: FieldSensors | None = None
    kernel: Literal["gaussian", "student"] = "gaussian"
    components: int = 8
    scale: float = 1.0
    jitter: float = 1e-9
    seed: int = 0

    def __post_init__(self) -> None:
        if self.exact is not None and self.source is not None:
            message = "give `exact` or `source`, not both: a given solution has its own source."
            raise ConfigError(message)
        if not self.jitter > 0:
            message = f"`jitter` should be positive, got {self.jitter}."
            raise ConfigError(message)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem.

        Args:
            name: Its name.
            data: CSV file of measured values of u, as in `sciprob.io.sensors`; they replace the sensors.

        Raises:
            ConfigError: For settings that do not fit.
            DataError: For an unusable file, or sources and values that are not finite.
        """
        equation = equation_named(self.pde, len(self.points))
        exact = self._exact(equation)
        collocation = self._collocation(equation, exact)
        if data is not None:
            collocation = replace(collocation, sensors=(sensors_of_file(data, collocation),))
        elif self.sensors is not None:
            collocation = replace(collocation, sensors=(self._simulated(self.sensors, collocation, exact),))
        return collocation_problem(
            name,
            collocation,
            kernel=self.kernel,
            components=self.components,
            scale=self.scale,
            truth=None if exact is None else exact.values(collocation.points()),
            report=CollocationReport(None if exact is None else exact.values),
            info=self.words,
        )

    def _exact(self, equation: PDE) -> Manufactured | None:
        if self.exact is None:
            return None
        coordinates = tuple(equation.coordinates)
        return Manufactured(equation, Expression(self.exact, coordinates).on, self._parameters(coordinates))

    def _parameters(self, coordinates: tuple[str, ...]) -> dict[str, Value]:
        return {name: field_of(value, coordinates) for name, value in self.parameters.items()}

    def _collocation(self, equation: PDE, exact: Manufactured | None) -> Collocation:
        coordinates = tuple(equation.coordinates)
        sides = self.boundary or {side: Side() for side in _all_sides(coordinates)}
        conditions = []
        for side, known in sides.items():
            condition = known.on(side, coordinates)
            if known.value is None:
                if exact is None:
                    message = f"side `{side}` has no value; give `boundary.{side}.value`, or the solution `exact`."
                    raise ConfigError(message)
                condition = exact.condition(condition)
            conditions.append(condition)
        parameters = self._parameters(coordinates)
        if exact is not None:
            parameters["forcing"] = exact.forcing
        elif self.source is not None:
            parameters["forcing"] = field_of(self.source, coordinates)
        lower = tuple(map(number_of, self.lower)) or (0.0,) * len(self.points)
        upper = tuple(map(number_of, self.upper))
        return Collocation(equation, lower, upper, self.points, parameters, tuple(conditions), jitter=self.jitter)

    def _simulated(self, settings: FieldSensors, c: Collocation, exact: Manufactured | None) -> Functionals:
        if exact is None:
            message = (
                "simulated `sensors` measure the solution `exact`, which is missing; give measurements with `--data`."
            )
            raise ConfigError(message)
        lower, upper = (torch.tensor(bound, dtype=torch.float64) for bound in (c.lower, c.upper))
        streams, shape = Streams(settings.seed), (settings.count, len(c.shape))
        points = lower + (upper - lower) * torch.rand(shape, generator=streams["sensors"], dtype=torch.float64)
        clean = exact.values(ScatteredPoints(points))
        noise = torch.randn(settings.count, generator=Streams(self.seed)["problem"], dtype=torch.float64)
        return sensor_rows(c.coordinates, points, clean + settings.std * noise, settings.std)


def _all_sides(coordinates: tuple[str, ...]) -> list[str]:
    """All sides but the final time."""
    return [f"{axis}_{end}" for axis in coordinates for end in ("lower", "upper") if (axis, end) != ("t", "upper")]
