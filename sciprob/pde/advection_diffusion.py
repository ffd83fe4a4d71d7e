"""Advection and diffusion of a scalar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from sciprob.pde.pde import EvolutionPDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class AdvectionDiffusion(EvolutionPDE):
    """u_t + c . grad u - D Laplace u - f = 0, linear.

    Parameters: `velocity_x`, `velocity_y`, `velocity_z` (those of the axes), which may vary in space
    and time (the form is not conservative: equal to the conservative one for velocities free of
    divergence); `diffusivity` D and `forcing` f, by default 0.
    """

    equations: ClassVar[tuple[str, ...]] = ("advection_diffusion",)
    defaults: ClassVar[Mapping[str, float]] = {"diffusivity": 0.0, "forcing": 0.0}
    linear: ClassVar[bool] = True

    @property
    def parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """One velocity per axis, diffusivity, forcing."""
        return (*(f"velocity_{axis}" for axis in self.space), "diffusivity", "forcing")

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The concentration."""
        return {"u": (*self.space, "t", *self.second)}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        field = u["u"]
        advection = sum(value_of(p[f"velocity_{axis}"]) * field[axis] for axis in self.space)
        diffusion = value_of(p["diffusivity"]) * field.laplacian(self.space)
        return {"advection_diffusion": field.t + advection - diffusion - value_of(p["forcing"])}
