"""The forward map of the published method: a Gaussian process over solution fields with learnt moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError
from sciprob.pde.coordinates import point_jets
from sciprob.pde.jet import Jet
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.low_rank import LowRankGaussian
from sciprob.solvers.rgnp.network import NetworkShape, PointNetwork
from sciprob.solvers.rgnp.residuals import unit_parameters


@dataclass(frozen=True)
class Heads:
    """Moments of the network-space field n at points.

    Args:
        mean: m `(*batch, n, fields)`, a tensor or a jet.
        std: s, the same.
        factors: c `(*batch, n, fields k)`, those of a field side by side.
    """

    mean: Tensor | Jet
    std: Tensor | Jet
    factors: Tensor | Jet

    @property
    def law(self) -> LowRankGaussian:
        """Law of n at all points, point by point and then field by field, `(*batch, n fields)`."""
        mean, std, factors = (_value(part) for part in (self.mean, self.std, self.factors))
        rank = factors.shape[-1] // mean.shape[-1]
        return LowRankGaussian(
            mean.flatten(-2), std.flatten(-2), factors.reshape(*factors.shape[:-2], mean.shape[-2:].numel(), rank)
        )

    def draw(self, names: Sequence[str], noise: Tensor, latents: Tensor) -> dict[str, Jet]:
        """Jets of the fields m + s e + c l, with e and l held constant.

        White noise has no derivative: e counts as a random factor of s, the same in a neighbourhood of
        its point. The latents are shared by all points, so their part is one differentiable function.

        Args:
            names: Names of the fields.
            noise: e `(*batch, n, fields)`.
            latents: l `(*batch, k)`.
        """
        rank, fields = latents.shape[-1], {}
        for i, name in enumerate(names):
            part = _column(self.mean, i) + _column(self.std, i) * noise[..., i]
            if rank:
                columns = cast(Jet, self.factors)[..., i * rank : (i + 1) * rank]
                part = part + torch.sum(columns * latents.unsqueeze(-2), dim=-1)  # type: ignore[call-overload]
            fields[name] = part
        return fields


class NeuralGP(nn.Module):
    r"""u | z, w ~ GP(B + D m, D K D'), K(x, x') = s(x)^2 1[x = x'] + c(x) c(x')^T.

    m, s and the k factors c come from one network of (x, z, w); k = 0 is the published "diag" variant.
    s^2 = floor + (1 - floor) sigmoid(raw), in (floor, 1). The factors are shared by all fields.

    With a fixed residual scale the trained s tells how far the residual's noise lets the field wander,
    not how wrong m is: it is no error bar before it has been calibrated against solutions.

    Args:
        family: Equation, domain, parameters, condition.
        rank: Number k of factors.
        floor: Smallest s^2, in (0, 1).
        shape: Of the network.
        generator: Randomness of the initial weights.

    Raises:
        ConfigError: If rank or floor is out of range.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    def __init__(
        self, family: ProblemFamily, rank: int, floor: float, shape: NetworkShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        if rank < 0 or not 0 < floor < 1:
            message = f"a neural GP needs rank >= 0 and a variance floor in (0, 1), got {rank} and {floor}."
            raise ConfigError(message)
        self.family, self.rank, self.floor = family, rank, floor
        parameters = family.unknown.size + family.known.size
        outputs = family.n_fields * (2 + rank)
        self.network = PointNetwork(family.domain.lower, family.domain.upper, parameters, outputs, shape, generator)

    def forward(self, points: Tensor | Jet, z: Tensor, w: Tensor) -> Heads:
        """Moments of n at points `(*batch, n, d)`, or with derivatives at `jets(points)`, for z and w `(*batch, .)`."""
        fields = self.family.n_fields
        out = self.network(points, unit_parameters(self.family, z, w))
        std = torch.sqrt(torch.sigmoid(out[..., fields : 2 * fields]) * (1 - self.floor) + self.floor)
        return Heads(out[..., :fields], std, out[..., 2 * fields :])

    def jets(self, points: Tensor) -> Jet:
        """Points as an input that carries the derivatives which the equation needs."""
        pde = self.family.pde
        return point_jets(points, pde.coordinates, pde.derivatives)

    def field(self, points: Tensor, z: Tensor, w: Tensor) -> LowRankGaussian:
        """Law of the physical u = B + D n at points `(*batch, n, d)`, `(*batch, n fields)`."""
        lift, distance = self.family.lift_and_distance(points, z, w)
        heads: Heads = self(points, z, w)
        return heads.law.affine(lift.flatten(-2), distance.flatten(-2))


@dataclass(frozen=True)
class NeuralGPLaw:
    """The law of u at the points of data as a function of z, for `infer_parameters`.

    Args:
        forward: The neural GP.
        points: `(n, d)`.
        w: `(dw,)`.
    """

    forward: NeuralGP
    points: Tensor
    w: Tensor

    def mean(self, z: Tensor) -> Tensor:
        """Mean `(b, n fields)` for z `(b, dz)`."""
        return self(z).mean

    def __call__(self, z: Tensor) -> LowRankGaussian:
        """Mean and covariance of all fields at the points, point by point."""
        return self.forward.field(self.points.expand(*z.shape[:-1], -1, -1), z, self.w.expand(*z.shape[:-1], -1))


def _value(part: Tensor | Jet) -> Tensor:
    return part.value if isinstance(part, Jet) else part


def _column(part: Tensor | Jet, i: int) -> Jet:
    return cast(Jet, part[..., i])
