"""The Kuramoto-Sivashinsky equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import PDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class KuramotoSivashinsky(PDE):
    """u_t + u u_x + a u_xx + b u_xxxx - f = 0.

    Parameters: `anti_diffusion` a and `hyperdiffusion` b, by default 1; `forcing` f, by default 0.

    Source: Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005).
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "t")
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"u": ("x", "xx", "xxxx", "t")}
    equations: ClassVar[tuple[str, ...]] = ("kuramoto_sivashinsky",)
    parameters: ClassVar[tuple[str, ...]] = ("anti_diffusion", "hyperdiffusion", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"anti_diffusion": 1.0, "hyperdiffusion": 1.0, "forcing": 0.0}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        linear = value_of(p["anti_diffusion"]) * field.xx + value_of(p["hyperdiffusion"]) * field.xxxx
        return {"kuramoto_sivashinsky": field.t + field.value * field.x + linear - value_of(p["forcing"])}
