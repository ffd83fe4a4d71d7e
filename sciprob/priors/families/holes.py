"""Acrylic discs with holes, as they are scanned in limited-angle tomography."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.families.hole_shapes import SHAPES, coverage, uniform
from sciprob.spaces import GridSpace

_MOST = 24  # holes in a disc
_TRIES = 12  # places tried for a hole
_MARGIN = 0.05  # between holes and the rim, of the radius
_STYLES = (0.2, 0.2, 0.12, 0.07, 0.07, 0.12, 0.13, 0.09)  # the five shapes, mixed, cells, level sets of a field


@dataclass(frozen=True)
class Holes:
    """Fraction of material of every pixel of a disc with holes.

    Each disc has a style: circles, ellipses and rounded rectangles; convex polygons; concave stars; arcs; slots
    and crosses; all of these mixed; the cells of a Voronoi diagram with walls between them; or the level set of a
    smooth random field. Sizes from 6 to 46 % of the radius, up to 24 holes, often of one orientation; pixels are
    averages, so those on edges are between 0 and 1.

    Args:
        pixels: Pixels a side.
        half_width: Half the side of the image, mm.
        radius: Radius of the disc, mm.
        offset: Largest distance of its centre from the image's along either axis, mm.

    Raises:
        ConfigError: If the disc does not fit into the image, or there are fewer than 16 pixels.
    """

    name: ClassVar[str] = "holes"
    title: ClassVar[str] = "Disc with holes: fraction of material"
    shift: ClassVar[float] = 0.5
    scale: ClassVar[float] = 0.5  # x = 1 is material, -1 air

    pixels: int = 128
    half_width: float = 37.97
    radius: float = 34.87
    offset: float = 1.8

    def __post_init__(self) -> None:
        if self.pixels < 16:
            message = f"`pixels` should be at least 16, got {self.pixels}."
            raise ConfigError(message)
        if not 0 < self.radius + self.offset <= self.half_width or self.offset < 0:
            message = (
                f"a disc of radius {self.radius} moved by up to {self.offset} should lie in an image of half width "
                f"{self.half_width}."
            )
            raise ConfigError(message)

    @property
    def space(self) -> GridSpace:
        """The image, in mm."""
        corner = (self.half_width, self.half_width)
        lower = (-self.half_width, -self.half_width)
        shape = (self.pixels, self.pixels)
        return GridSpace(shape, name="material", dims=("y", "x"), lower=lower, upper=corner, centring="cell")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Discs `(count, pixels, pixels)`, float32, between 0 and 1."""
        device = generator.device
        pixel = 2 * self.half_width / self.pixels / self.radius  # all lengths are in radii from here
        axis = (torch.arange(self.pixels, device=device) + 0.5) * pixel - self.half_width / self.radius
        centre = (2 * torch.rand(count, 2, generator=generator, device=device) - 1) * self.offset / self.radius
        x = (axis - centre[:, :1])[:, None, :]
        y = (axis - centre[:, 1:])[:, :, None]
        rim = (x.square() + y.square()).sqrt() - 1
        weights = torch.tensor(_STYLES, device=device)
        style = torch.multinomial(weights, count, replacement=True, generator=generator)
        air = _separate_holes(style, centre, pixel, axis, generator)
        for number, draw in ((6, _cells), (7, _level_sets)):
            index = (style == number).nonzero()[:, 0]
            if len(index):
                level = draw(x[index], y[index], pixel, generator)
                inner = rim[index] + uniform(len(index), 0.04, 0.15, generator)[:, None, None]
                air[index] = torch.minimum(
                    coverage(level / pixel, distance=True), coverage(inner / pixel, distance=True)
                )
        return coverage(rim / pixel, distance=True) * (1 - air)


