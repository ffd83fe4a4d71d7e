"""The inverse map: a Gaussian over the parameters of an equation, read from a field at any points."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.gicnet import GICNet, GICShape
from sciprob.solvers.rgnp.low_rank import LowRankGaussian

_MANY = math.log(1000.0)  # scale of log m as an input


class InverseMap(nn.Module):
    r"""p(z | values at points, w) = N(mu, diag(s^2) + C C^T), z in the unit scale of its box.

    s^2 = floor + (1 - floor) sigmoid(raw). Besides w the number of points is an input, since the
    interpolation does not tell it. The Gaussian knows nothing of the box, and of several modes one
    or none: it is a proposal, to be weighted by a likelihood (`infer`).

    Args:
        family: Equation, domain, parameters.
        values: Numbers per point.
        rank: Columns of C.
        floor: Smallest s^2, in (0, 1).
        shape: Of the network.
        generator: Randomness of the initial weights.
        extra: More numbers per set, beside w and the number of points.

    Raises:
        ConfigError: If rank or floor is out of range, or the family has no unknown.
    """

    def __init__(
        self,
        family: ProblemFamily,
        values: int,
        rank: int,
        floor: float,
        shape: GICShape,
        generator: torch.Generator,
        extra: int = 0,
    ) -> None:
        super().__init__()
        if rank < 0 or not 0 < floor < 1 or not family.unknown.size:
            message = (
                f"an inverse map needs rank >= 0, a variance floor in (0, 1) and an unknown, got {rank}, {floor} "
                f"and {family.unknown.names}."
            )
            raise ConfigError(message)
        self.family, self.rank, self.floor = family, rank, floor
        outputs = family.unknown.size * (2 + rank)
        self.network = GICNet(family.domain.dim, values, family.known.size + 1 + extra, outputs, shape, generator)

    def forward(
        self,
        points: Tensor,
        values: Tensor,
        w: Tensor,
        log_weights: Tensor | None = None,
        extra: Tensor | None = None,
    ) -> LowRankGaussian:
        """Law of the unit-scale z, `(*batch, dz)`.

        Args:
            points: `(*batch, m, d)`, m > 0.
            values: `(*batch, m, values)`.
            w: `(*batch, dw)`.
            log_weights: `(*batch, m)`, 0, or -inf for points that are padding.
            extra: `(*batch, extra)`.
        """
        if log_weights is None:
            count = points.new_full(points.shape[:-2], math.log(points.shape[-2]))
        else:
            count = log_weights.logsumexp(-1)
        parts = [self.family.known.unit(w), (count / _MANY).unsqueeze(-1)]
        side = torch.cat(parts if extra is None else [*parts, extra], dim=-1)
        out = self.network(self.family.domain.unit(points), values, side, log_weights)
        size = self.family.unknown.size
        std = (self.floor + (1 - self.floor) * torch.sigmoid(out[..., size : 2 * size])).sqrt()
        return LowRankGaussian(out[..., :size], std, out[..., 2 * size :].unflatten(-1, (size, self.rank)))
