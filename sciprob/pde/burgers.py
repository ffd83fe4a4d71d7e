"""Burgers' equation on a line and in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import PDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class Burgers(PDE):
    """u_t + a u u_x - nu u_xx - f = 0.

    Parameters: `viscosity` nu; `advection` a, by default 1; `forcing` f, by default 0. If u solves the
    equation with a, then a u solves it with a = 1 and the forcing a f.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "t")
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"u": ("x", "xx", "t")}
    equations: ClassVar[tuple[str, ...]] = ("momentum",)
    parameters: ClassVar[tuple[str, ...]] = ("viscosity", "advection", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"advection": 1.0, "forcing": 0.0}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        convection = value_of(p["advection"]) * field.value * field.x
        return {"momentum": field.t + convection - value_of(p["viscosity"]) * field.xx - value_of(p["forcing"])}


@dataclass(frozen=True)
class Burgers2D(PDE):
    """u_t + u u_x + v u_y - nu Laplace u - f = 0 and the same for v.

    Parameters: `viscosity` nu; `forcing_x`, `forcing_y` f, by default 0.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "y", "t")
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys("uv", ("x", "y", "xx", "yy", "t"))
    equations: ClassVar[tuple[str, ...]] = ("momentum_x", "momentum_y")
    parameters: ClassVar[tuple[str, ...]] = ("viscosity", "forcing_x", "forcing_y")
    defaults: ClassVar[Mapping[str, float]] = {"forcing_x": 0.0, "forcing_y": 0.0}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        residuals = {}
        for axis, field in zip("xy", (u["u"], u["v"]), strict=True):
            convection = u["u"].value * field.x + u["v"].value * field.y
            diffusion = value_of(p["viscosity"]) * field.laplacian("xy")
            residuals[f"momentum_{axis}"] = field.t + convection - diffusion - value_of(p[f"forcing_{axis}"])
        return residuals
