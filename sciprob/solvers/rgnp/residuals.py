"""Residuals of a family at collocation samples, and the mean field of a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sciprob.pde.jet import Jet
from sciprob.pde.network_jets import network_jets
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.sampling import Collocation
from sciprob.spaces.shapes import broadcast_shapes

Network = Callable[[Tensor, Tensor], Tensor]


def weighted_residuals(family: ProblemFamily, network: Network, batch: Collocation) -> Tensor:
    """Residuals times the family's weights, `(n, equations)`, one row per sample."""
    found = residuals_at(family, network, batch.points.unsqueeze(-2), batch.z, batch.w)
    weights = family.residual_weights(batch.z, batch.w)
    return torch.cat([found[name] * weights[name] for name in family.equations], dim=-1)


def residuals_at(family: ProblemFamily, network: Network, points: Tensor, z: Tensor, w: Tensor) -> dict[str, Tensor]:
    """Residuals by equation `(*batch, n)` at points `(*batch, n, d)`, for z and w `(*batch, .)`."""
    parameters = unit_parameters(family, z, w)

    def at(x: Jet) -> Jet:
        jets: Jet = network(x, parameters)  # type: ignore[arg-type, assignment]
        return jets

    return family.residual(points, network_jets(at, points, family.pde.coordinates, family.pde.fields), z, w)


def mean_field(family: ProblemFamily, network: Network, points: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """The field u = B + D n at points `(*batch, n, d)`: `(*batch, n, fields)`."""
    lift, distance = family.lift_and_distance(points, z, w)
    return lift + distance * network(points, unit_parameters(family, z, w))


def in_precision(network: nn.Module, like: Tensor) -> Network:
    """The network with its weights in the dtype and on the device of `like`; the network stays as it is."""
    own = next(network.parameters())
    if own.dtype == like.dtype and own.device == like.device:
        return network
    tensors = {name: t.to(like) for name, t in (*network.named_parameters(), *network.named_buffers())}
    return lambda points, parameters: functional_call(network, tensors, (points, parameters))


def unit_parameters(family: ProblemFamily, z: Tensor, w: Tensor) -> Tensor:
    """What the network sees of z and w: `(*batch, 1, dz + dw)` in unit scale."""
    batch = broadcast_shapes(z.shape[:-1], w.shape[:-1])
    parts = (family.unknown.unit(z), family.known.unit(w))
    return torch.cat([part.expand(*batch, part.shape[-1]) for part in parts], dim=-1).unsqueeze(-2)
