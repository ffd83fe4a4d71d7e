"""Random phantoms of ellipses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.families.hole_shapes import coverage, uniform
from sciprob.spaces import GridSpace


@dataclass(frozen=True)
class EllipsePhantoms:
    """Attenuation images on [-1, 1]^2: sums of constant ellipses, as pixel averages.

    A share of them are bodies as in the problem `tomography-phantom`: an ellipse of value 0.5 that fills most of the
    disc of radius 0.9, and smaller ones inside that add up to +-`contrast`. The others are free sums of ellipses of
    any place, with values from -0.4 to 1, cut off below zero.

    Args:
        pixels: Pixels a side.
        most: Largest number of ellipses besides the body; numbers from 2 on are equally frequent.
        contrast: Largest change an ellipse makes inside a body.
        bodies: Share of bodies.

    Raises:
        ConfigError: If a number is out of its range.
    """

    name: ClassVar[str] = "ellipses"
    title: ClassVar[str] = "Phantoms of ellipses: attenuation"
    shift: ClassVar[float] = 0.2
    scale: ClassVar[float] = 0.3  # about the mean and spread of all pixels

    pixels: int = 64
    most: int = 12
    contrast: float = 0.4
    bodies: float = 0.7

    def __post_init__(self) -> None:
        if self.pixels < 8 or self.most < 2 or not 0 <= self.bodies <= 1 or self.contrast <= 0:
            message = (
                "ellipse phantoms need pixels >= 8, most >= 2, contrast > 0 and a share of bodies from 0 to 1, "
                f"got {self.pixels}, {self.most}, {self.contrast} and {self.bodies}."
            )
            raise ConfigError(message)

    @property
    def space(self) -> GridSpace:
        """The image."""
        shape = (self.pixels, self.pixels)
        return GridSpace(
            shape, name="attenuation", dims=("y", "x"), centring="cell", lower=2 * (-1.0,), upper=2 * (1.0,)
        )

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Phantoms `(count, pixels, pixels)`, float32, not negative but for cancellations in bodies."""
        device, k = generator.device, self.most
        body = torch.rand(count, 1, generator=generator, device=device) < self.bodies
        wanted = torch.randint(2, k + 1, (count, 1), generator=generator, device=device)
        there = torch.arange(k, device=device) < wanted
        u = torch.rand(count, k, 6, generator=generator, device=device)
        inner = 0.6 * (0.08 + 0.37 * u[..., :2])  # in the disc of radius 0.6, where they fit
        free = 0.03 + 0.37 * u[..., :2]
        axes = torch.where(body[..., None], inner, free)
        reach = u[..., 2].sqrt() * (0.6 - inner.amax(-1))
        direction = 2 * math.pi * u[..., 3]
        ring = torch.stack([reach * direction.cos(), reach * direction.sin()], dim=-1)
        centre = torch.where(body[..., None], ring, 1.6 * u[..., 2:4] - 0.8)
        value = torch.where(body, self.contrast * (2 * u[..., 4] - 1), 1.4 * u[..., 4] - 0.4)
        image = self._sum(value * there, centre, axes, math.pi * u[..., 5])
        outer = 0.9 * torch.stack([uniform(count, 0.8, 0.95, generator), uniform(count, 0.8, 0.95, generator)], dim=-1)
        angle = uniform(count, 0.0, math.pi, generator)[:, None]
        half = torch.full((count, 1), 0.5, device=device)
        image = image + body[..., None] * self._sum(
            half, torch.zeros(count, 1, 2, device=device), outer[:, None], angle
        )
        return torch.where(body[..., None], image, image.clamp_min(0))

    def _sum(self, value: Tensor, centre: Tensor, axes: Tensor, angle: Tensor) -> Tensor:
        """Pixel averages `(B, h, w)` of `(B, K)` ellipses."""
        pixel = 2 / self.pixels
        axis = (torch.arange(self.pixels, device=value.device) + 0.5) * pixel - 1
        x = axis - centre[..., 0, None, None]
        y = axis[:, None] - centre[..., 1, None, None]
        cosine, sine = angle.cos()[..., None, None], angle.sin()[..., None, None]
        first, second = axes[..., 0, None, None], axes[..., 1, None, None]
        a, b = (cosine * x + sine * y) / first, (cosine * y - sine * x) / second
        level = (a.square() + b.square()).sqrt()
        slope = ((a / first).square() + (b / second).square()).sqrt() / level.clamp_min(1e-6)
        inside = coverage((level - 1) / slope.clamp_min(1e-6) / pixel, distance=True)
        return torch.einsum("bk,bkyx->byx", value, inside)
