r"""The posterior of the reference process given Gaussian sites: a backward information filter in white coordinates.

With the likelihood of all later sites exp(eta^T z - z^T Lambda z / 2), the white noise e of a step from zbar has the
posterior N(A^{-1} L^T (eta - Lambda zbar), A^{-1}), A = I + L^T Lambda L >= I: nothing singular is inverted. In
continuous time this is the control u = G^T (eta - Lambda z) of the common noise (Doob's transform), with the feedback
inside the step included, so that an affine equation is matched exactly for any step.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.solvers.fbm_vi.reference import Reference
from sciprob.solvers.fbm_vi.sites import Sites


@dataclass(frozen=True)
class Guide:
    """Laws of the white noises: e_n given zbar has mean `offset` - `feedback` zbar and precision R R^T.

    Attributes:
        offset: `(N, D, r)`.
        feedback: `(N, D, r, s)`.
        spread: R^{-1}, `(N, D, r, r)`.
        start: Mean of the white initial state `(D, r0)`.
        start_spread: R^{-1} of it, `(D, r0, r0)`.
        log_det: Sum of all log det R, a number.
    """

    offset: Tensor
    feedback: Tensor
    spread: Tensor
    start: Tensor
    start_spread: Tensor
    log_det: Tensor


def make_guide(reference: Reference, sites: Sites) -> Guide:
    """Condition the reference on sites; differentiable in the sites and in the reference.

    Args:
        reference: The process.
        sites: On its nodes; without sites the guide is the prior.
    """
    count, dimension, size, _ = reference.root.shape
    gather = _at_nodes(sites, count + 1, dimension)
    eta, information = reference.root.new_zeros(dimension, size), reference.root.new_zeros(dimension, size, size)
    offsets, feedbacks, spreads, log_det = [], [], [], reference.root.new_zeros(())
    for n in range(count - 1, -1, -1):
        eta, information = _add(eta, information, gather, n + 1)
        part = _condition(eta, information, reference.root[n])
        offsets.append(part.mean)
        feedbacks.append(part.gain)
        spreads.append(part.spread)
        log_det = log_det + part.log_det
        eta, information = part.eta, part.information
        eta = eta - information[..., 0] * (reference.pull[n] * reference.intercept[n])[:, None]
        matrix = reference.matrix[n]
        eta = (matrix.mT @ eta[..., None]).squeeze(-1)
        information = matrix.mT @ information @ matrix
    eta, information = _add(eta, information, gather, 0)
    first = _condition(eta, information, reference.initial_root)
    start = first.mean - (first.gain @ reference.initial_mean[..., None]).squeeze(-1)
    return Guide(
        offset=_stack(offsets, reference.root[..., 0, :]),
        feedback=_stack(feedbacks, reference.root.mT),
        spread=_stack(spreads, reference.root.mT @ reference.root),
        start=start,
        start_spread=first.spread,
        log_det=log_det + first.log_det,
    )


@dataclass(frozen=True)
class _Conditioned:
    """Law of white noise, and what is left for the state before it."""

    mean: Tensor
    gain: Tensor
    spread: Tensor
    log_det: Tensor
    eta: Tensor
    information: Tensor


def _condition(eta: Tensor, information: Tensor, root: Tensor) -> _Conditioned:
    by_root = root.mT @ information  # L^T Lambda
    eye = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
    factor = torch.linalg.cholesky(eye + by_root @ root)
    spread = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    half_gain, half_mean = spread @ by_root, spread @ (root.mT @ eta[..., None])
    return _Conditioned(
        mean=(spread.mT @ half_mean).squeeze(-1),
        gain=spread.mT @ half_gain,
        spread=spread,
        log_det=factor.diagonal(dim1=-2, dim2=-1).log().sum(),
        eta=eta - (half_gain.mT @ half_mean).squeeze(-1),
        information=information - half_gain.mT @ half_gain,
    )


def _at_nodes(sites: Sites, nodes: int, dimension: int) -> tuple[Tensor, Tensor, frozenset[int]]:
    """Precision and precision times value at every node, `(N + 1, D)`, and the nodes that have any."""
    empty = sites.values.new_zeros(nodes, dimension)
    precision = empty.index_add(0, sites.index, sites.precision)
    weighted = empty.index_add(0, sites.index, sites.precision * sites.values)
    return precision, weighted, frozenset(sites.index.tolist())


def _add(
    eta: Tensor, information: Tensor, at_nodes: tuple[Tensor, Tensor, frozenset[int]], node: int
) -> tuple[Tensor, Tensor]:
    precision, weighted, seen = at_nodes
    if node not in seen:
        return eta, information
    size = eta.shape[-1]
    eta = eta + torch.nn.functional.pad(weighted[node][:, None], (0, size - 1))
    corner = torch.nn.functional.pad(precision[node][:, None, None], (0, size - 1, 0, size - 1))
    return eta, information + corner


def _stack(parts: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(parts[::-1]) if parts else torch.zeros_like(like)
