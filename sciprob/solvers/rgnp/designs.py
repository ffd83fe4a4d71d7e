"""Random designs of sensors: even, clustered, one-sided, few or many."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.problems.family import Domain

_SHARPEST = math.log(4.0)  # of the exponents that gather points at an end


def random_designs(domain: Domain, batch: int, m: int, generator: torch.Generator) -> Tensor:
    """Designs `(batch, m, d)` of m points, each of a kind of its own, so that what is trained on them suits any.

    In the unit cube that the domain reads, each axis of each design is, with equal chances: uniform; stratified;
    gathered at one end, q^a; gathered at both, sin^2(pi q / 2); or restricted to an interval.
    """
    shape = (batch, m, domain.unit_size)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)

    q = uniform(*shape)
    order = uniform(*shape).argsort(dim=1)
    power = torch.exp(_SHARPEST * (2 * uniform(batch, 1, shape[-1]) - 1))
    ends = uniform(batch, 2, shape[-1]).sort(dim=1).values
    low, high = ends[:, :1], ends[:, 1:]
    kinds = torch.stack(
        [q, (order + q) / m, q**power, torch.sin(0.5 * math.pi * q).square(), low + (high - low) * q], dim=-1
    )
    which = torch.randint(5, (batch, 1, shape[-1], 1), generator=generator, device=generator.device)
    return domain.from_unit(kinds.gather(-1, which.expand(*shape, 1))[..., 0])
