"""Incompressible flow in velocity and pressure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sciprob.errors import ConfigError
from sciprob.pde.pde import EvolutionPDE, Fields, Parameters, Points, Residuals, value_of


@dataclass(frozen=True)
class NavierStokes(EvolutionPDE):
    """rho (u_t + (u . grad) u) + grad p - mu Laplace u - f = 0 and div u = 0, in the plane or in space.

    Fields: `u`, `v`, (`w`,) and the pressure `p`, which the equations fix up to a function of time.
    Parameters: `density` rho, by default 1; `viscosity` mu (dynamic); body force per volume
    `forcing_x`, `forcing_y`, (`forcing_z`,) by default 0.

    Args:
        space: `"xy"` or `"xyz"`.

    Raises:
        ConfigError: For other axes.
    """

    space: str = "xy"

    def __post_init__(self) -> None:
        if self.space not in ("xy", "xyz"):
            message = f"flow needs `space` 'xy' or 'xyz', got {self.space!r}."
            raise ConfigError(message)

    @property
    def velocity(self) -> tuple[str, ...]:
        """Names of the velocity's components."""
        return tuple("uvw"[: len(self.space)])

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """Velocity and pressure."""
        return dict.fromkeys(self.velocity, (*self.space, *self.second, "t")) | {"p": tuple(self.space)}

    @property
    def equations(self) -> tuple[str, ...]:
        """Momentum along each axis, then continuity."""
        return (*(f"momentum_{axis}" for axis in self.space), "continuity")

    @property
    def parameters(self) -> tuple[str, ...]:  # type: ignore[override]
        """Density, viscosity, body force."""
        return ("density", "viscosity", *(f"forcing_{axis}" for axis in self.space))

    @property
    def defaults(self) -> Mapping[str, float]:  # type: ignore[override]
        """Unit density, no force."""
        return {"density": 1.0} | {f"forcing_{axis}": 0.0 for axis in self.space}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        density, viscosity = value_of(p["density"]), value_of(p["viscosity"])
        velocity = [u[name] for name in self.velocity]
        residuals = {}
        for axis, component in zip(self.space, velocity, strict=True):
            convection = sum(other.value * component[a] for a, other in zip(self.space, velocity, strict=True))
            forces = u["p"][axis] - viscosity * component.laplacian(self.space) - value_of(p[f"forcing_{axis}"])
            residuals[f"momentum_{axis}"] = density * (component.t + convection) + forces
        slopes = [component[axis] for axis, component in zip(self.space, velocity, strict=True)]
        return residuals | {"continuity": sum(slopes[1:], start=slopes[0])}
