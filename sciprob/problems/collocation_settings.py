"""Settings of collocation problems: named equations, boxes, sides, formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError
from sciprob.expressions import Expression
from sciprob.pde.advection_diffusion import AdvectionDiffusion
from sciprob.pde.allen_cahn import AllenCahn
from sciprob.pde.burgers import Burgers
from sciprob.pde.heat import Heat
from sciprob.pde.helmholtz import Helmholtz, Laplace, StationaryAllenCahn
from sciprob.pde.korteweg_de_vries import KortewegDeVries
from sciprob.pde.pde import PDE
from sciprob.pde.poisson import Poisson
from sciprob.pde.reaction_diffusion import FisherKPP
from sciprob.pde.side_conditions import SideCondition, split_side

EQUATIONS: dict[str, tuple[bool, Callable[[str], PDE]]] = {  # name -> (has time, axes of space -> equation)
    "poisson": (False, Laplace),
    "diffusion": (False, Poisson),
    "helmholtz": (False, Helmholtz),
    "allen-cahn": (False, StationaryAllenCahn),
    "advection": (True, AdvectionDiffusion),
    "advection-diffusion": (True, AdvectionDiffusion),
    "heat": (True, Heat),
    "fisher-kpp": (True, FisherKPP),
    "allen-cahn-evolution": (True, AllenCahn),
    "burgers": (True, lambda _: Burgers()),
    "korteweg-de-vries": (True, lambda _: KortewegDeVries()),
}


@dataclass(frozen=True)
class Side:
    """What is known on one side of the box.

    Args:
        kind: `dirichlet` (u), `neumann` (outward normal derivative u_n), or `robin` (u_n + coefficient u).
        value: A number or a formula in the coordinates; by default that of `exact`.
        coefficient: Of u in `robin`.
        std: Standard deviation of the value's error; by default it is exact.
    """

    kind: Literal["dirichlet", "neumann", "robin"] = "dirichlet"
    value: float | str | None = None
    coefficient: float = 1.0
    std: float | None = None

    def on(self, side: str, coordinates: tuple[str, ...]) -> SideCondition:
        """The condition on a side such as `x_lower`, with the value zero where none is given."""
        split_side(side)
        value = 0.0 if self.value is None else field_of(self.value, coordinates)
        if self.kind == "dirichlet":
            return SideCondition.dirichlet(side, value, self.std)
        if self.kind == "neumann":
            return SideCondition.neumann(side, value, self.std)
        return SideCondition.robin(side, self.coefficient, value, self.std)


@dataclass(frozen=True)
class FieldSensors:
    """Noisy values of u at random places, uniform over the box; with `--data` those of the file instead.

    Args:
        count: How many.
        std: Standard deviation of their errors.
        seed: Seed of places.
    """

    count: int
    std: float
    seed: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not self.std > 0:
            message = f"`count` should be at least 1 and `std` positive, got {self.count} and {self.std}."
            raise ConfigError(message)


def equation_named(name: str, dimensions: int) -> PDE:
    """An equation by name, for so many coordinates, time included.

    Raises:
        ConfigError: If it is unknown, or not made for so many coordinates.
    """
    if name not in EQUATIONS:
        message = f"unknown equation `{name}`; {did_you_mean(name, EQUATIONS)}"
        raise ConfigError(message)
    in_time, make = EQUATIONS[name]
    axes = dimensions - in_time
    if not 1 <= axes <= 3 or len(make("xyz"[:axes]).coordinates) != dimensions:
        message = f"`{name}` has other coordinates than the {dimensions} that `points` has numbers for."
        raise ConfigError(message)
    return make("xyz"[:axes])


def field_of(value: float | str, coordinates: tuple[str, ...]) -> float | Callable[[Mapping[str, Any]], Any]:
    """A number, or a formula as a function of the coordinates (tensors or jets)."""
    return Expression(value, coordinates).on if isinstance(value, str) else float(value)


def number_of(value: float | str) -> float:
    """A number, or a formula of none, such as `2*pi`."""
    if isinstance(value, str):
        return float(Expression(value, ())(torch.zeros(1, 1, dtype=torch.float64)))
    return float(value)
