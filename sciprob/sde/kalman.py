r"""Kalman filter and fixed-interval smoother for scalar observations of the first component.

The smoother is that of Bryson and Frazier (also de Jong, J. Am. Stat. Assoc. 84 (1989)): it inverts nothing, so
nearly collinear components, which the predicted covariance of a Markov approximation has, do no harm.
Covariances depend on the model alone and keep its batch; means take the batch of the data as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError


@dataclass(frozen=True)
class StateSpace:
    """z_0 ~ N(0, initial), z_i = matrix_i z_{i-1} + N(0, noise_i), i = 1 .. n.

    Attributes:
        matrix: The different transition matrices, `(*batch, u, s, s)`.
        noise: Their noise covariances, `(*batch, u, s, s)`.
        which: Transition used by each step, `(n,)`.
        initial: `(*batch, s, s)`.
    """

    matrix: Tensor
    noise: Tensor
    which: Tensor
    initial: Tensor


@dataclass(frozen=True)
class Filtered:
    """One-step predictions: covariance rows of the first component, gains, innovations; lists over time."""

    mean: list[Tensor]
    row: list[Tensor]
    innovation: list[Tensor | None]
    variance: list[Tensor | None]
    log_evidence: Tensor


def kalman_filter(model: StateSpace, values: Tensor, noise_variance: Tensor, observed: list[int | None]) -> Filtered:
    """Filter; at step i the value `values[..., observed[i]]` is seen, or none.

    Raises:
        DataError: If an exact value contradicts or repeats what is already known exactly.
    """
    covariance = model.initial
    mean = torch.zeros((*values.shape[:-1], covariance.shape[-1]), dtype=covariance.dtype, device=covariance.device)
    log_evidence = torch.zeros(values.shape[:-1], dtype=covariance.dtype, device=covariance.device)
    means: list[Tensor] = []
    rows: list[Tensor] = []
    innovations: list[Tensor | None] = []
    variances: list[Tensor | None] = []
    for step, column in zip(model.which.tolist(), observed, strict=True):
        matrix = model.matrix[..., step, :, :]
        mean = (matrix @ mean[..., None]).squeeze(-1)
        covariance = matrix @ covariance @ matrix.mT + model.noise[..., step, :, :]
        row = covariance[..., 0, :]
        means.append(mean)
        rows.append(row)
        if column is None:
            innovations.append(None)
            variances.append(None)
            continue
        variance = row[..., 0] + noise_variance[..., column]
        if not bool((variance > 0).all()):
            message = f"row {column} is exact and already known exactly; give a positive `noise_std` or leave it out."
            raise DataError(message)
        innovation = values[..., column] - mean[..., 0]
        mean = mean + row * (innovation / variance)[..., None]
        covariance = covariance - row[..., :, None] * row[..., None, :] / variance[..., None, None]
        log_evidence = log_evidence - (innovation.square() / variance + (2 * math.pi * variance).log()) / 2
        innovations.append(innovation)
        variances.append(variance)
    return Filtered(means, rows, innovations, variances, log_evidence)


def smooth(model: StateSpace, filtered: Filtered) -> tuple[Tensor, Tensor]:
    """Mean `(*batch, n)` and variance of the first component given all values; the variance has the model's batch."""
    means, variances = [], []
    for i, score, information in backward_terms(model, filtered):
        row = filtered.row[i]
        means.append(filtered.mean[i][..., 0] + (row * score).sum(-1))
        reduced = (row[..., None, :] @ information @ row[..., None]).squeeze(-1).squeeze(-1)
        variances.append(row[..., 0] - reduced)
    return torch.stack(means[::-1], dim=-1), torch.stack(variances[::-1], dim=-1)


def backward_terms(model: StateSpace, filtered: Filtered) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Step, score r and information N of the values from this step on, from the last step to the first.

    With the predicted moments m, P of a step, the smoothed ones are m + P r and P - P N P.
    """
    score = torch.zeros_like(model.initial[..., 0])
    information = torch.zeros_like(model.initial)
    for i in range(len(filtered.mean) - 1, -1, -1):
        row, variance, innovation = filtered.row[i], filtered.variance[i], filtered.innovation[i]
        if variance is not None and innovation is not None:
            gain = row / variance[..., None]
            score = _add_to_first(score, innovation / variance - (gain * score).sum(-1))
            by_gain = (information @ gain[..., None]).squeeze(-1)
            corner = (gain * by_gain).sum(-1) + 1 / variance
            # L^T N L + e e^T / S with L = I - g e^T touches the first row and column only
            first = _add_to_first(-by_gain, corner / 2)
            information = _add_to_cross(information, first)
        yield i, score, information
        matrix = model.matrix[..., int(model.which[i]), :, :]
        score = (matrix.mT @ score[..., None]).squeeze(-1)
        information = matrix.mT @ information @ matrix


def _add_to_first(vector: Tensor, amount: Tensor) -> Tensor:
    return torch.cat([vector[..., :1] + amount[..., None], vector[..., 1:].expand(*amount.shape, -1)], dim=-1)


def _add_to_cross(matrix: Tensor, first: Tensor) -> Tensor:
    """The matrix + e first^T + first e^T."""
    size = matrix.shape[-1]
    row = torch.nn.functional.pad(first[..., None, :], (0, 0, 0, size - 1))
    return matrix + row + row.mT
