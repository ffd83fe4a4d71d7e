"""Evolution problems on a periodic interval: Burgers' equation and advection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sciprob.engines.spectral import SpectralBasis, SpectralEquation
from sciprob.engines.spectral.equations.advection import AdvectionSpectral
from sciprob.engines.spectral.equations.burgers import BurgersSpectral
from sciprob.priors.base import Prior
from sciprob.problems.evolution import EvolutionProblem, interval_grid, named
from sciprob.problems.grid_settings import GridField, field_on
from sciprob.problems.positive_number import PositiveNumber
from sciprob.problems.problem import Info
from sciprob.problems.registry import register
from sciprob.spaces import GridSpace


@dataclass(frozen=True, kw_only=True)
class LineProblem(EvolutionProblem):
    """A field u on [0, 1), periodic."""

    def space(self, points: int) -> GridSpace:
        """Periodic interval."""
        return interval_grid(points, "u")


@register("burgers-initial")
@dataclass(frozen=True, kw_only=True)
class BurgersInitial(LineProblem):
    """Initial state of Burgers' equation u_t + u u_x = nu u_xx on [0, 1), periodic.

    Args:
        viscosity: nu > 0.
        prior: Prior of the initial state.
    """

    words: ClassVar[Info] = Info(
        title="Initial state of Burgers' equation from later sensors",
        equation=r"u_t + u u_x = \nu u_{xx}",
        description="The initial state of a viscous, steepening wave is sought from noisy later point values.",
        citations=("stuart2010", "coxmatthews2002"),
        default_solver="laplace",
    )

    viscosity: float
    prior: GridField

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """Burgers' equation."""
        return BurgersSpectral(SpectralBasis(grid), viscosity=self.viscosity)

    def prior_on(self, grid: GridSpace) -> Prior:
        """Periodic Matérn field."""
        return self.prior.on(named(grid, "initial_u"), "periodic")


@register("burgers-viscosity")
@dataclass(frozen=True, kw_only=True)
class BurgersViscosity(LineProblem):
    """Viscosity of Burgers' equation u_t + u u_x = nu u_xx on [0, 1), periodic, with a known initial state.

    Args:
        initial_state: Formula in x.
        prior: Prior of the viscosity.
    """

    words: ClassVar[Info] = Info(
        title="Viscosity of Burgers' equation from sensors",
        equation=r"u_t + u u_x = \nu u_{xx}",
        description="One positive number, the viscosity, is sought from noisy point values of a steepening wave.",
        citations=("stuart2010", "coxmatthews2002"),
        default_solver="laplace",
    )
    unknown: ClassVar[str] = "viscosity"

    initial_state: str
    prior: PositiveNumber

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """Burgers' equation, with the viscosity as unknown."""
        return BurgersSpectral(SpectralBasis(grid), viscosity=self.prior.median)

    def prior_on(self, grid: GridSpace) -> Prior:
        """A log-normal number."""
        return self.prior.on("viscosity")

    def initial(self, grid: GridSpace) -> Tensor:
        """The formula on the grid."""
        return field_on(grid, self.initial_state)


@register("advection")
@dataclass(frozen=True, kw_only=True)
class Advection(LineProblem):
    """Initial state of u_t + c u_x = D u_xx on [0, 1), periodic: linear, with the exact posterior known.

    Args:
        velocity: c.
        diffusivity: D >= 0.
        prior: Prior of the initial state.
    """

    words: ClassVar[Info] = Info(
        title="Initial state of advection and diffusion from later sensors",
        equation=r"u_t + c u_x = D u_{xx}",
        description="What was released before it drifted past the sensors? Linear and Gaussian, solved exactly.",
        citations=("stuart2010",),
        default_solver="gaussian",
    )

    velocity: float
    diffusivity: float
    prior: GridField

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """Advection and diffusion."""
        return AdvectionSpectral(SpectralBasis(grid), velocity=(self.velocity,), diffusivity=self.diffusivity)

    def prior_on(self, grid: GridSpace) -> Prior:
        """Periodic Matérn field."""
        return self.prior.on(named(grid, "initial_u"), "periodic")
