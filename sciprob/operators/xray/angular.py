"""Quadrature over the angles of a scan, complete or not."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

_WEDGE = 3.0  # a gap this many times longer than every other gap is a missing range of angles


class Arc(NamedTuple):
    """The range of angles that a scan covers.

    Attributes:
        start: First angle, in [0, period).
        span: Length, the period itself for a complete scan.
    """

    start: float
    span: float


def angular_cells(angles: Tensor, period: float) -> tuple[Tensor, Arc]:
    """Length of each angle's cell on a circle of circumference `period`, and the arc they cover.

    A cell reaches halfway to both neighbours. Angles that coincide modulo the period share one
    cell. A single gap more than three times longer than every other gap is a missing range: it is
    not bridged, and the cells beside it reach as far outwards as they reach inwards.

    Args:
        angles: `(n,)`, radians, any order.
        period: pi for parallel beams, where opposite views see the same lines; 2 pi for fans.

    Returns:
        Cells `(n,)` in the order of the angles, and the arc from the first angle to the last.
    """
    place = angles.remainder(period)
    # 1e-9: angles computed in two ways, such as 0 and 2 pi, are the same angle.
    place = torch.where(period - place < 1e-9 * period, 0.0, place)
    order = place.argsort()
    ordered = place[order]
    new = torch.ones(len(place), dtype=torch.bool)
    new[1:] = ordered.diff() > 1e-9 * period
    group = torch.empty(len(place), dtype=torch.long)
    group[order] = new.cumsum(0) - 1
    distinct = ordered[new]
    cells, arc = _distinct_cells(distinct, period)
    count = torch.bincount(group, minlength=len(distinct))
    return (cells / count)[group], arc


def _distinct_cells(angles: Tensor, period: float) -> tuple[Tensor, Arc]:
    """`angular_cells` of different angles in ascending order."""
    if len(angles) == 1:
        return torch.full_like(angles, period), Arc(float(angles[0]), period)
    after = torch.cat([angles[1:], angles[:1] + period]) - angles
    before = after.roll(1)
    last = int(after.argmax())
    longest, others = float(after[last]), torch.cat([after[:last], after[last + 1 :]])
    if longest <= _WEDGE * float(others.max()):
        return (before + after) / 2, Arc(float(angles[0]), period)
    first = (last + 1) % len(angles)
    after[last], before[first] = before[last], after[first]
    if len(angles) == 2:  # both neighbours are the same single gap
        after[last] = before[first] = others[0]
    return (before + after) / 2, Arc(float(angles[first]), period - longest)


def short_scan_weights(angles: Tensor, fan_angle: Tensor, arc: Arc) -> Tensor:
    """Share of each ray of a fan beam in the line that it measures, `(n_angles, n_bins)`.

    The ray of view t and fan angle g is measured again, backwards, at view t + pi - 2 g and fan
    angle -g. Shares of the two add up to one and fade to zero towards the ends of the arc
    (Parker's sin^2 weights, with half the surplus over half a turn in place of half the fan), so
    that no jump meets the ramp filter. Rays measured once have the share one; in a full turn
    every share is one half.

    Args:
        angles: Views `(n_angles,)`, radians.
        fan_angle: `(n_bins,)`, positive towards the detector direction.
        arc: What the views cover.
    """
    if arc.span >= 2 * math.pi:
        return torch.full((len(angles), len(fan_angle)), 0.5, dtype=torch.float64)
    from_start = (angles - arc.start + 1e-9).remainder(2 * math.pi).sub(1e-9)[:, None].clamp(0, arc.span)
    from_end = arc.span - from_start
    surplus = (arc.span - math.pi) / 2
    fade_in, fade_out = 2 * (surplus + fan_angle), 2 * (surplus - fan_angle)
    return _fade(from_start, fade_in) * _fade(from_end, fade_out)


def _fade(distance: Tensor, length: Tensor) -> Tensor:
    """Rise from 0 to 1 over `length`; 1 everywhere where the length is not positive."""
    ramp = (distance / length.clamp_min(1e-12)).clamp(0, 1)
    return torch.where(length > 0, (ramp * (math.pi / 2)).sin() ** 2, 1.0)
