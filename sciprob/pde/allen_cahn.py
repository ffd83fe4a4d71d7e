"""The Allen-Cahn equation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import EvolutionPDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class AllenCahn(EvolutionPDE):
    """u_t - D Laplace u - r (u - u^3) - f = 0: phases u = -1 and 1 parted by layers of width sqrt(2 D / r).

    Parameters: `diffusivity` D, `reaction` r; `forcing` f, by default 0.

    Source: Allen and Cahn, Acta Metallurgica 27 (1979).
    """

    equations: ClassVar[tuple[str, ...]] = ("allen_cahn",)
    parameters: ClassVar[tuple[str, ...]] = ("diffusivity", "reaction", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"forcing": 0.0}

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The phase."""
        return {"u": ("t", *self.second)}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        reaction = value_of(p["reaction"]) * (field.value - field.value**3)
        diffusion = value_of(p["diffusivity"]) * field.laplacian(self.space)
        return {"allen_cahn": field.t - diffusion - reaction - value_of(p["forcing"])}
