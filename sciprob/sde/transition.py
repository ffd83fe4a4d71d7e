r"""Exact transitions of the augmented state of an affine equation with Markov noise.

State (x, s_1 y_1, .., s_K y_K) with s_k = sqrt(2 gamma_k), so that all y have stationary variance 1. Over a step h
the noise enters x through k_k(tau) = e^{-gamma_k tau} - theta d_k(tau), where
d_k(tau) = (e^{-theta tau} - e^{-gamma_k tau}) / (gamma_k - theta), and all covariances are Gram integrals of
exponentials on [0, h]. Where gamma_k is within 2 % of theta the quotient is written as the integral over u in
[0, 1] of tau e^{-(theta + u (gamma_k - theta)) tau}, by Gauss-Legendre; nothing cancels and nothing overflows
(a matrix exponential of the van Loan type would contain e^{+gamma h}).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.sde.special import exponential_moments, legendre
from sciprob.spaces.shapes import broadcast_shapes

_NEAR = 0.02
_NODES = 4


@dataclass(frozen=True)
class Transition:
    """z(t + h) = matrix z(t) + N(0, noise); both `(*batch, n, K + 1, K + 1)` for the steps `(n,)`."""

    matrix: Tensor
    noise: Tensor


def transition(steps: Tensor, rates: Tensor, weights: Tensor, reversion: Tensor, scale: Tensor) -> Transition:
    """Transitions over `steps (n,)`, at least 0; `weights (*batch, K)`, `reversion` and `scale (*batch,)`, float64."""
    weights, theta, scale = _expand(weights, reversion, scale)
    h = steps[:, None]
    exponents, degrees, quotient = _basis(rates, theta)
    gram = _gram(exponents[..., None, :], degrees, h[..., None])
    response = _response(rates, weights, theta, scale, quotient)
    noise = response @ gram @ response.mT
    matrix = _matrix(h, rates, weights, theta, scale, quotient, exponents)
    return Transition(matrix, (noise + noise.mT) / 2)


def noise_root(steps: Tensor, rates: Tensor, weights: Tensor, reversion: Tensor, scale: Tensor) -> Tensor:
    """Roots L of the noise covariances L L^T of `transition`, `(*batch, n, K + 1, rank)`.

    Differentiable in weights and scale, which a factorisation of the nearly singular covariance is not;
    not in the reversion. Directions below 1e-15 of the largest are left out.
    """
    weights, theta, scale = _expand(weights, reversion.detach(), scale)
    exponents, degrees, quotient = _basis(rates, theta)
    gram = _gram(exponents[..., None, :], degrees, steps[:, None, None])
    size = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    safe = torch.where(size > 0, size, torch.ones_like(size))
    values, vectors = torch.linalg.eigh(gram / (safe[..., :, None] * safe[..., None, :]))
    kept = values > 1e-15 * values[..., -1:]
    rank = int(kept.sum(-1).max()) if kept.numel() else 0
    values = torch.where(kept, values, torch.zeros_like(values))[..., values.shape[-1] - rank :]
    root = safe[..., :, None] * vectors[..., vectors.shape[-1] - rank :] * values.sqrt()[..., None, :]
    by_noise: Tensor = _response(rates, weights, theta, scale, quotient) @ root
    return by_noise


def _expand(weights: Tensor, reversion: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch = broadcast_shapes(weights.shape[:-1], reversion.shape, scale.shape)
    return weights.expand(*batch, -1), reversion.expand(batch)[..., None], scale.expand(batch)


def _response(rates: Tensor, weights: Tensor, theta: Tensor, scale: Tensor, quotient: Tensor) -> Tensor:
    """Rows of the response of (x, y) to a unit impulse of W, in the basis of exponentials: `(*batch, 1, K + 1, m)`."""
    own = torch.eye(len(rates), quotient.shape[-1], dtype=rates.dtype, device=rates.device)
    x_row = scale[..., None] * (weights[..., None, :] @ (own - theta[..., None] * quotient)).squeeze(-2)
    y_rows = ((2 * rates).sqrt()[:, None] * own).expand(*x_row.shape[:-1], *own.shape)
    return torch.cat([x_row[..., None, :], y_rows], dim=-2).unsqueeze(-3)


def _matrix(
    h: Tensor, rates: Tensor, weights: Tensor, theta: Tensor, scale: Tensor, quotient: Tensor, exponents: Tensor
) -> Tensor:
    decay = torch.exp(-rates * h)
    values = torch.exp(-exponents[..., None, :] * h)
    near = exponents.shape[-1] - _NODES
    values = torch.cat([values[..., :near], h * values[..., near:]], dim=-1)
    d = values @ quotient.mT  # (*batch, n, K)
    # y enters x through -omega_k gamma_k, and is stored as sqrt(2 gamma_k) y
    by_y = -scale[..., None, None] * (weights * (rates / 2).sqrt())[..., None, :] * d
    own = torch.exp(-theta[..., None, :] * h)
    top = torch.cat([own, by_y], dim=-1).unsqueeze(-2)
    bottom = torch.nn.functional.pad(torch.diag_embed(decay), (1, 0))
    batch = broadcast_shapes(top.shape[:-2], bottom.shape[:-2])
    return torch.cat([top.expand(*batch, *top.shape[-2:]), bottom.expand(*batch, *bottom.shape[-2:])], dim=-2)


def _basis(rates: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Exponents `(*batch, K + 1 + nodes)`, powers of tau before them, and the quotients d_k in this basis.

    Geometric grids have at most one rate next to theta, for which the last columns are kept.
    """
    distance = ((rates - theta).abs() / rates).detach()
    nearest = distance.argmin(-1, keepdim=True)
    rate = rates.expand(distance.shape).gather(-1, nearest)
    nodes, shares = legendre(_NODES, rates)
    between = theta + nodes * (rate - theta)
    exponents = torch.cat([rates.expand(distance.shape), theta, between], dim=-1)
    degrees = torch.tensor([0] * (len(rates) + 1) + [1] * _NODES, device=rates.device)
    near = distance < _NEAR
    chosen = near & (torch.arange(len(rates), device=rates.device) == nearest)
    gap = torch.where(chosen, torch.ones_like(distance), rates - theta)
    inverse = torch.where(chosen, torch.zeros_like(gap), 1 / gap)
    by_nodes = chosen.to(rates.dtype)[..., None] * shares
    return exponents, degrees, torch.cat([-torch.diag_embed(inverse), inverse[..., None], by_nodes], dim=-1)


def _gram(exponents: Tensor, degrees: Tensor, h: Tensor) -> Tensor:
    """int_0^h tau^{p_i + p_j} e^{-(l_i + l_j) tau} dtau, `(*batch, n, m, m)`."""
    total = exponents[..., :, None] + exponents[..., None, :]
    order = degrees[:, None] + degrees
    moments = [exponential_moments(n, total, h) for n in range(3)]
    return torch.where(order == 0, moments[0], torch.where(order == 1, moments[1], moments[2]))
