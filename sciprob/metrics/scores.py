"""Scores of a posterior against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.posteriors import Ensemble, GaussianPosterior, Posterior, SamplerPosterior

LEVELS = (0.5, 0.8, 0.9, 0.95)
_STEP, _REACH = 0.04, 8.0  # nodes of the quantile integral, in standard normal units


def score(posterior: Posterior, truth: Tensor, levels: Sequence[float] = LEVELS) -> dict[str, Any]:
    """What `metrics.json` says about accuracy and calibration.

    Args:
        posterior: Any posterior.
        truth: `(*space.shape)`.
        levels: Levels of the credible intervals.

    Returns:
        `{"relative_error": float, "coverage": {"0.5": fraction, ...}, "crps": float}`; the last is
        the mean over all entries, in the unit of m. A truth that is zero everywhere has no
        relative error, and the key is left out.

    Raises:
        ShapeError: If the truth does not fit the space.
    """
    scores: dict[str, Any] = {}
    if bool(truth.any()):
        scores["relative_error"] = relative_error(posterior.mean, truth)
    scores["coverage"] = coverage(posterior, truth, levels)
    scores["crps"] = float(crps(posterior, truth).mean())
    return scores


def relative_error(estimate: Tensor, truth: Tensor) -> float:
    """`|estimate - truth| / |truth|` in the Euclidean norm.

    Raises:
        DataError: If the truth is zero.
    """
    norm = float(torch.linalg.vector_norm(truth))
    if norm == 0:
        message = "a relative error needs a truth that is not zero everywhere; use the CRPS instead."
        raise DataError(message)
    return float(torch.linalg.vector_norm(estimate - truth)) / norm


def coverage(posterior: Posterior, truth: Tensor, levels: Sequence[float] = LEVELS) -> dict[str, float]:
    """Fraction of the entries of the truth inside the central credible interval, by level.

    Entries of one field are correlated, so a single problem scatters far more than a binomial;
    average over many truths to judge calibration.
    """
    posterior.space.batch_shape(truth, "truth")
    inside = {}
    for level in levels:
        low, high = posterior.interval(level)
        inside[f"{level:g}"] = float(((truth >= low) & (truth <= high)).double().mean())
    return inside


def interval_score(posterior: Posterior, truth: Tensor, level: float = 0.9) -> Tensor:
    """Interval score of each entry, `(*space.shape)`: width plus 2 / (1 - level) times the miss.

    Proper and negatively oriented (small is good).

    Source: Gneiting, Raftery, JASA 102 (2007).
    """
    posterior.space.batch_shape(truth, "truth")
    low, high = posterior.interval(level)
    miss = (low - truth).clamp_min(0) + (truth - high).clamp_min(0)
    return high - low + 2 / (1 - level) * miss


def crps(posterior: Posterior, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of each marginal, `(*space.shape)`, in the unit of m.

    CRPS(F, y) = integral of (F(x) - 1[x >= y])^2 dx: closed form for Gaussians, the fair estimate
    for ensembles and samplers, quantile integration for everything else (transformed Gaussians).

    Raises:
        ShapeError: If the truth does not fit the space.

    Source: Gneiting, Raftery, JASA 102 (2007); Ferro, QJRMS 140 (2014) for "fair".
    """
    posterior.space.batch_shape(truth, "truth")
    if isinstance(posterior, GaussianPosterior):
        return crps_gaussian(posterior.mean, posterior.std, truth)
    if isinstance(posterior, SamplerPosterior):
        posterior = posterior.stored
    if isinstance(posterior, Ensemble):
        return crps_ensemble(posterior.samples, truth, posterior.weights)
    return _crps_by_quantiles(posterior, truth)


def crps_gaussian(mean: Tensor, std: Tensor, truth: Tensor) -> Tensor:
    """CRPS of N(mean, std^2), elementwise: std (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi))."""
    deviation = truth - mean
    z = deviation / std.clamp_min(torch.finfo(std.dtype).tiny)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    value: Tensor = deviation * torch.special.erf(z / math.sqrt(2)) + std * (2 * density - 1 / math.sqrt(math.pi))
    return value


def crps_ensemble(samples: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Fair CRPS of members `(n, *shape)`, elementwise: E|x - y| - E|x - x'| / 2 over different members.

    With weights w the second mean is over pairs i != j with probability w_i w_j / (1 - sum w^2);
    the estimate is unbiased for equally weighted independent members.

    Args:
        samples: Members `(n, *shape)`, n at least 2.
        truth: `(*shape)`.
        weights: `(n,)`, normalised; default equal.

    Raises:
        DataError: If there are fewer than two members.
    """
    n = len(samples)
    if n < 2:
        message = f"the fair CRPS needs at least two members, got {n}."
        raise DataError(message)
    w = samples.new_full((n,), 1 / n) if weights is None else weights
    distance: Tensor = torch.tensordot(w, (samples - truth).abs(), dims=1)
    values, order = samples.reshape(n, -1).sort(dim=0)
    sorted_weights = w[order]
    below = sorted_weights.cumsum(0) - sorted_weights  # weight of all smaller members
    above = 1 - below - sorted_weights
    spread = (sorted_weights * values * (below - above)).sum(0)  # sum over i < j of w_i w_j |x_i - x_j|
    return distance - (spread / (1 - w.square().sum())).reshape(truth.shape)


def _crps_by_quantiles(posterior: Posterior, truth: Tensor) -> Tensor:
    """2 * integral of (1[y < q_a] - a)(q_a - y) da with a = Phi(z), trapezoids in z; error about 1e-4 std."""
    total = torch.zeros_like(truth)
    count = round(2 * _REACH / _STEP) + 1
    for z in torch.linspace(-_REACH, _REACH, count, dtype=torch.float64):
        level = torch.special.ndtr(z)
        if not 0 < float(level) < 1:
            continue
        q = posterior.quantile(float(level))
        density = math.exp(-(float(z) ** 2) / 2) / math.sqrt(2 * math.pi)
        total += 2 * _STEP * density * ((truth < q).to(q.dtype) - float(level)) * (q - truth)
    return total
