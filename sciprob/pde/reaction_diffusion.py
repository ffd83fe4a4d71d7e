"""Reaction-diffusion equations of one or several species."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import EvolutionPDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class FisherKPP(EvolutionPDE):
    """u_t - D Laplace u - r u (1 - u) - f = 0: fronts that invade at the speed 2 sqrt(D r) or faster.

    Parameters: `diffusivity` D; `growth` r, which may vary; `forcing` f, by default 0.

    Source: Fisher, Annals of Eugenics 7 (1937).
    """

    equations: ClassVar[tuple[str, ...]] = ("fisher_kpp",)
    parameters: ClassVar[tuple[str, ...]] = ("diffusivity", "growth", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"forcing": 0.0}

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The population."""
        return {"u": ("t", *self.second)}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        growth = value_of(p["growth"]) * field.value * (1 - field.value)
        diffusion = value_of(p["diffusivity"]) * field.laplacian(self.space)
        return {"fisher_kpp": field.t - diffusion - growth - value_of(p["forcing"])}


@dataclass(frozen=True)
class GrayScott(EvolutionPDE):
    """u_t - D_u Laplace u + u v^2 - F (1 - u) - f_u = 0 and v_t - D_v Laplace v - u v^2 + (F + k) v - f_v = 0.

    Parameters: `diffusivity_u`, `diffusivity_v`; `feed` F and `kill` k, which may vary; sources
    `forcing_u`, `forcing_v`, by default 0.

    Source: Pearson, Science 261 (1993).
    """

    equations: ClassVar[tuple[str, ...]] = ("substrate", "activator")
    parameters: ClassVar[tuple[str, ...]] = (
        "diffusivity_u",
        "diffusivity_v",
        "feed",
        "kill",
        "forcing_u",
        "forcing_v",
    )
    defaults: ClassVar[Mapping[str, float]] = {"forcing_u": 0.0, "forcing_v": 0.0}

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """Substrate u and activator v."""
        return dict.fromkeys("uv", ("t", *self.second))

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        first, second = u["u"], u["v"]
        feed, kill = value_of(p["feed"]), value_of(p["kill"])
        conversion = first.value * second.value**2
        substrate = first.t - value_of(p["diffusivity_u"]) * first.laplacian(self.space)
        activator = second.t - value_of(p["diffusivity_v"]) * second.laplacian(self.space)
        return {
            "substrate": substrate + conversion - feed * (1 - first.value) - value_of(p["forcing_u"]),
            "activator": activator - conversion + (feed + kill) * second.value - value_of(p["forcing_v"]),
        }
