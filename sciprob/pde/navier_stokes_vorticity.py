"""Plane incompressible flow in vorticity and stream function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import PDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class NavierStokesVorticity(PDE):
    """w_t + u w_x + v w_y - nu Laplace w + alpha w - g = 0 and Laplace psi + w = 0, with (u, v) = (psi_y, -psi_x).

    Fields: `vorticity` w = v_x - u_y and `stream` psi. Parameters: `viscosity` nu; `drag` alpha and
    `forcing` g (curl of the body force), by default 0.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "y", "t")
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vorticity": ("x", "y", "xx", "yy", "t"),
        "stream": ("x", "y", "xx", "yy"),
    }
    equations: ClassVar[tuple[str, ...]] = ("transport", "stream")
    parameters: ClassVar[tuple[str, ...]] = ("viscosity", "drag", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"drag": 0.0, "forcing": 0.0}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        w, psi = u["vorticity"], u["stream"]
        convection = psi.y * w.x - psi.x * w.y
        linear = value_of(p["drag"]) * w.value - value_of(p["viscosity"]) * w.laplacian("xy")
        return {
            "transport": w.t + convection + linear - value_of(p["forcing"]),
            "stream": psi.laplacian("xy") + w.value,
        }
