"""Stationary equations in the Laplacian: Poisson with the plus sign, Helmholtz, Allen-Cahn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import Fields, Parameters, Points, Residuals, SpatialPDE, value_of


@dataclass(frozen=True)
class StationaryPDE(SpatialPDE):
    """What equations of one field u without time share; see `SpatialPDE`."""

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The value and the second derivatives."""
        return {"u": ("", *self.second)}


@dataclass(frozen=True)
class Laplace(StationaryPDE):
    """Laplace u - f = 0, linear: Poisson's equation with the plus sign (`poisson.Poisson` has -div k grad u = f).

    Parameters: `forcing` f, by default 0 (Laplace's equation).
    """

    equations: ClassVar[tuple[str, ...]] = ("poisson",)
    parameters: ClassVar[tuple[str, ...]] = ("forcing",)
    defaults: ClassVar[Mapping[str, float]] = {"forcing": 0.0}
    linear: ClassVar[bool] = True

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        return {"poisson": u["u"].laplacian(self.space) - value_of(p["forcing"])}


@dataclass(frozen=True)
class Helmholtz(StationaryPDE):
    """Laplace u + k^2 u - f = 0, linear: waves of the angular wavenumber k.

    With Dirichlet conditions on a box it has no unique solution where k^2 is an eigenvalue of -Laplace,
    and is ill-conditioned nearby.

    Parameters: `wavenumber` k in radians per unit length, which may vary; `forcing` f, by default 0.
    """

    equations: ClassVar[tuple[str, ...]] = ("helmholtz",)
    parameters: ClassVar[tuple[str, ...]] = ("wavenumber", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"forcing": 0.0}
    linear: ClassVar[bool] = True

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        wave = value_of(p["wavenumber"]) ** 2 * field.value
        return {"helmholtz": field.laplacian(self.space) + wave - value_of(p["forcing"])}


@dataclass(frozen=True)
class StationaryAllenCahn(StationaryPDE):
    """Laplace u + r u (u^2 - 1) - f = 0.

    Parameters: `reaction` r, by default 1; `forcing` f, by default 0.

    Source: the test problem of Fang et al., ICLR 2024, with r = 1.
    """

    equations: ClassVar[tuple[str, ...]] = ("allen_cahn",)
    parameters: ClassVar[tuple[str, ...]] = ("reaction", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"reaction": 1.0, "forcing": 0.0}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        reaction = value_of(p["reaction"]) * field.value * (field.value**2 - 1)
        return {"allen_cahn": field.laplacian(self.space) + reaction - value_of(p["forcing"])}
