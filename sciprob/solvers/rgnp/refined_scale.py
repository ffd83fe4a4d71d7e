"""The law of a refined solution's standard deviation, fitted to few reference solutions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.solvers.rgnp.calibration import factor_of

_FEWEST = 8  # reference solutions from which shares and exponents are fitted
_SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SHAPES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class RefinedScale:
    r"""Variance by field, from what is known without a reference.

        sd(x)^2 = kappa^2 X^2 ( g^2 e(x)^2 / |e|^2 + (1 - g^2) (s(x) / S)^(2 p) / |(s / S)^p|^2 )

    e(x) is what further directions would add to the solution, X its extrapolated size, s the Laplace standard
    deviation; |.| is the root mean square over the domain, S = |s|. The first part is one factor, an error of the shape
    e with an unknown amplitude; the second has the correlations of Laplace. All have one entry per field, or one
    for all.

    Args:
        factors: kappa.
        shares: g, in [0, 1].
        shapes: p, in [0, 1.5].
    """

    factors: tuple[float, ...] = (1.0,)
    shares: tuple[float, ...] = (0.5,)
    shapes: tuple[float, ...] = (1.0,)

    def parts(self, std: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
        """What s is multiplied by, `(*batch, n, fields)`, and what e is, `(*batch, fields)`."""
        factors, g, p = (std.new_tensor(part) for part in (self.factors, self.shares, self.shapes))
        typical = sizes.std.square().mean(-2).sqrt()
        size = factors * sizes.expected
        norm = ((sizes.std / typical.unsqueeze(-2)) ** p).square().mean(-2).sqrt()
        level = (size * (1 - g.square()).sqrt() / (typical * norm)).unsqueeze(-2)
        ratio = torch.where(std > 0, level * (std / typical.unsqueeze(-2)) ** (p - 1), 0.0)
        beyond = sizes.beyond.square().mean(-2).sqrt()
        return ratio, size * g / beyond.clamp_min(torch.finfo(std.dtype).tiny)

    def deviation(self, std: Tensor, beyond: Tensor, sizes: Sizes) -> Tensor:
        """Sd `(*batch, n, fields)`, of s and e at points."""
        ratio, amplitude = self.parts(std, sizes)
        return torch.hypot(ratio * std, amplitude.unsqueeze(-2) * beyond)

    @classmethod
    def fit(cls, errors: Tensor, std: Tensor, beyond: Tensor, sizes: Sizes) -> RefinedScale:
        """From errors against reference solutions, field by field: g and p by likelihood, kappa as in `ErrorScale`.

        With fewer than 8 members kappa alone is fitted.

        Args:
            errors: Reference minus solution `(members, n, fields)`.
            std: s, the same shape.
            beyond: e, the same shape.
            sizes: Of the members.

        Raises:
            DataError: If a field is prescribed at all points, or an error is not finite.
        """
        if not bool(torch.isfinite(errors).all()):
            message = "reference solutions should be finite, got NaN or infinity; check the reference solver."
            raise DataError(message)
        parts = []
        for f in range(errors.shape[-1]):
            e, s, more = (part[..., f : f + 1] for part in (errors, std, beyond))
            parts.append(_fit_field(e, s, more, sizes.field(f)))
        factors, shares, shapes = zip(*parts, strict=True)
        return cls(factors, shares, shapes)


@dataclass(frozen=True)
class Sizes:
    """Of members: X `(*batch, fields)`, and s and e at points that stand for the domain, `(*batch, m, fields)`."""

    expected: Tensor
    std: Tensor
    beyond: Tensor

    def field(self, f: int) -> Sizes:
        """Those of one field."""
        return Sizes(*(part[..., f : f + 1] for part in (self.expected, self.std, self.beyond)))

    @classmethod
    def stack(cls, members: list[Sizes]) -> Sizes:
        """Of several members, along a new first axis."""
        return cls(*(torch.stack([getattr(m, name) for m in members]) for name in ("expected", "std", "beyond")))


def _fit_field(errors: Tensor, std: Tensor, beyond: Tensor, sizes: Sizes) -> tuple[float, float, float]:
    free = std > 0
    if not bool(free.any()):
        message = "calibration needs reference values at points where the field is not prescribed; got none."
        raise DataError(message)

    def scores(g: float, p: float) -> tuple[Tensor, Tensor]:
        sd = RefinedScale(shares=(g,), shapes=(p,)).deviation(std, beyond, sizes)[free]
        return (errors[free] / sd).abs(), sd

    def loss(chosen: tuple[float, float]) -> float:
        found, sd = scores(*chosen)
        return float(found.square().mean().log() / 2 + sd.log().mean())

    plain = RefinedScale()
    best = plain.shares[0], plain.shapes[0]
    if len(errors) >= _FEWEST:
        best = min(itertools.product(_SHARES, _SHAPES), key=loss)
    return factor_of(scores(*best)[0]), *best