def _separate_holes(style: Tensor, centre: Tensor, pixel: float, axis: Tensor, generator: torch.Generator) -> Tensor:
    """Fraction of air `(B, h, w)` of discs whose holes have a place, a size and a shape each."""
    count, device = len(style), style.device
    size, place, kept = _places(count, generator)
    kept &= (style < 6)[:, None]
    kind = torch.where(
        (style == 5)[:, None], torch.randint(5, (count, _MOST), generator=generator, device=device), style[:, None]
    )
    common = torch.rand(count, 1, generator=generator, device=device) < 0.5
    turn = 2 * math.pi * torch.rand(count, 1, generator=generator, device=device)
    jitter = torch.where(common, 0.25, 2 * math.pi) * (
        torch.rand(count, _MOST, generator=generator, device=device) - 0.5
    )
    spread = torch.where(common, 0.1, 0.3) * (torch.rand(count, _MOST, generator=generator, device=device) - 0.5)
    aspect = (uniform(count, 0.35, 1.1, generator)[:, None] + spread).clamp(0.25, 1.0)
    first = float(axis[0])
    air = torch.zeros(count * len(axis) ** 2, device=device)
    for smallest, largest in ((0.0, 0.12), (0.12, 0.22), (0.22, 1.0)):
        for number, shape in enumerate(SHAPES):
            chosen = kept & (kind == number) & (size > smallest) & (size <= largest)
            image, hole = chosen.nonzero(as_tuple=True)
            if not len(image):
                continue
            radius, middle = size[image, hole], place[image, hole] + centre[image]
            window = _Window(middle, float(radius.max()), first, pixel, len(axis))
            angle = (turn + jitter)[image, hole][:, None, None]
            u, v = window.x - middle[:, 0, None, None], window.y - middle[:, 1, None, None]
            a = (angle.cos() * u + angle.sin() * v) / radius[:, None, None]
            b = (angle.cos() * v - angle.sin() * u) / radius[:, None, None]
            part = coverage(shape(a, b, aspect[image, hole], generator))
            air.scatter_reduce_(0, window.index(image).reshape(-1), part.reshape(-1), "amax")
    return air.reshape(count, len(axis), len(axis))


class _Window:
    """Square windows of pixels around points, kept inside the image."""

    def __init__(self, middle: Tensor, radius: float, first: float, pixel: float, side: int) -> None:
        width = min(2 * math.ceil(radius / pixel) + 5, side)
        start = ((middle - first) / pixel).round().long() - width // 2
        start = start.clamp(0, side - width)
        offsets = torch.arange(width, device=middle.device)
        self.columns, self.rows = start[:, :1] + offsets, start[:, 1:] + offsets
        self.side = side
        self.x = (first + self.columns * pixel)[:, None, :]
        self.y = (first + self.rows * pixel)[:, :, None]

    def index(self, image: Tensor) -> Tensor:
        """Positions `(S, w, w)` of the windows' pixels in the flattened images."""
        return image[:, None, None] * self.side**2 + self.rows[:, :, None] * self.side + self.columns[:, None, :]


