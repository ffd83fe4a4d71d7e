"""Grid values of a field -> everything that an equation, its conditions and sensors say about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from sciprob.errors import ShapeError
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.operators.linear import LinearMap
from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import AnyPoints, Functionals, TensorPoints
from sciprob.pde.jet import Jet
from sciprob.priors.kernels import StationaryKernel
from sciprob.problems.differentiation import AxisDifferentiation
from sciprob.problems.row_variance import row_variances
from sciprob.spaces import GridSpace, Space
from sciprob.spaces.shapes import broadcast_shapes


class CollocationOperator(ForwardOperator):
    r"""m -> (P(u) - P(0), conditions, sensors) for the field u with the grid values m, all rows in one vector.

    Derivatives of u, and its values between grid points, are those of the conditional mean of a Gaussian process
    with separable kernel given m: D^a u = m x_1 D_1 x_2 D_2 ... (`AxisDifferentiation`). That is exact for fields in
    the kernels' span and projects others onto it. The conditional variance is left out; solvers that condition
    on `collocation` itself keep it. The data of the equation's rows are -P(0), so that data minus output is minus the
    residual; `LinearCollocationOperator` is the same for linear equations.

    Args:
        collocation: Equation, conditions, sensors, with values without batch axes or with any.
        kernels: One per coordinate.
        cut: Eigenvalues of an axis' covariance below this fraction of the largest are dropped.

    Raises:
        ShapeError: If there is not one kernel per coordinate.

    Source: Fang et al., ICLR 2024 (the differentiation matrices).
    """

    def __init__(self, collocation: Collocation, kernels: Sequence[StationaryKernel], cut: float = 1e-13) -> None:
        if len(kernels) != len(collocation.coordinates):
            message = f"the coordinates {collocation.coordinates} need one kernel each, got {len(kernels)}."
            raise ShapeError(message)
        rows = collocation.functionals()
        size = sum(math.prod(part.shape) for part in rows)
        super().__init__(unknown_space(collocation), Space((size,), name="rows"))
        lines = collocation.points().lines
        self.axes = nn.ModuleList(AxisDifferentiation(k, line, cut) for k, line in zip(kernels, lines, strict=True))
        self.collocation = collocation
        self._rows = rows
        self._prepare()

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Collocation, besides those of every operator."""
        return super().capabilities | {Capability.COLLOCATION}

    @property
    def data(self) -> Tensor:
        """What the rows should be, `(*batch, rows)`: -P(0), then values of conditions and sensors."""
        return self._joined([part.values for part in self._rows])

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of the error of each row, `(rows,)`, for a likelihood of the grid values.

        The square is the sum of the row's own variance (of exact rows, that of `jitter` times their prior std) and of
        the conditional variance given the grid values, as if that was independent from row to row.
        """
        axes = [cast(AxisDifferentiation, axis) for axis in self.axes]
        given = [self.collocation.std, *(condition.std for condition in self.collocation.conditions)]
        found = []
        for i, part in enumerate(self._rows):
            prior, explained = row_variances(part, axes)
            exact = i < len(given) and given[i] is None
            own = self.collocation.jitter**2 * prior if exact else part.std.square()
            found.append((own + (prior - explained).clamp_min(0)).sqrt())
        return self._joined(found)

    def functionals(self, data: Tensor, u: Jet | None = None) -> list[Functionals]:
        """The rows with other data: `collocation.functionals` for the observations of a problem.

        Args:
            data: `(*batch, rows)`.
            u: Jets at which a nonlinear equation is linearised; default zero.
        """
        self.codomain.batch_shape(data, "data")
        found, parts = [], data.split([math.prod(part.shape) for part in self._rows], dim=-1)
        for i, (part, values) in enumerate(zip(self._rows, parts, strict=True)):
            given = values.reshape(*values.shape[:-1], *part.shape)
            if i == 0 and u is not None and not self.collocation.pde.linear:
                part = self.collocation.equations(u)
                given = part.values + (given - self._rows[0].values)
            found.append(replace(part, values=given))
        return found

    def field(self, m: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """A derivative of the field with grid values `m (*batch, *shape)` at points, `(*batch, *points.shape)`."""
        batch = self.domain.batch_shape(m)
        found = _contracted(self.domain.merge(m), points, self._matrices(points, self._rows[0].orders(derivative)))
        return found.reshape(*batch, *points.shape)

    def _apply_batched(self, m: Any) -> Any:
        parts = [self._equation(m), *(self._terms(m, i).flatten(1) for i in range(1, len(self._rows)))]
        return torch.cat(parts, dim=1)

    def _equation(self, m: Tensor) -> Tensor:
        """P(u) - P(0), `(B, n)`."""
        pde, unknown = self.collocation.pde, self.collocation.unknown
        x = {name: column.to(m.dtype) for name, column in self._x.items()}
        p = {name: _cast(value, m.dtype) for name, value in self._coefficients.items()}
        field = Jet({name: self._derivative(m, 0, name).flatten(1) for name in self._equation_derivatives})
        zero = field.map(torch.zeros_like)
        found = [pde(x, {unknown: u}, p)[pde.equations[0]] for u in (field, zero)]
        return found[0] - found[1]

    def _terms(self, m: Tensor, part: int) -> Tensor:
        """sum_a c_a D^a u of a part of the rows, `(B, *shape)`."""
        rows = self._rows[part]
        total = m.new_zeros(len(m), *rows.shape)
        for derivative, coefficient in rows.terms.items():
            total = total + coefficient.to(m.dtype) * self._derivative(m, part, derivative)
        return total

    def _derivative(self, m: Tensor, part: int, derivative: str) -> Tensor:
        return _contracted(m, self._rows[part].points, self._known[part, derivative])

    @property
    def _equation_derivatives(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("", *self.collocation.pde.fields[self.collocation.unknown])))

    def _prepare(self) -> None:
        """All constants of the map, on the device of the collocation."""
        self._known: dict[tuple[int, str], list[Tensor | None]] = {}
        for i, part in enumerate(self._rows):
            for derivative in {*part.terms, *(self._equation_derivatives if i == 0 else ())}:
                self._known[i, derivative] = self._matrices(part.points, part.orders(derivative))
        points = self._rows[0].points
        self._x = points.columns(self.collocation.coordinates)
        self._coefficients = self.collocation.parameters_at(points)

    def _matrices(self, points: AnyPoints, orders: tuple[int, ...]) -> list[Tensor | None]:
        """One matrix per axis; those of scattered points have a row per point."""
        lines = points.lines if isinstance(points, TensorPoints) else points.points.unbind(1)
        axes = [cast(AxisDifferentiation, axis) for axis in self.axes]
        return [axis.matrix(line, order) for axis, line, order in zip(axes, lines, orders, strict=True)]

    def _joined(self, parts: list[Tensor]) -> Tensor:
        """Flatten the points of each part and join all, batch axes broadcast."""
        flat = [part.flatten(part.ndim - len(rows.shape)) for part, rows in zip(parts, self._rows, strict=True)]
        batch = broadcast_shapes(*(part.shape[:-1] for part in flat))
        return torch.cat([part.expand(*batch, part.shape[-1]) for part in flat], dim=-1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Take the collocation along to another device."""
        super()._apply(fn, recurse)
        device = cast(AxisDifferentiation, self.axes[0]).nodes.device
        if device != self._rows[0].values.device:
            self.collocation = self.collocation.to(device)
            self._rows = [part.to(device) for part in self._rows]
            self._prepare()
        return self


