"""Laws of the amortised field at the points of data, as functions of the parameters that are sought."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.posteriors.ensemble import Ensemble
from sciprob.solvers.rgnp.infer import infer_parameters
from sciprob.solvers.rgnp.low_rank import LowRankGaussian
from sciprob.solvers.rgnp.residuals import mean_field

if TYPE_CHECKING:
    from sciprob.solvers.rgnp.amortised import Amortised

_ANCHORED_FROM = 200  # numbers of data from which the covariance is held fixed
_ANCHORED_RANK = 32
_LOOK = 200  # members of the first pass, that finds where the covariance is to be taken


@dataclass(frozen=True)
class SurrogateLaw:
    """Mean and covariance of chosen fields at points, for parameters `z (b, dz)`: b laws over n numbers.

    Args:
        amortised: The trained map.
        points: `(m, d)`.
        w: `(dw,)`.
        columns: Indices of the fields.
        factors: `(n, k)` factors of the covariance that hold for all z; without them it changes with z.
    """

    amortised: Amortised
    points: Tensor
    w: Tensor
    columns: tuple[int, ...]
    factors: Tensor | None = None

    def mean(self, z: Tensor) -> Tensor:
        """Mean `(b, n)`, by point and then by field; differentiable in z."""
        family, network = self.amortised.family, self.amortised.network
        w = self.w.expand(*z.shape[:-1], -1)
        u = mean_field(family, network, self.points, z, w)
        return u[..., list(self.columns)].flatten(-2)

    def __call__(self, z: Tensor) -> LowRankGaussian:
        """The laws; their own diagonal is zero."""
        mean = self.mean(z)
        if self.factors is not None:
            return LowRankGaussian(mean, torch.zeros_like(mean), self.factors.expand(len(z), -1, -1))
        factors = self.amortised.factors(z, self.w, self.points)[..., list(self.columns), :].flatten(-3, -2)
        if factors.shape[-2] < factors.shape[-1]:
            factors = torch.linalg.qr(factors.mT, mode="r").R.mT
        return LowRankGaussian(mean, torch.zeros_like(mean), factors)

    def anchored(self, z: Tensor) -> SurrogateLaw:
        """The law with the covariance of `z (dz,)` for all parameters, up to its 32 largest directions."""
        factors = replace(self, factors=None)(z.unsqueeze(0)).factors[0]
        u, s, _ = torch.linalg.svd(factors, full_matrices=False)
        return replace(self, factors=(u * s)[:, :_ANCHORED_RANK])


def infer_from_field(
    law: SurrogateLaw,
    y: Tensor,
    noise: Tensor,
    *,
    samples: int,
    generator: torch.Generator,
    guess: LowRankGaussian | None = None,
) -> Ensemble:
    """The posterior of z; see `Amortised.infer`.

    Up to 200 numbers of data the covariance follows z. With more it is taken at the mean of a first, short pass: so
    many data leave little doubt where z is, and over that region it hardly changes.

    Raises:
        ConfigError: If the family has no unknown.
    """
    box = law.amortised.family.unknown
    if not box.size:
        message = f"family `{law.amortised.family.name}` has no unknown parameters; there is nothing to infer."
        raise ConfigError(message)
    centre = box.from_unit(y.new_zeros(box.size))
    scout = law.anchored(centre)
    if y.numel() <= _ANCHORED_FROM:
        return infer_parameters(box, law, y, noise, generator=generator, samples=samples, guess=guess, scout=scout)
    look = infer_parameters(box, scout, y, noise, generator=generator, samples=_LOOK, guess=guess)
    fixed = law.anchored(look.mean)
    return infer_parameters(box, fixed, y, noise, generator=generator, samples=samples, guess=guess)
