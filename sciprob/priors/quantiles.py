r"""Maps from standard normal variables to other distributions, accurate in both tails.

m = F^{-1}(Phi(xi)) loses the upper tail when it goes through Phi(xi) = 1 - 1e-16, so each
distribution is written with P = Phi(xi) below the median and Q = Phi(-xi) above it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

Quantile = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class WhiteningFunction:
    """The map xi -> m, `(*batch, *shape)` -> `(*batch, *event)`, and the white shape."""

    shape: tuple[int, ...]
    map: Callable[[Tensor], Tensor]


def whitening_function(distribution: td.Distribution) -> WhiteningFunction | None:
    """The white form of a distribution, or None where none is known.

    Known are those in `QUANTILES`, multivariate normals, `Independent` and invertible
    `TransformedDistribution`s of them, and whatever else implements `icdf` (there to
    about 1e-16 in probability, so to xi = 6 or so in the upper tail).
    """
    shape = tuple(distribution.batch_shape + distribution.event_shape)
    for kind, quantile in QUANTILES.items():
        if isinstance(distribution, kind):
            return WhiteningFunction(shape, partial(quantile, distribution))
    if isinstance(distribution, td.MultivariateNormal | td.LowRankMultivariateNormal):
        tril = distribution.scale_tril
        return WhiteningFunction(shape, lambda xi: distribution.loc + (tril.to(xi) @ xi.unsqueeze(-1)).squeeze(-1))
    if isinstance(distribution, td.Independent):
        return whitening_function(distribution.base_dist)
    if isinstance(distribution, td.TransformedDistribution):
        return _transformed(distribution)
    return _by_icdf(distribution, shape)


def _transformed(distribution: td.TransformedDistribution) -> WhiteningFunction | None:
    base = whitening_function(distribution.base_dist)
    if base is None or not all(transform.bijective for transform in distribution.transforms):
        return None

    def push(xi: Tensor) -> Tensor:
        m = base.map(xi)
        for transform in distribution.transforms:
            m = transform(m)
        return m

    return WhiteningFunction(base.shape, push)


def _by_icdf(distribution: td.Distribution, shape: tuple[int, ...]) -> WhiteningFunction | None:
    try:
        distribution.icdf(torch.full(shape, 0.5, dtype=torch.float64))
    except NotImplementedError:
        return None

    def push(xi: Tensor) -> Tensor:
        p = _p(xi).clamp(torch.finfo(xi.dtype).tiny, 1 - torch.finfo(xi.dtype).eps / 2)
        return distribution.icdf(p)

    return WhiteningFunction(shape, push)


def _p(xi: Tensor) -> Tensor:
    """Phi(xi), to relative accuracy for negative xi."""
    return torch.erfc(-xi / math.sqrt(2)) / 2


def _tails(xi: Tensor, low: Callable[[Tensor], Tensor], high: Callable[[Tensor], Tensor]) -> Tensor:
    """`low(Phi(xi))` below the median and `high(Phi(-xi))` above it."""
    # clamped, not |xi|, whose derivative at 0 is 0
    return torch.where(xi < 0, low(_p(xi.clamp(max=0))), high(_p(-xi.clamp(min=0))))


def _uniform(d: td.Uniform, xi: Tensor) -> Tensor:
    width = d.high - d.low
    return _tails(xi, lambda p: d.low + width * p, lambda q: d.high - width * q)


def _laplace(d: td.Laplace, xi: Tensor) -> Tensor:
    return _tails(xi, lambda p: d.loc + d.scale * (2 * p).log(), lambda q: d.loc - d.scale * (2 * q).log())


def _cauchy(d: td.Cauchy, xi: Tensor) -> Tensor:
    def tangent(tail: Tensor) -> Tensor:
        return d.scale / torch.tan(math.pi * tail)

    return _tails(xi, lambda p: d.loc - tangent(p), lambda q: d.loc + tangent(q))


def _half_normal(d: td.HalfNormal, xi: Tensor) -> Tensor:
    return _tails(
        xi,
        lambda p: d.scale * math.sqrt(2) * torch.erfinv(p),
        lambda q: -d.scale * torch.special.ndtri(q / 2),
    )


def _half_cauchy(d: td.HalfCauchy, xi: Tensor) -> Tensor:
    return _tails(xi, lambda p: d.scale * torch.tan(math.pi / 2 * p), lambda q: d.scale / torch.tan(math.pi / 2 * q))


QUANTILES: dict[type[td.Distribution], Quantile] = {
    td.Normal: lambda d, xi: d.loc + d.scale * xi,
    td.LogNormal: lambda d, xi: (d.loc + d.scale * xi).exp(),
    td.HalfNormal: _half_normal,
    td.HalfCauchy: _half_cauchy,
    td.Uniform: _uniform,
    td.Exponential: lambda d, xi: -torch.special.log_ndtr(-xi) / d.rate,
    td.Laplace: _laplace,
    td.Cauchy: _cauchy,
    td.Gumbel: lambda d, xi: d.loc - d.scale * (-torch.special.log_ndtr(xi)).log(),
}
