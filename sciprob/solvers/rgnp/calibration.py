"""From relative to absolute uncertainty: a temperature, and a conformal factor, from a few reference solutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import DataError

_TWO_SIGMA = 0.9545  # probability of |e| < 2 sd for a normal e


def temperature(errors: Tensor, std: Tensor) -> Tensor:
    """T such that |e| < 2 T sd for 95.45 % of all entries, where sd is positive.

    For Gaussian errors of standard deviation T sd it estimates T; unlike the likelihood's estimate it is
    not moved by a few entries far out.

    Args:
        errors: e `(cases, n, fields)`, reference minus mean.
        std: sd of the same shape, before temperature.

    Raises:
        DataError: If no entry has a positive sd, or an error is not finite.
    """
    scores = _scores(errors, std)
    if not len(scores):
        message = "a temperature needs reference values at points where the field is not prescribed; got none."
        raise DataError(message)
    return torch.quantile(scores, _TWO_SIGMA) / 2


def field_scores(errors: Tensor, std: Tensor, level: float) -> Tensor:
    """By case the smallest c with |e| <= c sd for a share `level` of its entries, `(cases,)`.

    Args:
        errors: `(cases, n, fields)`.
        std: Calibrated standard deviations.
        level: In (0, 1).
    """
    return torch.stack([torch.quantile(_scores(e, s), level) for e, s in zip(errors, std, strict=True)])


def conformal_factor(scores: Tensor, confidence: float) -> float:
    """The ceil((k + 1) confidence)-th smallest of k scores.

    A new score is below it with a probability of at least `confidence`, if it is exchangeable with the
    k others, whatever their distribution.

    Args:
        scores: `(k,)`.
        confidence: In (0, 1).

    Raises:
        DataError: If k is too small for the confidence; names the smallest k.

    Source: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005.
    """
    rank = math.ceil(round((len(scores) + 1) * confidence, 9))  # 10 * 0.7 is 7, not 7.000000000000001
    if rank > len(scores):
        needed = math.ceil(round(confidence / (1 - confidence), 9))
        message = f"a confidence of {confidence:g} needs at least {needed} reference solutions, got {len(scores)}."
        raise DataError(message)
    return float(scores.sort().values[rank - 1])


def _scores(errors: Tensor, std: Tensor) -> Tensor:
    """|e| / sd where sd > 0, flat."""
    if not bool(torch.isfinite(errors).all()):
        message = "reference solutions should be finite, got NaN or infinity; check the reference solver."
        raise DataError(message)
    free = std > 0
    return (errors[free] / std[free]).abs()
