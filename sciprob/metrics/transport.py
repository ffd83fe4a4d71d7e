"""Distances between weighted samples."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.random import randn


def sliced_wasserstein(
    x: Tensor,
    y: Tensor,
    weights_x: Tensor | None = None,
    weights_y: Tensor | None = None,
    *,
    order: float = 2.0,
    projections: int = 200,
    generator: torch.Generator,
) -> float:
    """Sliced Wasserstein distance of two weighted samples, (mean over directions of W_p^p)^(1/p).

    Each direction is uniform on the sphere; along it W_p^p is the integral over levels u of
    |F_x^{-1}(u) - F_y^{-1}(u)|^p, exact for weighted samples.

    Args:
        x: `(n, *event)`.
        y: `(k, *event)`.
        weights_x: `(n,)`, not negative, scaled to sum to one; default equal.
        weights_y: `(k,)`, likewise.
        order: p >= 1.
        projections: Number of directions.
        generator: Randomness of the directions.

    Raises:
        ShapeError: If events or weights do not fit.
        ConfigError: If order or projections is below 1, or weights are unusable.

    Source: Bonneel, Rabin, Peyre, Pfister, J. Math. Imaging Vision 51 (2015).
    """
    if order < 1 or projections < 1:
        message = f"`order` and `projections` should be at least 1, got {order} and {projections}."
        raise ConfigError(message)
    if x.shape[1:] != y.shape[1:] or not len(x) or not len(y):
        message = f"samples should be (n, *event) and (k, *event), got {tuple(x.shape)} and {tuple(y.shape)}."
        raise ShapeError(message)
    x, y = x.double().flatten(1), y.double().flatten(1)
    directions = randn((x.shape[1], projections), x, generator)
    directions = directions / directions.norm(dim=0)
    wx, wy = _normalised(weights_x, x), _normalised(weights_y, y)
    along = zip((x @ directions).T, (y @ directions).T, strict=True)
    power = torch.stack([_transport(a, b, wx, wy, order) for a, b in along])
    distance: float = float(power.mean()) ** (1 / order)
    return distance


def _transport(x: Tensor, y: Tensor, wx: Tensor, wy: Tensor, order: float) -> Tensor:
    """W_p^p of weighted points on a line."""
    (x, by_x), (y, by_y) = x.sort(), y.sort()
    up_to_x, up_to_y = wx[by_x].cumsum(0), wy[by_y].cumsum(0)
    levels = torch.cat([up_to_x, up_to_y]).sort().values
    width = levels.diff(prepend=levels.new_zeros(1))
    middle = levels - width / 2
    i = torch.searchsorted(up_to_x, middle).clamp_max(len(x) - 1)
    j = torch.searchsorted(up_to_y, middle).clamp_max(len(y) - 1)
    return (width * (x[i] - y[j]).abs() ** order).sum()


def _normalised(weights: Tensor | None, points: Tensor) -> Tensor:
    if weights is None:
        return points.new_full((len(points),), 1 / len(points))
    if tuple(weights.shape) != (len(points),):
        message = f"weights should be ({len(points)},), one per point, got {tuple(weights.shape)}."
        raise ShapeError(message)
    w = weights.to(points)
    if not bool(torch.isfinite(w).all()) or bool((w < 0).any()) or not float(w.sum()) > 0:
        message = "weights should be finite, not negative and not all zero."
        raise ConfigError(message)
    return w / w.sum()
