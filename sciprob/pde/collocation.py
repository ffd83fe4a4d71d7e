"""An equation on a box at the points of a tensor grid, with its conditions and measurements, as linear rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.pde.collocation_checks import check_box, check_line, check_names, reduced, without_empty_batches
from sciprob.pde.derivative_names import canonical, closure
from sciprob.pde.field_values import Value, evaluate
from sciprob.pde.functionals import AnyPoints, Functionals, TensorPoints
from sciprob.pde.jet import Jet
from sciprob.pde.linearise import linearised
from sciprob.pde.pde import PDE
from sciprob.pde.side_conditions import SideCondition, check_sides, side_points, warn_of_jumps


@dataclass(frozen=True, eq=False)
class Collocation:
    """What is known of one scalar field u on a box: P(u) = 0 at grid points, side conditions, measurements.

    Everything is given as `Functionals`, rows that are linear in u; a nonlinear equation is linearised at the
    jets of a field. Known sources, coefficients and values of conditions may carry leading batch axes (many
    right-hand sides of one operator). Tensors are float64 on `device`.

    Args:
        pde: An equation for one field.
        lower: Lower bound of each coordinate, in the order of `pde.coordinates`.
        upper: Upper bounds.
        shape: Grid points along each coordinate, bounds included, at least 2.
        parameters: Values of the equation's parameters: numbers, tables on the grid, or functions of the coordinates.
        conditions: On any subset of the sides; initial data are conditions on the side `t_lower`.
        sensors: Further rows, such as noisy values at scattered points (`sensor_rows`).
        std: Standard deviation of the equation's own error, in its unit; None: exact.
        jitter: Relative std of exact rows: their std is `jitter` times the size of their terms.
        device: Where tensors are made.

    Raises:
        ConfigError: For bounds, shapes, sides or names that do not fit; the message names the nearest right one.
        DataError: On use, for sources or values that are not finite; says where.
        UnsupportedProblemError: For systems of equations.

    Warns:
        SciprobWarning: Where conditions contradict each other at a corner.
    """

    pde: PDE
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    shape: tuple[int, ...]
    parameters: Mapping[str, Value] = field(default_factory=dict)
    conditions: tuple[SideCondition, ...] = ()
    sensors: tuple[Functionals, ...] = ()
    std: float | None = None
    jitter: float = 1e-9
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "shape", "conditions", "sensors"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        check_box(self.coordinates, self.lower, self.upper, self.shape)
        check_names(self.pde, self.parameters)
        check_sides(self.conditions, self.coordinates)
        warn_of_jumps(self.conditions, self.coordinates, self.points())

    @classmethod
    def on_lines(
        cls, pde: PDE, lines: Sequence[Tensor], parameters: Mapping[str, Value], **more: object
    ) -> Collocation:
        """On the grid of given lines, one per coordinate, for tables that come with their own coordinates.

        Raises:
            DataError: If a line is not increasing (duplicated entries included) or not uniform; names the entry.
        """
        for name, line in zip(pde.coordinates, lines, strict=False):
            check_line(name, line)
        lower, upper = (tuple(float(line[end]) for line in lines) for end in (0, -1))
        shape = tuple(len(line) for line in lines)
        return cls(pde, lower, upper, shape, parameters, **more)  # type: ignore[arg-type]

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return tuple(self.pde.coordinates)

    @property
    def unknown(self) -> str:
        """Name of the field."""
        return next(iter(self.pde.fields))

    @property
    def derivatives(self) -> tuple[str, ...]:
        """All derivatives of the field that occur in equation, conditions or sensors; the value first."""
        names = {"", *map(canonical, self.pde.fields[self.unknown])}
        names |= {name for condition in self.conditions for name in condition.weights}
        names |= {name for rows in self.sensors for name in rows.terms}
        return tuple(sorted(names, key=lambda name: (len(name), name)))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of neighbouring points along each coordinate."""
        return tuple((b - a) / (n - 1) for a, b, n in zip(self.lower, self.upper, self.shape, strict=True))

    def points(self, shift: float = 0.0) -> TensorPoints:
        """The grid, or with a shift (a fraction of a cell) the points between, one fewer along each axis.

        Raises:
            ConfigError: If the shift is not in [0, 1).
        """
        if not 0 <= shift < 1:
            message = f"`shift` should be a fraction of a cell in [0, 1), got {shift}."
            raise ConfigError(message)
        lines = []
        for a, b, n in zip(self.lower, self.upper, self.shape, strict=True):
            line = torch.linspace(a, b, n, dtype=torch.float64, device=self.device)
            lines.append(line if shift == 0 else line[:-1] + shift * (b - a) / (n - 1))
        return TensorPoints(tuple(lines))

    def equations(self, u: Jet | None = None, points: AnyPoints | None = None) -> Functionals:
        """The equation as rows: sum_a c_a D^a v = values, from P(v) = P(u) + sum_a c_a D^a (v - u) + ... = 0.

        Args:
            u: Jets at which to linearise, `(n,)`; for linear equations and by default zero.
            points: Where; by default the grid.

        Raises:
            UnsupportedProblemError: If coefficients differ over a batch: rows have one operator.
        """
        points = self.points() if points is None else points
        x = points.columns(self.coordinates)
        at = self.zero_jet(points) if u is None or self.pde.linear else u
        p, name = self.parameters_at(points), self.pde.equations[0]
        slopes = linearised(self.pde, x, {self.unknown: at}, without_empty_batches(p))[1][name][self.unknown]
        constant = -self.pde(x, {self.unknown: at}, p)[name]
        terms = {derivative: reduced(slope, points.shape, name) for derivative, slope in slopes.items()}
        for derivative, slope in terms.items():
            if not self.pde.linear:
                constant = constant + slope.expand(points.shape).flatten() * at[derivative]
        values = constant.reshape(*constant.shape[:-1], *points.shape)
        return Functionals(name, self.coordinates, points, terms, values, self.row_std(terms, values, self.std))

    def conditions_at(self) -> list[Functionals]:
        """The conditions as rows, in their order."""
        grid, rows = self.points(), []
        for condition in self.conditions:
            points = side_points(condition.axis, condition.end, self.coordinates, grid)
            weights, values = condition.at(self.coordinates, points, points)
            std = self.row_std(weights, values, condition.std)
            rows.append(Functionals(condition.side, self.coordinates, points, weights, values, std))
        return rows

    def sensors_at(self) -> list[Functionals]:
        """The measurements as rows."""
        return list(self.sensors)

    def functionals(self, u: Jet | None = None) -> list[Functionals]:
        """All rows: equation, conditions, sensors."""
        return [self.equations(u), *self.conditions_at(), *self.sensors_at()]

    def residual(self, u: Jet, points: AnyPoints | None = None) -> Tensor:
        """P(u), `(*batch, *points.shape)`, nonlinear where the equation is; at grid points unless others are given."""
        points = self.points() if points is None else points
        x = points.columns(self.coordinates)
        r = self.pde(x, {self.unknown: u}, self.parameters_at(points))[self.pde.equations[0]]
        return r.reshape(*r.shape[:-1], *points.shape)

    def parameters_at(self, points: AnyPoints) -> dict[str, Tensor | Jet]:
        """The parameters at points; jets where the equation needs their derivatives."""
        derivatives = closure(self.pde.fields[self.unknown])
        found: dict[str, Tensor | Jet] = {}
        for name, value in self.parameters.items():
            needed = derivatives if name in self.pde.differentiated else ()
            found[name] = evaluate(value, name, self.coordinates, points, self.points(), needed)
        return found

    def zero_jet(self, points: AnyPoints) -> Jet:
        """The field zero at points."""
        like = points.lines[0] if isinstance(points, TensorPoints) else points.points
        return Jet({"": like.new_zeros(math.prod(points.shape))}, self.derivatives)

    @cached_property
    def size_of_values(self) -> float:
        """Largest prescribed or measured value of u; 1 where there is none but zeros."""
        grid, values = self.points(), [rows.values for rows in self.sensors if set(rows.terms) == {""}]
        for condition in self.conditions:
            if condition.prescribes_value:
                points = side_points(condition.axis, condition.end, self.coordinates, grid)
                values.append(condition.at(self.coordinates, points, points)[1])
        return max((float(entries.abs().max()) for entries in values if entries.numel()), default=0.0) or 1.0

    def row_std(self, terms: Mapping[str, Tensor], values: Tensor, std: float | None) -> Tensor:
        """The given std; or jitter times the size of the values, or of terms of a field that varies over the box."""
        if std is not None:
            return values.new_tensor(std)
        sizes = [float(values.square().mean().sqrt())] if values.numel() else []
        for derivative, weight in terms.items():
            lengths = [self.upper[i] - self.lower[i] for i in map(self.coordinates.index, derivative)]
            sizes.append(float(weight.abs().max()) * self.size_of_values / math.prod(lengths))
        return values.new_tensor(self.jitter * (max(sizes, default=0.0) or 1.0))

    def to(self, device: torch.device | str) -> Collocation:
        """The same on another device."""
        return replace(self, sensors=tuple(rows.to(device) for rows in self.sensors), device=device)
