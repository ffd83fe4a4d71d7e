"""Shapes of holes by level functions: negative inside, about the distance to the edge near it.

All functions take coordinates `a, b (S, h, w)` in units of the shapes' bounding radius and the wanted aspect
`(S,)`, which some have no use for, and return `(S, h, w)`; each of the S shapes has its own random parameters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def uniform(count: int, lower: float, upper: float, generator: torch.Generator) -> Tensor:
    """`(count,)` numbers, uniform between the bounds, float32."""
    return lower + (upper - lower) * torch.rand(count, generator=generator, device=generator.device)


def superellipses(a: Tensor, b: Tensor, aspect: Tensor, generator: torch.Generator) -> Tensor:
    """Circles, ellipses and rounded rectangles: |a|^p + |b / aspect|^p < r^p."""
    count = len(a)
    round_ones = torch.rand(count, generator=generator, device=a.device) < 0.6
    power = torch.where(round_ones, 2.0, uniform(count, 2.5, 8.0, generator))[:, None, None]
    aspect = aspect[:, None, None]
    corner = (1 + aspect.square()).sqrt() ** (1 - 2 / power)  # corners of rectangles reach farther than their sides
    return (a.abs() ** power + (b / aspect).abs() ** power).clamp_min(1e-12) ** (1 / power) - 1 / corner


def polygons(a: Tensor, b: Tensor, aspect: Tensor, generator: torch.Generator) -> Tensor:
    """Convex polygons of 3 to 8 sides with rounded corners, sheared and stretched."""
    count, sides = len(a), 8
    used = torch.randint(3, sides + 1, (count, 1), generator=generator, device=a.device)
    index = torch.arange(sides, device=a.device)
    jitter = uniform(count, 0.0, 0.3, generator)[:, None] * _signed((count, sides), generator)
    angle = 2 * math.pi * (index + jitter) / used
    offset = torch.cos(math.pi / used) * (1 - 0.35 * torch.rand(count, sides, generator=generator, device=a.device))
    sharpness = uniform(count, 12.0, 60.0, generator)[:, None, None]
    shear = (0.6 * _signed((count,), generator) * (torch.rand(count, generator=generator, device=a.device) < 0.5))[
        :, None, None
    ]
    b = b / aspect.clamp_min(0.4)[:, None, None]
    a = a + shear * b
    circle = (a.square() + b.square()).sqrt() - 1  # keeps corners inside
    total = (sharpness * circle.clamp_max(1)).exp()  # exp(60) is far from an overflow
    for side in range(sides):
        distance = (
            angle[:, side, None, None].cos() * a + angle[:, side, None, None].sin() * b - offset[:, side, None, None]
        )
        inside = (side < used)[:, :, None]
        total = total + torch.where(inside, (sharpness * distance.clamp_max(1)).exp(), 0.0)
    return total.log() / sharpness


def stars(a: Tensor, b: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
    """Concave shapes r < r_0 (1 + sum_k a_k cos(k theta + phi_k)): irregular, or with 3 to 6 equal lobes."""
    count = len(a)
    radius = (a.square() + b.square()).sqrt().clamp_min(1e-6)
    cosine, sine = a / radius, b / radius
    regular = torch.rand(count, generator=generator, device=a.device) < 0.35
    lobes = torch.randint(3, 7, (count,), generator=generator, device=a.device)
    lobe_size = uniform(count, 0.15, 0.4, generator)
    edge = torch.ones_like(a)
    real, imaginary = cosine, sine
    for k in range(2, 7):
        real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
        free = 0.45 / k * torch.randn(count, generator=generator, device=a.device)
        size = torch.where(regular, torch.where(lobes == k, lobe_size, 0.0), free)
        phase = uniform(count, 0.0, 2 * math.pi, generator)
        edge = edge + (size * phase.cos())[:, None, None] * real - (size * phase.sin())[:, None, None] * imaginary
    return radius - (0.72 * edge).clamp(0.15, 1.0)


def arcs(a: Tensor, b: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
    """Bent slots with round ends, from short ones to nearly closed rings."""
    count = len(a)
    half = uniform(count, 0.1, 0.28, generator)[:, None, None]
    bend = (1 - half) * uniform(count, 0.75, 1.0, generator)[:, None, None]
    opening = uniform(count, 0.5, 2.75, generator)[:, None, None]
    a, b = b.abs(), a
    radius = (a.square() + b.square()).sqrt()
    beyond = opening.cos() * a > opening.sin() * b
    to_end = ((a - bend * opening.sin()).square() + (b - bend * opening.cos()).square()).sqrt()
    return torch.where(beyond, to_end, (radius - bend).abs()) - half


def slots(a: Tensor, b: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
    """Straight slots, bent chains of up to four of them, and stars of two to four around a hub."""
    count, pieces = len(a), 4
    half = uniform(count, 0.08, 0.26, generator)
    used = torch.randint(1, pieces + 1, (count,), generator=generator, device=a.device)
    hub = torch.rand(count, generator=generator, device=a.device) < 0.4
    first = uniform(count, 0.0, 2 * math.pi, generator)
    reach = 1 - half
    best = torch.full_like(a, 10.0)
    x0, y0 = reach * first.cos(), reach * first.sin()
    for piece in range(pieces):
        turn = first + 2 * math.pi * (piece + 1 + 0.3 * _signed((count,), generator)) / (used + 1)
        length = reach * uniform(count, 0.5, 1.0, generator)
        length = torch.where(used == 1, reach, length)
        x1, y1 = length * turn.cos(), length * turn.sin()
        start_x, start_y = torch.where(hub, 0.0, x0), torch.where(hub, 0.0, y0)
        distance = _to_segment(a, b, (start_x, start_y), (x1, y1))
        best = torch.where((piece < used)[:, None, None], torch.minimum(best, distance), best)
        x0, y0 = x1, y1
    return best - half[:, None, None]


def _to_segment(a: Tensor, b: Tensor, start: tuple[Tensor, Tensor], end: tuple[Tensor, Tensor]) -> Tensor:
    (x0, y0), (x1, y1) = ((x[:, None, None], y[:, None, None]) for x, y in (start, end))
    dx, dy = x1 - x0, y1 - y0
    along = (((a - x0) * dx + (b - y0) * dy) / (dx.square() + dy.square()).clamp_min(1e-9)).clamp(0, 1)
    return ((a - x0 - along * dx).square() + (b - y0 - along * dy).square()).sqrt()


def _signed(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform in (-1, 1)."""
    return 2 * torch.rand(shape, generator=generator, device=generator.device) - 1


def coverage(level: Tensor, *, distance: bool = False) -> Tensor:
    """Fraction of every pixel that lies where `level (..., h, w)` is negative, to second order in the pixel.

    Args:
        level: Level function, in pixels if `distance`; otherwise in any unit, and its slope is measured.
        distance: Whether it is the distance to the edge.
    """
    if not distance:
        slope_y, slope_x = torch.gradient(level, dim=(-2, -1))
        level = level / (slope_y.square() + slope_x.square()).sqrt().clamp_min(1e-6)
    return (0.5 - level).clamp(0, 1)


SHAPES = (superellipses, polygons, stars, arcs, slots)
