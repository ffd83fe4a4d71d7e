"""Estimates of the numbers of an equation, with standard errors, from the maximum of a posterior and its curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciprob.sde.path_model import PathModel

_REACH = 14.0  # of the search around the start, for logarithms
_LOGIT = 6.9  # H from 0.001 to 0.999
_PROFILE = 17
_WIDE = 4.0  # standard errors shown of the profile


def bounds(model: PathModel, spread: float) -> tuple[Tensor, Tensor]:
    """Box of the search, `(size,)` each; levels within 100 `spread` of the start."""
    low, high = [], []
    for label, start in zip(model.labels, model.start().tolist(), strict=True):
        if label.startswith("hurst"):
            low.append(-_LOGIT)
            high.append(_LOGIT)
            continue
        reach = 100 * spread if label == "level" else _REACH
        low.append(start - reach)
        high.append(start + reach)
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)


def first_guesses(model: PathModel) -> Tensor:
    """The start, and starts with other Hurst indices, `(k, size)`."""
    start = model.start()
    rows = [i for i, label in enumerate(model.labels) if label.startswith("hurst")]
    guesses = [start]
    for logit in (-2.0, -0.7, 0.7, 2.0) if rows else ():
        guess = start.clone()
        guess[rows] = logit
        guesses.append(guess)
    return torch.stack(guesses)


def covariance_of(hessian: Tensor, raw: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Inverse of the negative Hessian; NaN for variables that ended at a bound, and where it is not a maximum."""
    inside = (raw > lower + 1e-2) & (raw < upper - 1e-2)
    full = torch.full_like(hessian, torch.nan)
    kept = inside.nonzero().flatten()
    root, info = torch.linalg.cholesky_ex(-hessian[kept][:, kept])
    if int(info) == 0 and len(kept):
        full[kept[:, None], kept] = torch.cholesky_inverse(root)
    return full


def table(model: PathModel, raw: Tensor, covariance: Tensor) -> dict[str, dict[str, float]]:
    """By label: `estimate`, `std_error` (first order) and the 90 % interval `lower`, `upper` (in real variables)."""
    std = covariance.diagonal().sqrt()
    z = 1.6448536269514722
    found: dict[str, dict[str, float]] = {}
    low, high = (_flat(model, raw + k * z * std) for k in (-1, 1))
    eps = 1e-6
    slope = (_flat(model, raw + eps) - _flat(model, raw - eps)) / (2 * eps)
    centre = _flat(model, raw)
    for i, label in enumerate(model.labels):
        entry = {"estimate": float(centre[i])}
        if bool(std[i].isfinite()):
            entry |= {"std_error": float(slope[i] * std[i]), "lower": float(low[i]), "upper": float(high[i])}
        found[label] = entry
    return found


def _flat(model: PathModel, raw: Tensor) -> Tensor:
    values = model.values(raw)
    return torch.cat([values[name].reshape(-1) for name in model.unknowns]) if model.size else raw


def hurst_profile(
    model: PathModel, raw: Tensor, hessian: Tensor, log_posterior: Callable[[Tensor], Tensor], *, together: bool
) -> Tensor:
    """H and log posterior along the ridge of the other numbers, `(k, 2)`; empty without one unknown H.

    The ridge is that of the quadratic model at the maximum, so the curve is a lower bound of the profile.
    """
    empty = torch.zeros(0, 2, dtype=torch.float64)
    if "hurst" not in model.labels:
        return empty
    i = model.labels.index("hurst")
    covariance = torch.linalg.pinv(-hessian)
    std = math.sqrt(max(float(covariance[i, i]), 1e-8))
    centre = float(raw[i])
    ends = max(centre - _WIDE * std, -_LOGIT), min(centre + _WIDE * std, _LOGIT)
    logit = torch.linspace(*ends, _PROFILE, dtype=torch.float64)
    points = raw + covariance[:, i] / covariance[i, i] * (logit - centre)[:, None]
    return torch.stack([torch.sigmoid(logit), evaluate(log_posterior, points, together=together)], dim=1)


def evaluate(function: Callable[[Tensor], Tensor], points: Tensor, *, together: bool) -> Tensor:
    """Values at `points (k, size)`, without gradients, in one call or one by one, which needs less memory."""
    with torch.no_grad():
        return function(points) if together else torch.stack([function(point) for point in points])


def words_about(estimates: dict[str, dict[str, float]]) -> str:
    """A sentence about numbers without standard errors."""
    lost = [label for label, entry in estimates.items() if "std_error" not in entry]
    if not lost:
        return ""
    names = ", ".join(f"`{name}`" for name in lost)
    return f"The data do not bound {names}: the estimate ended at a limit or on a plateau; give a prior (`spread`)."


def plain_figures(estimates: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The table flattened to `hurst`, `hurst_std_error`, ..., for the closing table of a run."""
    found: dict[str, Any] = {}
    for label, entry in estimates.items():
        found[label] = entry["estimate"]
        found |= {f"{label}_{key}": value for key, value in entry.items() if key != "estimate"}
    return found
