"""Scores and distances of joint distributions, beyond marginals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError


def energy_score(samples: Tensor, truth: Tensor, weights: Tensor | None = None) -> float:
    """E|X - y| - E|X - X'| / 2 in the Euclidean norm, the fair estimate over different members.

    The CRPS of a vector: proper, negatively oriented, in the unit of m. It sees spread well and dependence weakly.

    Args:
        samples: Members `(n, *shape)`, n at least 2.
        truth: `(*shape)`.
        weights: `(n,)`, normalised; default equal.

    Raises:
        DataError: If there are fewer than two members.
        ShapeError: If the truth does not fit.

    Source: Gneiting, Raftery, JASA 102 (2007), eq. 22.
    """
    x, y, w = _flat(samples, truth, weights)
    distance = w @ torch.linalg.vector_norm(x - y, dim=1)
    pairs = w @ torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") @ w / (1 - w.square().sum())
    return float(distance - pairs / 2)


def variogram_score(
    samples: Tensor, truth: Tensor, weights: Tensor | None = None, *, power: float = 0.5, pairs: int = 2000
) -> float:
    """Mean over pairs of entries of (|y_i - y_j|^p - E|X_i - X_j|^p)^2.

    Proper, and sensitive to wrong correlations, which the energy score hardly sees.

    Args:
        samples: Members `(n, *shape)`.
        truth: `(*shape)`, at least two entries.
        weights: `(n,)`, normalised; default equal.
        power: p > 0.
        pairs: Largest number of pairs; of more, every k-th is taken.

    Raises:
        DataError: If there is only one entry.
        ShapeError: If the truth does not fit.

    Source: Scheuerer, Hamill, Monthly Weather Review 143 (2015).
    """
    x, y, w = _flat(samples, truth, weights)
    if x.shape[1] < 2:
        message = "a variogram score needs at least two entries; use the CRPS for a single number."
        raise DataError(message)
    i, j = _pairs(x.shape[1], pairs)
    expected = w @ (x[:, i] - x[:, j]).abs().pow(power)
    return float(((y[i] - y[j]).abs().pow(power) - expected).square().mean())


def maximum_mean_discrepancy(x: Tensor, y: Tensor, *, lengths: tuple[float, ...] = (0.5, 1.0, 2.0)) -> float:
    """Unbiased estimate of the squared MMD of two samples, with Gaussian kernels averaged over lengths.

    MMD^2 = E k(X, X') - 2 E k(X, Y) + E k(Y, Y'), zero on average if and only if the laws are equal.

    Args:
        x: `(n, *event)`, n at least 2.
        y: `(k, *event)`, k at least 2.
        lengths: Length scales as multiples of the median distance of the joint sample.

    Raises:
        DataError: If a sample has fewer than two members.
        ShapeError: If the events differ.

    Source: Gretton et al., JMLR 13 (2012), eq. 3.
    """
    a, b = _two(x, y)
    joint = torch.cat([a, b])
    square = torch.cdist(joint, joint).square()
    n, k = len(a), len(b)
    off = ~torch.eye(n + k, dtype=torch.bool, device=square.device)
    median = square[off].median().clamp_min(torch.finfo(square.dtype).tiny)
    kernel = torch.stack([torch.exp(-square / (2 * median * length**2)) for length in lengths]).mean(0) * off
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (k * (k - 1))
    return float(within - 2 * kernel[:n, n:].mean())


def classifier_two_sample(x: Tensor, y: Tensor, *, folds: int = 5, generator: torch.Generator) -> float:
    """C2ST: held-out accuracy of a classifier that tells two samples apart; 1/2 if the laws are equal.

    The classifier is quadratic (logistic regression on standardised features and their products up to 60 of
    them), so it sees differences in mean and covariance, and no others.

    Args:
        x: `(n, *event)`.
        y: `(k, *event)`; the larger sample is cut to the size of the smaller.
        folds: Number of parts for cross-validation.
        generator: Randomness of the parts.

    Raises:
        DataError: If there are fewer than ten members per fold.
        ShapeError: If the events differ.

    Source: Lopez-Paz, Oquab, ICLR 2017.
    """
    a, b = _two(x, y)
    n = min(len(a), len(b))
    if n < 10 * folds:
        message = f"a classifier test with {folds} folds needs at least {10 * folds} members of each sample, got {n}."
        raise DataError(message)
    order = torch.randperm(n, generator=generator, device=generator.device).to(a.device)
    features = _quadratic(torch.cat([a[:n][order], b[:n][order]]))
    labels = torch.cat([torch.zeros(n), torch.ones(n)]).to(features)
    part = torch.arange(n, device=a.device).remainder(folds).repeat(2)
    right = 0.0
    for fold in range(folds):
        held = part == fold
        weights = _logistic(features[~held], labels[~held])
        right += float((((features[held] @ weights) > 0).to(labels) == labels[held]).double().sum())
    return right / (2 * n)


def _logistic(features: Tensor, labels: Tensor, ridge: float = 1.0) -> Tensor:
    """Maximum of the penalised likelihood by Newton's method; the intercept is the last feature."""
    weights = features.new_zeros(features.shape[1])
    penalty = features.new_full((features.shape[1],), ridge)
    penalty[-1] = 1e-6
    for _ in range(25):
        p = torch.sigmoid(features @ weights)
        gradient = features.T @ (p - labels) + penalty * weights
        hessian = features.T @ ((p * (1 - p)).unsqueeze(1) * features) + torch.diag(penalty)
        step = torch.linalg.solve(hessian, gradient)
        weights = weights - step
        if float(step.abs().max()) < 1e-8:
            break
    return weights


