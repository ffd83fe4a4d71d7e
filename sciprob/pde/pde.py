"""A partial differential equation as its strong residual at points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.pde.derivative_names import closure
from sciprob.pde.jet import Jet, Number
from sciprob.spaces.shapes import broadcast_shapes

Points = Mapping[str, Tensor]
Fields = Mapping[str, Jet]
Parameters = Mapping[str, Tensor | Jet]
Residuals = dict[str, Tensor]


class PDE(ABC):
    """One equation, or a system, in pointwise form: residuals that vanish for a solution.

    A subclass names what it is about and implements `residual`. The same class serves networks
    (`network_jets`), grids (`grid_jets`), finite elements (`fe_jets`) and Gaussian processes
    (`linearised`).

    Attributes:
        coordinates: One letter each, such as `("x", "t")`.
        fields: Unknown fields, with the derivatives that `residual` reads: `{"u": ("x", "xx", "t")}`.
        equations: Names of the residuals.
        parameters: Names of coefficients and sources.
        defaults: Values of those parameters that need not be given.
        linear: Whether the residual is affine in the fields for given parameters.
        differentiated: Those parameters of which derivatives count, so that they have to be jets where they vary.
    """

    parameters: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, float]] = {}
    linear: ClassVar[bool] = False
    differentiated: ClassVar[tuple[str, ...]] = ()

    @property
    @abstractmethod
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""

    @property
    @abstractmethod
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """Unknown fields and the derivatives needed of each."""

    @property
    @abstractmethod
    def equations(self) -> tuple[str, ...]:
        """Names of the residuals."""

    @abstractmethod
    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """The residual of each equation; written in any tensors that broadcast to `(*batch, n)`."""

    def __call__(self, x: Points, u: Fields, p: Mapping[str, Tensor | Jet | Number] | None = None) -> Residuals:
        """The residuals at points, `(*batch, n)` each, with names checked and defaults filled in.

        Args:
            x: Coordinates of the points, each `(*batch, n)` or `(n,)`.
            u: Jets of the fields, `(*batch, n)`.
            p: Parameters: numbers or tensors `(*batch, 1)` that are constant in space and time, tensors
                `(*batch, n)` of values at the points, or jets where derivatives of the parameter count.

        Raises:
            ConfigError: If a name is missing or unknown.
            UnsupportedProblemError: If a jet lacks a derivative.
        """
        _check_names("coordinate", self.coordinates, x)
        _check_names("field", self.fields, u)
        zero = next(iter(u.values())).zero
        given = {
            name: zero + value if isinstance(value, Number) else value
            for name, value in {**self.defaults, **(p or {})}.items()
        }
        _check_names("parameter", self.parameters, given)
        for name, derivatives in self.fields.items():
            missing = [derivative for derivative in derivatives if not u[name].knows(derivative)]
            if missing:
                message = f"this equation needs {list(derivatives)} of `{name}`, and its jet knows no {missing}."
                raise UnsupportedProblemError(message)
        found = self.residual(x, u, given)
        _check_names("equation", self.equations, found)
        shapes = [item.shape for item in (*x.values(), *found.values())] + [jet.shape for jet in u.values()]
        shape = broadcast_shapes(*shapes)
        return {name: _plain(name, found[name]).expand(shape) for name in self.equations}

    @property
    def derivatives(self) -> tuple[str, ...]:
        """All derivatives that any field needs, completed with lower ones; for `coordinate_jets`."""
        return closure(name for names in self.fields.values() for name in names)


def value_of(parameter: Tensor | Jet) -> Tensor:
    """A parameter of which only the value counts."""
    return parameter.value if isinstance(parameter, Jet) else parameter


@dataclass(frozen=True)
class SpatialPDE(PDE):
    """What equations in one to three dimensions of space share; without time, unless a subclass adds it.

    Args:
        space: Axes of space, `"x"`, `"xy"` or `"xyz"`.

    Raises:
        ConfigError: For other axes.
    """

    space: str = "x"

    def __post_init__(self) -> None:
        if self.space not in ("x", "xy", "xyz"):
            message = f"`space` should be 'x', 'xy' or 'xyz', got {self.space!r}."
            raise ConfigError(message)

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The axes of space."""
        return tuple(self.space)

    @property
    def second(self) -> tuple[str, ...]:
        """The terms of the Laplacian, such as `("xx", "yy")`."""
        return tuple(2 * axis for axis in self.space)


@dataclass(frozen=True)
class EvolutionPDE(SpatialPDE):
    """What equations of first order in time share; see `SpatialPDE`."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        """The axes of space, then time."""
        return (*self.space, "t")


def _check_names(kind: str, expected: Iterable[str], given: Mapping[str, object]) -> None:
    missing = [name for name in expected if name not in given]
    if missing:
        message = f"{kind} `{missing[0]}` is missing; needed are {list(expected)}, got {list(given)}."
        raise ConfigError(message)
    unknown = [name for name in given if name not in expected]
    if unknown:
        message = f"this equation has no {kind} `{unknown[0]}`; {did_you_mean(unknown[0], expected)}"
        raise ConfigError(message)


def _plain(name: str, residual: Tensor | Jet) -> Tensor:
    if isinstance(residual, Jet):
        message = f"the residual `{name}` is a jet; return its value, `r.value`."
        raise UnsupportedProblemError(message)
    return residual
