"""Weights of particles: effective sample sizes and systematic resampling, for any number of data sets at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """Log of the mean weight over the last axis; -inf if all weights are zero."""
    total: Tensor = torch.logsumexp(log_weights, -1) - math.log(log_weights.shape[-1])
    return total


def effective_size(log_weights: Tensor) -> Tensor:
    """(sum w)^2 / sum w^2 over the last axis; 0 if all weights are zero."""
    total, square = torch.logsumexp(log_weights, -1), torch.logsumexp(2 * log_weights, -1)
    return torch.where(torch.isfinite(total), (2 * total - square).exp(), 0.0)


def conditional_effective_size(log_weights: Tensor, increments: Tensor) -> Tensor:
    """N (sum W u)^2 / sum W u^2 over the last axis, for normalised W and incremental weights u.

    Source: Zhou, Johansen, Aston, J. Comput. Graph. Stat. 25 (2016).
    """
    normalised = log_weights.log_softmax(-1)
    first = torch.logsumexp(normalised + increments, -1)
    second = torch.logsumexp(normalised + 2 * increments, -1)
    return torch.where(torch.isfinite(first), (2 * first - second).exp(), 0.0) * log_weights.shape[-1]


def systematic_indices(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Ancestors by systematic resampling along the last axis, `(*sets, N)`.

    One uniform u per set picks the particles at the weight levels (i + u) / N; each appears N w times, rounded up or
    down, so that weighted means stay unbiased. Weights of -inf are never picked.

    Source: Kitagawa, J. Comput. Graph. Stat. 5 (1996); Douc, Cappe, Moulines, ISPA (2005).
    """
    *sets, count = log_weights.shape
    u = torch.rand((*sets, 1), generator=generator, device=generator.device, dtype=torch.float64)
    levels = (torch.arange(count, dtype=torch.float64, device=log_weights.device) + u.to(log_weights.device)) / count
    cumulative = log_weights.double().softmax(-1).cumsum(-1)
    indices = torch.searchsorted(cumulative, levels * cumulative[..., -1:], right=True)
    last = (log_weights > -math.inf).long().cumsum(-1).argmax(-1, keepdim=True)
    return torch.minimum(indices, last)


def take(values: Tensor, indices: Tensor) -> Tensor:
    """`values (*sets, N, *event)` at `indices (*sets, N)`."""
    sets = indices.ndim - 1
    event = values.ndim - indices.ndim
    flat = values.reshape(-1, values.shape[sets], *values.shape[sets + 1 :])
    chosen = indices.reshape(flat.shape[0], -1)
    expanded = chosen.reshape(*chosen.shape, *(1 for _ in range(event))).expand(-1, -1, *flat.shape[2:])
    return flat.gather(1, expanded).reshape(values.shape)
