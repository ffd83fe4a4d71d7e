"""Domains of families, each with a probability measure from which collocation points are drawn."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError


class Domain(ABC):
    """A region with a probability measure: the image of the uniform one on a unit cube under `from_unit`.

    Another measure, such as points clustered where solutions are steep, is another `from_unit`.

    Attributes:
        coordinates: One letter each, such as `("x", "t")`.
        lower: Lower corner of the bounding box.
        upper: Upper corner of the bounding box.
    """

    coordinates: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @property
    def dim(self) -> int:
        """Number of coordinates d."""
        return len(self.coordinates)

    @property
    def unit_size(self) -> int:
        """Dimension k of the unit cube that `from_unit` reads."""
        return self.dim

    @abstractmethod
    def from_unit(self, q: Tensor) -> Tensor:
        """Points `(*batch, d)` of uniform numbers `q (*batch, k)` in [0, 1], so that (scrambled) Sobol points serve."""

    @abstractmethod
    def contains(self, points: Tensor) -> Tensor:
        """Whether points `(*batch, d)` lie in the closed domain, up to rounding, `(*batch,)`; NaN does not."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Independent draws of the measure, `(n, d)`, float64, on the generator's device."""
        q = torch.rand(n, self.unit_size, generator=generator, device=generator.device, dtype=torch.float64)
        return self.from_unit(q)

    def unit(self, points: Tensor) -> Tensor:
        """Points `(*batch, d)` in the scale of networks: the bounding box is [-1, 1]^d."""
        lower, upper = points.new_tensor(self.lower), points.new_tensor(self.upper)
        return 2 * (points - lower) / (upper - lower) - 1

    def check(self, points: Tensor) -> None:
        """Refuse points without the right number of columns.

        Raises:
            ShapeError: If `points` is not `(*batch, n, d)`.
        """
        if points.ndim < 2 or points.shape[-1] != self.dim:
            message = (
                f"points should be (*batch, n, {self.dim}) with columns {self.coordinates}, got {tuple(points.shape)}."
            )
            raise ShapeError(message)


@dataclass(frozen=True)
class BoxDomain(Domain):
    """An interval, rectangle or box, with time as one of the axes or without.

    Args:
        coordinates: Names of the axes.
        lower: Lower corner.
        upper: Upper corner.
        clustering: Exponents c >= 1 by axis: points are lower + (upper - lower) q^c, so that c > 1 gathers them
            at the lower end, for example at the initial time. By default 1, the uniform measure.

    Raises:
        ConfigError: If lengths differ, an axis is empty or an exponent is below 1.
    """

    coordinates: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    clustering: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.clustering:
            object.__setattr__(self, "clustering", (1.0,) * len(self.coordinates))
        lengths = {len(self.coordinates), len(self.lower), len(self.upper), len(self.clustering)}
        if len(lengths) != 1 or not self.coordinates:
            message = f"a box needs ends for each of {self.coordinates}, got {self.lower} and {self.upper}."
            raise ConfigError(message)
        if not all(-math.inf < low < high < math.inf for low, high in zip(self.lower, self.upper, strict=True)):
            message = f"a box needs finite ends with lower < upper, got {self.lower} and {self.upper}."
            raise ConfigError(message)
        if not all(1 <= exponent < math.inf for exponent in self.clustering):
            message = f"`clustering` should be at least 1 on each axis, got {self.clustering}."
            raise ConfigError(message)

    def from_unit(self, q: Tensor) -> Tensor:
        """See `Domain`."""
        lower, upper = q.new_tensor(self.lower), q.new_tensor(self.upper)
        return lower + (upper - lower) * q ** q.new_tensor(self.clustering)

    def contains(self, points: Tensor) -> Tensor:
        """See `Domain`."""
        lower, upper = points.new_tensor(self.lower), points.new_tensor(self.upper)
        slack = 4 * torch.finfo(points.dtype).eps * (lower.abs() + upper.abs())
        return ((points >= lower - slack) & (points <= upper + slack)).all(-1)


@dataclass(frozen=True)
class DiskDomain(Domain):
    """A disk in the plane with the uniform measure.

    Args:
        radius: Radius.
        centre: Centre.
        coordinates: Names of the axes.

    Raises:
        ConfigError: If the radius is not positive.
    """

    radius: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)
    coordinates: tuple[str, ...] = ("x", "y")

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf or len(self.coordinates) != 2:
            message = f"a disk needs a positive radius and two axes, got {self.radius} and {self.coordinates}."
            raise ConfigError(message)

    @property
    def lower(self) -> tuple[float, ...]:  # type: ignore[override]
        """Lower corner of the square around it."""
        return tuple(c - self.radius for c in self.centre)

    @property
    def upper(self) -> tuple[float, ...]:  # type: ignore[override]
        """Upper corner of the square around it."""
        return tuple(c + self.radius for c in self.centre)

    def from_unit(self, q: Tensor) -> Tensor:
        """Polar coordinates whose squared radius is uniform."""
        r, angle = self.radius * q[..., 0].sqrt(), 2 * math.pi * q[..., 1]
        return q.new_tensor(self.centre) + torch.stack([r * angle.cos(), r * angle.sin()], dim=-1)

    def contains(self, points: Tensor) -> Tensor:
        """See `Domain`."""
        slack = 8 * torch.finfo(points.dtype).eps
        distance = torch.linalg.vector_norm(points - points.new_tensor(self.centre), dim=-1)
        inside: Tensor = distance <= self.radius * (1 + slack)
        return inside
