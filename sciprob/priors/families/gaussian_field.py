"""Periodic Gaussian fields, whose denoiser is known: the test of trained ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.priors.grid_matern import GridMatern
from sciprob.spaces import GridSpace


@dataclass(frozen=True)
class GaussianField:
    """Matern fields of mean zero and variance one on the unit torus.

    Args:
        points: Points a side.
        length: Correlation length.
        smoothness: nu.
    """

    name: ClassVar[str] = "gaussian-field"
    title: ClassVar[str] = "Periodic Gaussian field with Matern covariance"
    shift: ClassVar[float] = 0.0
    scale: ClassVar[float] = 1.0

    points: int = 32
    length: float = 0.2
    smoothness: float = 1.0

    @property
    def space(self) -> GridSpace:
        """The unit torus."""
        shape = (self.points, self.points)
        return GridSpace(shape, name="field", dims=("y", "x"), centring="periodic", lower=2 * (0.0,), upper=2 * (1.0,))

    @property
    def prior(self) -> GridMatern:
        """The law of the fields."""
        return _prior(self)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Fields `(count, points, points)`, float32."""
        return self.prior.to(generator.device).sample((count,), generator=generator).float()


@lru_cache(maxsize=8)
def _prior(family: GaussianField) -> GridMatern:
    zero = torch.zeros(family.space.shape)
    return GridMatern(
        family.space, std=1.0, length=family.length, smoothness=family.smoothness, mean=zero, boundary="periodic"
    )
