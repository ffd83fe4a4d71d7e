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

_ANCHORED_RANK = 32
_LOOK = 256  # points that say which factors count
_NEGLIGIBLE = 1e-2  # squared singular value of the factors in units of the noise


@dataclass(frozen=True)
class SurrogateLaw:
    """Mean and covariance of chosen fields at points, for parameters `z (b, dz)`: b laws over n numbers.

    Args:
        amortised: The trained map.
        points: `(m, d)`.
        w: `(dw,)`.
        columns: Indices of the fields.
        directions: Of the weights, `(P, k)`, along which there are factors; those of the trained map by default.
        ratios: Calibrated over Laplace's standard deviations `(m, columns)`, if they are held fixed with `directions`.
        factors: `(n, k)` factors of the covariance that hold for all z; without them it changes with z.
    """

    amortised: Amortised
    points: Tensor
    w: Tensor
    columns: tuple[int, ...]
    directions: Tensor | None = None
    ratios: Tensor | None = None
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
        return LowRankGaussian(mean, torch.zeros_like(mean), self._factors(z).flatten(-3, -2))

    def anchored(self, z: Tensor) -> SurrogateLaw:
        """The law with the covariance of `z (dz,)` for all parameters, up to its 32 largest directions."""
        factors = self._factors(z.unsqueeze(0))[0].flatten(0, 1)
        u, s, _ = torch.linalg.svd(factors, full_matrices=False)
        return replace(self, factors=(u * s)[:, :_ANCHORED_RANK])

    def narrowed(self, z: Tensor, noise: Tensor, generator: torch.Generator) -> SurrogateLaw:
        """The law with only those directions of the weights that count beside the noise `(n,)`, near z `(b, dz)`.

        With many points, some of them stand for all. Laplace's covariance follows z. Its calibration is that at the
        first z: the region of a posterior is small, and residuals for every member would cost more than all else.
        """
        m, columns = len(self.points), len(self.columns)
        fixed = replace(self, directions=self.amortised.directions.leading, ratios=self._ratios(z[:1]))
        assert fixed.ratios is not None
        assert fixed.directions is not None
        chosen = torch.randperm(m, generator=generator, device=generator.device)[:_LOOK].to(self.points.device)
        few = replace(fixed, points=self.points[chosen], ratios=fixed.ratios[chosen])
        scaled = few._factors(z) / noise.reshape(m, columns)[chosen].unsqueeze(-1)
        gram = torch.einsum("bmck,bmcl->kl", scaled, scaled) / len(z) * (m / len(chosen))
        values, axes = torch.linalg.eigh(gram)
        return replace(fixed, directions=fixed.directions @ axes[:, values > _NEGLIGIBLE])

    def _ratios(self, z: Tensor) -> Tensor:
        """Of one z `(1, dz)`."""
        plain = self.amortised.laplace_factors(z, self.w, self.points, self.amortised.directions.leading)
        std = torch.linalg.vector_norm(plain, dim=-1)
        expected, domain = self.amortised.expected_errors(z, self.w)
        return self.amortised.scale.ratio(std, domain, expected)[0][:, list(self.columns)]

    def _factors(self, z: Tensor) -> Tensor:
        """`(b, m, columns, k)`."""
        if self.ratios is None or self.directions is None:
            return self.amortised.factors(z, self.w, self.points)[..., list(self.columns), :]
        plain = self.amortised.laplace_factors(z, self.w, self.points, self.directions)
        return plain[..., list(self.columns), :] * self.ratios.unsqueeze(-1)


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

    Raises:
        ConfigError: If the family has no unknown.
    """
    box = law.amortised.family.unknown
    if not box.size:
        message = f"family `{law.amortised.family.name}` has no unknown parameters; there is nothing to infer."
        raise ConfigError(message)
    return infer_parameters(box, law, y, noise, generator=generator, samples=samples, guess=guess)
