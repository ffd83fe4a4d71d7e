"""Log-permeability of porous squares: two phases, or log-normal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.families.hole_shapes import coverage
from sciprob.priors.grid_matern import GridMatern
from sciprob.spaces import GridSpace


@dataclass(frozen=True)
class DarcyField:
    """Logarithm of the permeability on the unit square, from a Gaussian field w with (9 - Laplace)^2 C = identity.

    `two-phase`: log 12 where w > 0 and log 3 elsewhere, averaged over cells that the edge cuts. `lognormal`: w scaled
    to a standard deviation of about one. The field has zero normal derivative at the boundary.

    Args:
        kind: Which of the two.
        cells: Cells a side.

    Raises:
        ConfigError: If there are fewer than 8 cells.

    Sources: Li et al., ICLR 2021, arXiv 2010.08895, section A.3.2 (the two phases).
    """

    name: ClassVar[str] = "darcy"
    title: ClassVar[str] = "Log-permeability of a porous square"

    kind: Literal["two-phase", "lognormal"] = "two-phase"
    cells: int = 64

    def __post_init__(self) -> None:
        if self.cells < 8:
            message = f"`cells` should be at least 8, got {self.cells}."
            raise ConfigError(message)

    @property
    def shift(self) -> float:
        """Halfway between the phases, or zero."""
        return math.log(6.0) if self.kind == "two-phase" else 0.0

    @property
    def scale(self) -> float:
        """Half the distance of the phases, or one."""
        return math.log(2.0) if self.kind == "two-phase" else 1.0

    @property
    def space(self) -> GridSpace:
        """The cells."""
        shape = (self.cells, self.cells)
        return GridSpace(
            shape, name="log_conductivity", dims=("y", "x"), centring="cell", lower=2 * (0.0,), upper=2 * (1.0,)
        )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Fields `(count, cells, cells)`, float32."""
        field = _prior(self).to(generator.device).sample((count,), generator=generator).float()
        if self.kind == "lognormal":
            return field
        return math.log(3.0) + math.log(4.0) * coverage(-field)


@lru_cache(maxsize=8)
def _prior(family: DarcyField) -> GridMatern:
    zero = torch.zeros(family.space.shape)
    # (9 - Laplace)^2 in the plane is smoothness 1 with sqrt(2) / length = 3
    return GridMatern(family.space, std=1.0, length=math.sqrt(2) / 3, smoothness=1.0, mean=zero, boundary="neumann")
