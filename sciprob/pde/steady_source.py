"""Heat conduction with an unknown source that does not change: the source eliminated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import EvolutionPDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class SteadyHeatSource(EvolutionPDE):
    """(u_t - D Laplace u)_t = u_tt - D Laplace u_t = 0, linear.

    The time derivative of the heat equation with a steady source f(x): it says all that is known of
    u where f is not, and f = u_t - D Laplace u follows from u. The diffusivity D is constant in time.

    Parameters: `diffusivity` D.
    """

    equations: ClassVar[tuple[str, ...]] = ("steady_source",)
    parameters: ClassVar[tuple[str, ...]] = ("diffusivity",)
    linear: ClassVar[bool] = True

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The temperature."""
        return {"u": ("tt", *(f"{pair}t" for pair in self.second))}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        spread = sum(field[f"{pair}t"] for pair in self.second)
        return {"steady_source": field.tt - value_of(p["diffusivity"]) * spread}
