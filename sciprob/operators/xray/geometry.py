"""Where the X-rays run: parallel and flat-detector fan beams.

A geometry is a list of rays, one per view and detector bin, as points and unit directions in
physical coordinates (x, y[, z]). Everything else (projectors, analytic line integrals) sees only
the rays, so a beam in three dimensions differs in nothing but the last axis.

The conventions are those of the ASTRA toolbox's `parallel` and `fanflat`: at angle t (radians,
anticlockwise) the rays run along (-sin t, cos t) and the detector along (cos t, sin t); the
rotation axis is the physical origin.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError


class Rays(NamedTuple):
    """Lines `point + t * direction`.

    Attributes:
        point: `(..., d)`, any point of each line; the source where there is one.
        direction: `(..., d)`, unit vectors.
    """

    point: Tensor
    direction: Tensor


@dataclass(frozen=True, eq=False)
class BeamGeometry(ABC):
    """Views at `angles`, each a row of `n_bins` detector bins.

    Args:
        angles: Radians, any order and spacing, `(n_angles,)`; kept as a float64 tensor.
        n_bins: Number of detector bins.
        bin_width: Width of a bin on the detector, in the length unit of the image.
        axis_offset: Detector coordinate, measured from the detector's middle, onto which the
            rotation axis projects; 0 for a centred detector.

    Raises:
        DataError: If an angle is not finite (the message names the view), or a size is not positive.
    """

    angles: Tensor
    n_bins: int
    bin_width: float
    axis_offset: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        angles: Tensor | Sequence[float] = self.angles
        object.__setattr__(self, "angles", torch.as_tensor(angles, dtype=torch.float64, device="cpu").detach())
        if self.angles.ndim != 1 or len(self.angles) == 0:
            message = f"`angles` should be a non-empty vector in radians, got shape {tuple(self.angles.shape)}."
            raise ShapeError(message)
        bad = (~self.angles.isfinite()).nonzero()
        if len(bad):
            view = int(bad[0])
            message = f"the angle of view {view} is {float(self.angles[view])}; remove the view or give its angle."
            raise DataError(message)
        if self.n_bins < 1:
            message = f"`n_bins` should be at least 1, got {self.n_bins}."
            raise DataError(message)
        _require_positive("bin_width", self.bin_width)
        if not math.isfinite(self.axis_offset):
            message = f"`axis_offset` should be a finite length, got {self.axis_offset}."
            raise DataError(message)

    @property
    def bins(self) -> Tensor:
        """Coordinates of the bin centres on the detector, `(n_bins,)`, from the projected rotation axis."""
        centred = torch.arange(self.n_bins, dtype=torch.float64) - (self.n_bins - 1) / 2
        return self.bin_width * centred - self.axis_offset

    @abstractmethod
    def rays(self) -> Rays:
        """The ray through each bin centre, `(n_angles, n_bins, 2)`, float64."""

    @abstractmethod
    def directions(self, points: Tensor) -> Tensor:
        """Unit directions `(n_angles, n, 2)` of the rays of each view through `points (n, 2)`, x before y."""

    @property
    def shape(self) -> tuple[int, int]:
        """`(n_angles, n_bins)`, the shape of a sinogram."""
        return len(self.angles), self.n_bins

    def views(self, index: Sequence[int] | Tensor | slice) -> Self:
        """The same geometry with some of the views, in the order given."""
        chosen = self.angles[index if isinstance(index, slice) else torch.as_tensor(index)]
        return replace(self, angles=chosen)

    def _frame(self) -> tuple[Tensor, Tensor]:
        """Central ray direction and detector direction of each view, `(n_angles, 2)`."""
        cos, sin = self.angles.cos(), self.angles.sin()
        return torch.stack([-sin, cos], dim=-1), torch.stack([cos, sin], dim=-1)


@dataclass(frozen=True, eq=False)
class ParallelBeam(BeamGeometry):
    """Parallel rays: view t, bin s integrates over the line {x : <x, (cos t, sin t)> = s}.

    Args:
        angles: Radians, any order and spacing, `(n_angles,)`.
        n_bins: Number of detector bins.
        bin_width: Distance between neighbouring rays.
        axis_offset: Position of the rotation axis on the detector, from its middle.
    """

    def rays(self) -> Rays:
        """The ray through each bin centre; its point is the one nearest the rotation axis."""
        along, across = self._frame()
        point = self.bins[None, :, None] * across[:, None, :]
        return Rays(point, along[:, None, :].expand_as(point))

    def directions(self, points: Tensor) -> Tensor:
        """The same at all points, `(n_angles, n, 2)`."""
        return self._frame()[0][:, None].expand(-1, len(points), -1)


@dataclass(frozen=True, eq=False)
class FanBeam(BeamGeometry):
    """Rays from a point source to a flat detector, which turn together about the origin.

    The source stands at source_origin * (sin t, -cos t); the detector line is perpendicular to the
    central ray at the distance `origin_detector` behind the origin.

    Args:
        angles: Radians, any order and spacing, `(n_angles,)`.
        n_bins: Number of detector bins.
        bin_width: Width of a bin on the detector (not scaled to the rotation axis).
        source_origin: Distance from the source to the rotation axis, positive.
        origin_detector: Distance from the rotation axis to the detector, 0 for a virtual detector on the axis.
        axis_offset: Position of the rotation axis' projection on the detector, from its middle.

    Raises:
        DataError: If a distance is not finite or has the wrong sign.
    """

    source_origin: float
    origin_detector: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive("source_origin", self.source_origin)
        if not (math.isfinite(self.origin_detector) and self.origin_detector >= 0):
            message = f"`origin_detector` should be a distance of 0 or more, got {self.origin_detector}."
            raise DataError(message)

    @property
    def source_detector(self) -> float:
        """Distance from the source to the detector."""
        return self.source_origin + self.origin_detector

    def rays(self) -> Rays:
        """The ray from the source to each bin centre; its point is the source."""
        along, across = self._frame()
        source = self._sources()
        direction = self.source_detector * along[:, None, :] + self.bins[None, :, None] * across[:, None, :]
        direction = direction / direction.norm(dim=-1, keepdim=True)
        return Rays(source.expand_as(direction), direction)

    def directions(self, points: Tensor) -> Tensor:
        """Those from the source to the points, `(n_angles, n, 2)`."""
        beam: Tensor = points - self._sources()
        unit: Tensor = beam / beam.norm(dim=-1, keepdim=True)
        return unit

    def _sources(self) -> Tensor:
        """`(n_angles, 1, 2)`."""
        return -self.source_origin * self._frame()[0][:, None, :]


def _require_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        message = f"`{name}` should be a positive length, got {value}."
        raise DataError(message)
