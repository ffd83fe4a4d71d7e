"""Settings that problems on grids share: two grids, a field's prior, sensors, and their data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.expressions import Expression
from sciprob.priors.base import Prior
from sciprob.priors.grid_matern import GridMatern
from sciprob.problems.learned_prior import PriorChoice
from sciprob.random import Streams
from sciprob.spaces import GridSpace


@dataclass(frozen=True)
class Grids:
    """Points along each axis of the two grids of a problem.

    Args:
        inversion: Grid on which the unknown is sought.
        data: Finer grid, on which truth and data are made; not used with `--data`.
    """

    inversion: int
    data: int

    def __post_init__(self) -> None:
        if not 4 <= self.inversion <= self.data:
            message = (
                f"a problem needs 4 <= grid.inversion <= grid.data points along each axis, got {self.inversion} and "
                f"{self.data}; raise `grid.data` with `grid.inversion`."
            )
            raise ConfigError(message)


@dataclass(frozen=True)
class GridField(PriorChoice):
    """Prior of a field on a grid: Gaussian with Matérn covariance, or a trained diffusion prior.

    Args:
        kind: `gaussian` or `diffusion`.
        weights: Name or file of the trained prior.
        std: Marginal standard deviation.
        length: Correlation length in the units of the grid; at this distance the correlation is about 0.5.
        smoothness: nu; draws have about that many derivatives.
        mean: Mean, a number or a formula in x, y.
    """

    std: float
    length: float
    smoothness: float = 2.5
    mean: float | str = 0.0

    def on(self, grid: GridSpace, boundary: str) -> Prior:
        """The prior on a grid.

        Raises:
            ConfigError: If a trained prior is not of this grid's size.
        """
        if self.learned:
            return self.trained(grid)
        mean = torch.tensor(self.mean).double() if isinstance(self.mean, float) else field_on(grid, self.mean)
        return GridMatern(
            grid, std=self.std, length=self.length, smoothness=self.smoothness, mean=mean, boundary=boundary
        )


@dataclass(frozen=True)
class GridSensors:
    """Sensors at random places, uniform over the domain.

    Args:
        count: How many.
        seed: Seed of their places.
    """

    count: int = 50
    seed: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            message = f"`count` should be at least 1, got {self.count}."
            raise ConfigError(message)

    def place(self, grid: GridSpace) -> Tensor:
        """Points `(count, d)`, float64; those of a smaller count are the first of a larger one."""
        axes = sorted(range(len(grid.dims)), key=lambda i: grid.dims[i])
        lower, upper = (torch.tensor([bound[i] for i in axes]).double() for bound in (grid.lower, grid.upper))
        uniform = torch.rand(self.count, len(axes), generator=Streams(self.seed)["sensors"], dtype=torch.float64)
        return lower + (upper - lower) * uniform


def field_on(grid: GridSpace, formula: str) -> Tensor:
    """A formula in x, y, z on a grid, `(*grid.shape)`."""
    return Expression(formula)(grid.points()).expand(grid.size).reshape(grid.shape).clone()
