"""The Korteweg-de Vries equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import PDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class KortewegDeVries(PDE):
    """u_t + a u u_x + b u_xxx - nu u_xx - f = 0.

    Parameters: `convection` a, by default 6; `dispersion` b, by default 1; `viscosity` nu and `forcing` f,
    by default 0. One soliton of speed c is (3 c / a) sech^2(sqrt(c / b) (x - c t) / 2), for nu = f = 0.

    Source: Zabusky and Kruskal, Phys. Rev. Lett. 15 (1965).
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "t")
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"u": ("x", "xx", "xxx", "t")}
    equations: ClassVar[tuple[str, ...]] = ("korteweg_de_vries",)
    parameters: ClassVar[tuple[str, ...]] = ("convection", "dispersion", "viscosity", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"convection": 6.0, "dispersion": 1.0, "viscosity": 0.0, "forcing": 0.0}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        convection = value_of(p["convection"]) * field.value * field.x
        linear = value_of(p["dispersion"]) * field.xxx - value_of(p["viscosity"]) * field.xx
        return {"korteweg_de_vries": field.t + convection + linear - value_of(p["forcing"])}
