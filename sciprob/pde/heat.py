"""The heat equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import EvolutionPDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class Heat(EvolutionPDE):
    """u_t - D Laplace u - f = 0, linear.

    Parameters: `diffusivity` D, constant in space; `forcing` f, by default 0.
    """

    equations: ClassVar[tuple[str, ...]] = ("heat",)
    parameters: ClassVar[tuple[str, ...]] = ("diffusivity", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"forcing": 0.0}
    linear: ClassVar[bool] = True

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The temperature."""
        return {"u": ("t", *self.second)}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        return {"heat": field.t - value_of(p["diffusivity"]) * field.laplacian(self.space) - value_of(p["forcing"])}
