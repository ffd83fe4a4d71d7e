"""Phantoms of ellipses, whose line integrals are known exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError
from sciprob.operators.xray.geometry import Rays
from sciprob.spaces import GridSpace

# value, semi-axes, centre, angle in degrees: L. A. Shepp and B. F. Logan, "The Fourier
# reconstruction of a head section", IEEE Trans. Nucl. Sci. 21 (1974). The second value is that of
# P. A. Toft, "The Radon transform" (1996), with more contrast.
_SHEPP_LOGAN = (
    (2.00, 1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.98, -0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.02, -0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.02, -0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.01, 0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.01, 0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.01, 0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.01, 0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.01, 0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.01, 0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


@dataclass(frozen=True, eq=False)
class Ellipses:
    """A sum of constant ellipses, m(x) = sum_k value_k [x in ellipse k].

    Args:
        value: `(k,)`.
        centre: `(k, 2)`, x and y.
        semi_axes: `(k, 2)`, positive, along the ellipse's own first and second direction.
        angle: `(k,)`, radians, from the x axis to the first direction, anticlockwise.

    Raises:
        ShapeError: If the shapes do not agree.
        DataError: If a semi-axis is not positive (the message names the ellipse).
    """

    value: Tensor
    centre: Tensor
    semi_axes: Tensor
    angle: Tensor

    def __post_init__(self) -> None:
        k = len(self.value)
        shapes = [tuple(part.shape) for part in (self.value, self.centre, self.semi_axes, self.angle)]
        if shapes != [(k,), (k, 2), (k, 2), (k,)]:
            message = (
                f"{k} ellipses need value ({k},), centre ({k}, 2), semi_axes ({k}, 2), angle ({k},), got {shapes}."
            )
            raise ShapeError(message)
        bad = (~(self.semi_axes > 0).all(1)).nonzero()
        if len(bad):
            row = int(bad[0])
            message = f"ellipse {row} has the semi-axes {self.semi_axes[row].tolist()}; they should be positive."
            raise DataError(message)

    @classmethod
    def shepp_logan(cls, radius: float = 1.0, *, original: bool = False) -> Self:
        """The Shepp-Logan head in a disc of this radius, values 0 to 1, float64.

        Args:
            radius: Half the side of the square that holds the head.
            original: Whether to take the values of 1974 (0 to 2, soft tissue within 1 %).
        """
        table = torch.tensor(_SHEPP_LOGAN, dtype=torch.float64)
        value = table[:, 0 if original else 1]
        return cls(value, radius * table[:, 4:6], radius * table[:, 2:4], torch.deg2rad(table[:, 6]))

    @classmethod
    def random(
        cls,
        count: int,
        *,
        radius: float = 1.0,
        semi_axes: tuple[float, float] = (0.05, 0.4),
        values: tuple[float, float] = (0.1, 1.0),
        generator: torch.Generator,
    ) -> Self:
        """Independent ellipses inside a disc, float64.

        Args:
            count: Number of ellipses.
            radius: Radius of the disc about the origin that holds them all.
            semi_axes: Range of the uniform semi-axes, in units of `radius`, within (0, 1).
            values: Range of the uniform values.
            generator: Source of randomness.

        Raises:
            DataError: If the range of the semi-axes is not within (0, 1).
        """
        if not 0 < semi_axes[0] <= semi_axes[1] < 1:
            message = f"`semi_axes` should be an increasing range within (0, 1), got {semi_axes}."
            raise DataError(message)
        u = torch.rand(count, 6, generator=generator, dtype=torch.float64, device=generator.device)
        axes = semi_axes[0] + (semi_axes[1] - semi_axes[0]) * u[:, :2]
        distance = u[:, 2].sqrt() * (1 - axes.amax(1))  # uniform in the disc where the ellipse fits
        direction = 2 * math.pi * u[:, 3]
        centre = distance[:, None] * torch.stack([direction.cos(), direction.sin()], dim=1)
        value = values[0] + (values[1] - values[0]) * u[:, 4]
        return cls(value, radius * centre, radius * axes, math.pi * u[:, 5])

    def at(self, points: Tensor) -> Tensor:
        """Values at points `(..., 2)`, `(...)`."""
        total = torch.zeros_like(points[..., 0])
        for k in range(len(self.value)):
            inside = self._unit(points - self.centre[k].to(points), k).square().sum(-1) <= 1
            total += self.value[k].to(points) * inside
        return total

    def image(self, grid: GridSpace, *, supersampling: int = 8) -> Tensor:
        """Pixel averages on a cell-centred (y, x) grid, `(*grid.shape)`, float64.

        The average is over supersampling^2 points per pixel, so at an edge it is off by about
        value / supersampling at most.
        """
        s, (ny, nx) = supersampling, grid.shape
        fine = GridSpace((ny * s, nx * s), dims=grid.dims, lower=grid.lower, upper=grid.upper, centring="cell")
        y, x = fine.axis(0), fine.axis(1)
        rows = [
            self.at(torch.stack(torch.meshgrid(x, part, indexing="xy"), dim=-1)).reshape(-1, s, nx, s).mean((1, 3))
            for part in y.split(16 * s)
        ]
        return torch.cat(rows)

    def line_integrals(self, rays: Rays) -> Tensor:
        """Exact integrals along rays with points `(..., 2)`, `(...)`.

        The chord of the unit circle cut by p + t d, in coordinates where the ellipse is that circle,
        is 2 sqrt(|d|^2 - (p x d)^2) / |d|^2; the cross product stays accurate for a far source.
        """
        total = torch.zeros_like(rays.point[..., 0])
        for k in range(len(self.value)):
            p = self._unit(rays.point - self.centre[k].to(rays.point), k)
            d = self._unit(rays.direction, k)
            length_squared = d.square().sum(-1)
            cross = p[..., 0] * d[..., 1] - p[..., 1] * d[..., 0]
            total += 2 * self.value[k].to(p) * (length_squared - cross**2).clamp_min(0).sqrt() / length_squared
        return total

    def _unit(self, vector: Tensor, k: int) -> Tensor:
        """Components in which ellipse k about the origin is the unit circle."""
        cos, sin = math.cos(self.angle[k]), math.sin(self.angle[k])
        rotation = torch.tensor([[cos, -sin], [sin, cos]], dtype=vector.dtype, device=vector.device)
        return vector @ rotation / self.semi_axes[k].to(vector)
