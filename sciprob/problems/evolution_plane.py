"""Evolution problems in the plane: Navier-Stokes, Allen-Cahn, heat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.engines.spectral import SpectralBasis, SpectralEquation
from sciprob.engines.spectral.equations.allen_cahn import AllenCahnSpectral
from sciprob.engines.spectral.equations.heat import HeatSpectral
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.priors.base import Prior
from sciprob.problems.evolution import EvolutionProblem, named, square_grid
from sciprob.problems.grid_settings import GridField, field_on
from sciprob.problems.problem import Info
from sciprob.problems.registry import register
from sciprob.spaces import GridSpace


@dataclass(frozen=True, kw_only=True)
class NavierStokesProblem(EvolutionProblem):
    """Plane flow on [0, 2 pi)^2, periodic: omega_t + u . grad omega = nu Laplace omega - drag omega + g.

    Args:
        viscosity: nu >= 0.
        prior: Prior of the unknown field.
        drag: Friction >= 0.
    """

    viscosity: float
    prior: GridField
    drag: float = 0.0

    def space(self, points: int) -> GridSpace:
        """Periodic square."""
        return square_grid(points, "vorticity", 2 * math.pi, "periodic")


@register("navier-stokes-initial")
@dataclass(frozen=True, kw_only=True)
class NavierStokesInitial(NavierStokesProblem):
    """Initial vorticity of a plane periodic flow on [0, 2 pi)^2 from sensors of the later vorticity.

    Args:
        prior: Prior of the initial vorticity.
        forcing: Curl g of the body force, a number or a formula in x, y.
    """

    words: ClassVar[Info] = Info(
        title="Initial vorticity of a plane flow from later sensors",
        equation=r"\omega_t + u \cdot \nabla \omega = \nu \Delta \omega + g",
        description="Data assimilation: the initial vorticity is sought from sparse, noisy, later point values.",
        citations=("stuart2010", "cotter2013", "coxmatthews2002"),
        default_solver="laplace",
    )

    forcing: float | str = 0.0

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """Navier-Stokes with a known forcing."""
        return NavierStokes2DSpectral(
            SpectralBasis(grid), viscosity=self.viscosity, drag=self.drag, forcing=field_on(grid, str(self.forcing))
        )

    def prior_on(self, grid: GridSpace) -> Prior:
        """Periodic field."""
        return self.prior_of(self.prior, named(grid, "initial_vorticity"), "periodic")


@register("navier-stokes-forcing")
@dataclass(frozen=True, kw_only=True)
class NavierStokesForcing(NavierStokesProblem):
    """Steady forcing g (curl of the body force) of a plane periodic flow on [0, 2 pi)^2 from sensors of the vorticity.

    Args:
        prior: Prior of the forcing.
        initial_state: Initial vorticity, a number or a formula in x, y.
    """

    words: ClassVar[Info] = Info(
        title="What stirs the flow? Forcing of a plane flow from sensors",
        equation=r"\omega_t + u \cdot \nabla \omega = \nu \Delta \omega + g",
        description="The steady force behind a plane flow is sought from sparse noisy point values of the vorticity.",
        citations=("stuart2010", "cotter2013", "coxmatthews2002"),
        default_solver="laplace",
    )
    unknown: ClassVar[str] = "forcing"

    initial_state: float | str = 0.0

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """Navier-Stokes with the forcing as unknown."""
        return NavierStokes2DSpectral(SpectralBasis(grid), viscosity=self.viscosity, drag=self.drag)

    def prior_on(self, grid: GridSpace) -> Prior:
        """Periodic Matérn field."""
        return self.prior.on(named(grid, "forcing"), "periodic")

    def initial(self, grid: GridSpace) -> Tensor:
        """The formula on the grid."""
        return field_on(grid, str(self.initial_state))


@register("allen-cahn")
@dataclass(frozen=True, kw_only=True)
class AllenCahnInitial(EvolutionProblem):
    """Initial state of u_t = D Laplace u + r (u - u^3) on [0, 1]^2, impermeable walls, from later sensors.

    Args:
        diffusivity: D > 0.
        reaction: r >= 0; layers between the phases are sqrt(2 D / r) wide.
        prior: Prior of the initial state.
    """

    words: ClassVar[Info] = Info(
        title="Initial state of a phase separation from later sensors",
        equation=r"u_t = D \Delta u + r (u - u^3), \quad \partial_n u = 0",
        description="Two phases separate; what the mixture was like before is sought from noisy later point values.",
        citations=("stuart2010", "coxmatthews2002"),
        default_solver="laplace",
    )
    boundary: ClassVar[str] = "neumann"

    diffusivity: float
    reaction: float
    prior: GridField

    def space(self, points: int) -> GridSpace:
        """Cell-centred unit square."""
        return square_grid(points, "u", 1.0, "cell")

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """Allen-Cahn with walls."""
        return AllenCahnSpectral(
            SpectralBasis(grid, self.boundary), diffusivity=self.diffusivity, reaction=self.reaction
        )

    def prior_on(self, grid: GridSpace) -> Prior:
        """Stationary Matérn field."""
        return self.prior.on(named(grid, "initial_u"), "stationary")


@register("heat-source")
@dataclass(frozen=True, kw_only=True)
class HeatSource(EvolutionProblem):
    """Steady source f of u_t = D Laplace u + f on [0, 1]^2, cold at first and on the walls: linear and Gaussian.

    Args:
        diffusivity: D >= 0.
        prior: Prior of the source.
    """

    words: ClassVar[Info] = Info(
        title="Source of heat from sensors of the temperature",
        equation=r"u_t = D \Delta u + f, \quad u = 0 \text{ at } t = 0 \text{ and on the walls}",
        description="A steady source of heat is sought from noisy point values of the warming plate; solved exactly.",
        citations=("stuart2010",),
        default_solver="gaussian",
    )
    boundary: ClassVar[str] = "dirichlet"
    unknown: ClassVar[str] = "forcing"

    diffusivity: float
    prior: GridField

    def space(self, points: int) -> GridSpace:
        """Cell-centred unit square."""
        return square_grid(points, "temperature", 1.0, "cell")

    def equation(self, grid: GridSpace) -> SpectralEquation:
        """Heat conduction between cold walls."""
        return HeatSpectral(SpectralBasis(grid, self.boundary), diffusivity=self.diffusivity)

    def prior_on(self, grid: GridSpace) -> Prior:
        """Stationary Matérn field."""
        return self.prior.on(named(grid, "source"), "stationary")

    def initial(self, grid: GridSpace) -> Tensor:
        """Cold."""
        return torch.zeros(grid.shape, dtype=torch.float64)