def _places(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sizes `(B, K)`, places `(B, K, 2)` and which holes there are: they do not overlap by more than a little."""
    device = generator.device
    typical = 0.08 * 5 ** torch.rand(count, 1, generator=generator, device=device)
    spread = uniform(count, 0.0, 0.35, generator)[:, None]
    size = typical * (spread * torch.randn(count, _MOST, generator=generator, device=device)).exp()
    size = size.clamp(0.06, 0.46)
    wanted = 1 + (_MOST * torch.rand(count, generator=generator, device=device) ** 1.1).long()
    wanted = torch.where(torch.rand(count, generator=generator, device=device) < 0.02, 0, wanted)
    tight = uniform(count, 0.75, 1.05, generator)[:, None, None]
    gap = uniform(count, 0.02, 0.1, generator)[:, None, None]
    place = torch.full((count, _MOST, 2), 9.0, device=device)
    kept = torch.zeros(count, _MOST, dtype=torch.bool, device=device)
    for k in range(_MOST):
        reach = (1 - _MARGIN - size[:, k]).clamp_min(0.0)
        radius = reach[:, None] * torch.rand(count, _TRIES, generator=generator, device=device).sqrt()
        angle = 2 * math.pi * torch.rand(count, _TRIES, generator=generator, device=device)
        tried = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
        distance = torch.cdist(tried, place)
        free = (distance > tight * (size[:, None, :] + size[:, k, None, None]) + gap) | ~kept[:, None, :]
        good = free.all(dim=2)
        first = good.float().argmax(dim=1)
        kept[:, k] = good.any(dim=1) & (k < wanted)
        place[:, k] = torch.where(kept[:, k, None], tried[torch.arange(count, device=device), first], 9.0)
    return size, place, kept


def _cells(x: Tensor, y: Tensor, _: float, generator: torch.Generator) -> Tensor:
    """Level function of Voronoi cells with walls between them and rounded corners, some cells left out."""
    count, most, device = len(x), 18, x.device
    wanted = torch.randint(4, most + 1, (count,), generator=generator, device=device)
    seeds = torch.full((count, most, 2), 50.0, device=device)
    for k in range(most):  # the farthest of a few candidates, so that cells are of similar size
        tried = 2 * torch.rand(count, 4, 2, generator=generator, device=device) - 1
        inside = tried.square().sum(-1) < 1
        nearest = torch.cdist(tried, seeds).amin(2)
        best = torch.where(inside, nearest, -1.0).argmax(1)
        chosen = tried[torch.arange(count, device=device), best]
        seeds[:, k] = torch.where((k < wanted)[:, None], chosen, 50.0 + 10 * k)
    dropped = torch.rand(count, most, generator=generator, device=device) < uniform(count, 0, 0.5, generator)[:, None]
    wall = uniform(count, 0.03, 0.12, generator)[:, None, None, None]
    sharpness = uniform(count, 15.0, 80.0, generator)[:, None, None, None]
    squares = (x[:, None] - seeds[:, :, 0, None, None]).square() + (y[:, None] - seeds[:, :, 1, None, None]).square()
    nearest, owner = squares.min(dim=1, keepdim=True)
    own = seeds.gather(1, owner.reshape(count, -1, 1).expand(-1, -1, 2)).reshape(*owner.shape, 2)
    apart = ((own - seeds[:, :, None, None]).square().sum(-1)).sqrt()
    bisector = (nearest - squares) / (2 * apart).clamp_min(1e-6)
    bisector = torch.where(apart < 1e-6, -9.0, bisector)
    level = torch.logsumexp(sharpness * bisector, dim=1, keepdim=True) / sharpness + wall / 2
    closed = dropped.gather(1, owner.reshape(count, -1)).reshape(owner.shape)
    return torch.where(closed, 1.0, level)[:, 0]


def _level_sets(x: Tensor, _: Tensor, pixel: float, generator: torch.Generator) -> Tensor:
    """Level function of the set where a smooth Gaussian field exceeds a quantile."""
    count, side = len(x), x.shape[2]
    length = 0.06 * 5 ** torch.rand(count, generator=generator, device=x.device)
    white = torch.randn(count, side, side, generator=generator, device=x.device)
    waves = 2 * math.pi * torch.fft.fftfreq(side, pixel, device=x.device)
    halves = 2 * math.pi * torch.fft.rfftfreq(side, pixel, device=x.device)
    square = waves[:, None].square() + halves.square()
    transfer = (-square * length[:, None, None].square() / 2).exp()
    field = torch.fft.irfftn(torch.fft.rfftn(white, dim=(1, 2)) * transfer, s=(side, side), dim=(1, 2))
    share = uniform(count, 0.55, 0.88, generator)
    ordered = field.reshape(count, -1).sort(dim=1).values
    limit = ordered.gather(1, (share * (side**2 - 1)).long()[:, None])[:, :, None]
    level = limit - field
    slope_y, slope_x = torch.gradient(level, dim=(1, 2))
    distance: Tensor = pixel * level / (slope_y.square() + slope_x.square()).sqrt().clamp_min(1e-6)
    return distance