class LinearCollocationOperator(CollocationOperator, LinearMap):
    """`CollocationOperator` of a linear equation: a linear map."""

    def _equation(self, m: Tensor) -> Tensor:
        return self._terms(m, 0).flatten(1)


def collocation_operator(
    collocation: Collocation, kernels: Sequence[StationaryKernel], cut: float = 1e-13
) -> CollocationOperator:
    """The operator of a collocation, linear where its equation is."""
    cls = LinearCollocationOperator if collocation.pde.linear else CollocationOperator
    return cls(collocation, kernels, cut)


def unknown_space(collocation: Collocation) -> GridSpace:
    """The grid of the unknown field."""
    return GridSpace(
        collocation.shape,
        name=collocation.unknown,
        dims=collocation.coordinates,
        lower=collocation.lower,
        upper=collocation.upper,
    )


def _contracted(m: Tensor, points: AnyPoints, matrices: list[Tensor | None]) -> Tensor:
    """`(B, *shape)` and one matrix per axis (None: identity) -> `(B, *points.shape)`."""
    for axis, matrix in enumerate(matrices):
        if isinstance(points, TensorPoints):
            if matrix is not None:
                m = torch.tensordot(m, matrix.to(m.dtype), dims=([axis + 1], [1])).movedim(-1, axis + 1)
        else:
            assert matrix is not None
            m = torch.einsum("na,ba...->bn..." if axis == 0 else "na,bna...->bn...", matrix.to(m.dtype), m)
    return m


def _cast(value: Tensor | Jet, dtype: torch.dtype) -> Tensor | Jet:
    return value.map(lambda entry: entry.to(dtype)) if isinstance(value, Jet) else value.to(dtype)
