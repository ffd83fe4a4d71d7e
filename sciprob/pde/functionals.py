"""Linear functionals of a field at points: what equations, conditions and sensors say about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.pde.derivative_names import canonical
from sciprob.pde.jet import Jet
from sciprob.spaces.shapes import broadcast_shapes


@dataclass(frozen=True, eq=False)
class TensorPoints:
    """A tensor grid: all combinations of the entries of its lines.

    Args:
        lines: One 1-D tensor per coordinate, in the order of the equation's coordinates; a side of a box has one
            line of length 1.

    Raises:
        ShapeError: If a line is not 1-D.
    """

    lines: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        for axis, line in enumerate(self.lines):
            if line.ndim != 1:
                message = f"line {axis} of a tensor grid should be 1-D, got {tuple(line.shape)}."
                raise ShapeError(message)

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each coordinate."""
        return tuple(len(line) for line in self.lines)

    def columns(self, coordinates: tuple[str, ...]) -> dict[str, Tensor]:
        """The coordinates of all points by name, each `(n,)`, the last coordinate fastest.

        Raises:
            ShapeError: If there are more or fewer names than lines.
        """
        _check_names(coordinates, len(self.lines))
        mesh = torch.meshgrid(*self.lines, indexing="ij")
        return {name: values.reshape(-1) for name, values in zip(coordinates, mesh, strict=True)}

    def to(self, device: torch.device | str) -> TensorPoints:
        """The same on another device."""
        return TensorPoints(tuple(line.to(device) for line in self.lines))


@dataclass(frozen=True, eq=False)
class ScatteredPoints:
    """Points anywhere.

    Args:
        points: `(n, d)`, columns in the order of the equation's coordinates.

    Raises:
        ShapeError: If `points` is not 2-D.
    """

    points: Tensor

    def __post_init__(self) -> None:
        if self.points.ndim != 2:
            message = f"scattered points should be (n, d), got {tuple(self.points.shape)}."
            raise ShapeError(message)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points, `(n,)`."""
        return (len(self.points),)

    def columns(self, coordinates: tuple[str, ...]) -> dict[str, Tensor]:
        """The coordinates of all points by name, each `(n,)`.

        Raises:
            ShapeError: If there are more or fewer names than columns.
        """
        _check_names(coordinates, self.points.shape[1])
        return dict(zip(coordinates, self.points.unbind(1), strict=True))

    def to(self, device: torch.device | str) -> ScatteredPoints:
        """The same on another device."""
        return ScatteredPoints(self.points.to(device))


AnyPoints = TensorPoints | ScatteredPoints


@dataclass(frozen=True, eq=False)
class Functionals:
    """sum_a c_a(x) D^a u(x) = values + noise at points: rows of a linear system for the field u.

    Everything that is linear, or linearised, has this form: a PDE at collocation points, boundary and initial
    data, sensors. dtype and device are those of the tensors, which should agree.

    Args:
        name: What the rows are (`"poisson"`, `"left"`, `"sensors"`).
        coordinates: Names of the coordinates, in the order of the points' lines or columns.
        points: Where.
        terms: c_a by the name of the derivative (`""`, `"x"`, `"xx"`, `"xt"`), each broadcasts to `points.shape`.
        values: Right-hand sides, `(*batch, *points.shape)`.
        std: Standard deviation of the noise, positive, broadcasts to `points.shape`.

    Raises:
        ShapeError: If coordinates, terms, values or std do not fit the points.
    """

    name: str
    coordinates: tuple[str, ...]
    points: AnyPoints
    terms: Mapping[str, Tensor]
    values: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        lines = len(self.points.lines) if isinstance(self.points, TensorPoints) else self.points.points.shape[1]
        _check_names(self.coordinates, lines)
        shape = self.points.shape
        if tuple(self.values.shape[self.values.ndim - len(shape) :]) != shape or self.values.ndim < len(shape):
            message = f"the values of `{self.name}` should end in {shape}, got {tuple(self.values.shape)}."
            raise ShapeError(message)
        terms = {canonical(derivative): c for derivative, c in self.terms.items()}
        object.__setattr__(self, "terms", terms)
        for label, tensor in (("std", self.std), *terms.items()):
            if not _fits(tensor, shape):
                what = label if label == "std" else f"term `{label or 'value'}`"
                message = f"the {what} of `{self.name}` should broadcast to {shape}, got {tuple(tensor.shape)}."
                raise ShapeError(message)
        for derivative in terms:
            self.orders(derivative)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the points."""
        return self.points.shape

    def orders(self, derivative: str) -> tuple[int, ...]:
        """How often a derivative differentiates along each coordinate: `"xxt"` is (2, 1) for coordinates x, t.

        Raises:
            ShapeError: If it names another coordinate.
        """
        unknown = [letter for letter in canonical(derivative) if letter not in self.coordinates]
        if unknown:
            message = f"derivative `{derivative}` of `{self.name}` should name only {self.coordinates}."
            raise ShapeError(message)
        return tuple(canonical(derivative).count(name) for name in self.coordinates)

    def of(self, u: Jet) -> Tensor:
        """The functionals of a field with the jet `u`, `(*batch, n)`, at these points: `(*batch, *points.shape)`.

        Raises:
            UnsupportedProblemError: If the jet lacks a derivative.
        """
        total = torch.zeros((), dtype=self.values.dtype, device=self.values.device)
        for derivative, coefficient in self.terms.items():
            entry = u[derivative]
            total = total + coefficient * entry.reshape(*entry.shape[:-1], *self.shape)
        return total

    def to(self, device: torch.device | str) -> Functionals:
        """The same on another device."""
        terms = {derivative: coefficient.to(device) for derivative, coefficient in self.terms.items()}
        values, std = self.values.to(device), self.std.to(device)
        return Functionals(self.name, self.coordinates, self.points.to(device), terms, values, std)


def _check_names(coordinates: tuple[str, ...], count: int) -> None:
    if len(coordinates) != count:
        message = f"points with {count} coordinates need {count} names, got {coordinates}."
        raise ShapeError(message)


def _fits(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    try:
        common = broadcast_shapes(tensor.shape, shape)
    except ShapeError:
        return False
    return tuple(common) == shape