def _quadratic(x: Tensor, most: int = 60) -> Tensor:
    """Standardised entries, their products, and a one; leading principal components where there are many entries."""
    scaled = (x - x.mean(0)) / x.std(0).clamp_min(torch.finfo(x.dtype).tiny)
    largest = max(1, int((math.sqrt(8 * most + 9) - 3) / 2))  # k + k (k + 1) / 2 <= most
    if scaled.shape[1] > largest:
        _, _, v = torch.linalg.svd(scaled, full_matrices=False)
        scaled = scaled @ v[:largest].T
        scaled = scaled / scaled.std(0).clamp_min(torch.finfo(x.dtype).tiny)
    i, j = torch.triu_indices(scaled.shape[1], scaled.shape[1])
    return torch.cat([scaled, scaled[:, i] * scaled[:, j], torch.ones_like(scaled[:, :1])], 1)


def _pairs(size: int, most: int) -> tuple[Tensor, Tensor]:
    total = size * (size - 1) // 2
    if total <= most:
        i, j = torch.triu_indices(size, size, 1)
        return i, j
    first = torch.arange(most) * (size - 1) // most  # spread over the entries, at all distances
    return first, first + 1 + (torch.arange(most) * 7919).remainder(size - 1 - first)


def _flat(samples: Tensor, truth: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    if samples.shape[1:] != truth.shape:
        message = f"samples should be (n, {', '.join(map(str, truth.shape))}) as the truth, got {tuple(samples.shape)}."
        raise ShapeError(message)
    if len(samples) < 2:
        message = f"a score of an ensemble needs at least two members, got {len(samples)}."
        raise DataError(message)
    x = samples.double().flatten(1)
    w = x.new_full((len(x),), 1 / len(x)) if weights is None else weights.to(x)
    return x, truth.double().flatten(), w


def _two(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape[1:] != y.shape[1:]:
        message = f"samples should be (n, *event) and (k, *event), got {tuple(x.shape)} and {tuple(y.shape)}."
        raise ShapeError(message)
    if min(len(x), len(y)) < 2:
        message = f"a comparison of samples needs at least two members of each, got {len(x)} and {len(y)}."
        raise DataError(message)
    return x.double().flatten(1), y.double().flatten(1)
