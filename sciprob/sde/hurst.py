r"""Hurst index of equally spaced series by likelihood: exact and Whittle's.

The increments are sigma times unit fractional Gaussian noise, with a measurement error of variance
sigma^2 rho if asked for; sigma is profiled out. Sources: Beran, Statistics for Long-Memory Processes
(1994), chapters 5 and 6; Fox and Taqqu, Ann. Stat. 14 (1986); Harville, Biometrika 61 (1974) for the
restricted likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sciprob.sde.covariance import fgn_autocovariance
from sciprob.sde.hurst_estimate import HurstEstimate, Observed, increments_of
from sciprob.sde.maximise import maximise
from sciprob.sde.spectrum import fgn_spectrum
from sciprob.sde.toeplitz import toeplitz_gram
from sciprob.sde.whittle import score_moments

Profile = Callable[[Tensor, "Tensor | None"], tuple[Tensor, Tensor]]
Moments = Callable[[Tensor], tuple[Tensor, Tensor]]

_H_BOUNDS = (1e-3, 1 - 1e-3)
_LOG_RATIO_BOUNDS = (-14.0, 8.0)  # log of noise variance over increment variance


def hurst_likelihood(
    x: Tensor, *, observed: Observed, mean: Literal["zero", "unknown"] = "unknown", noise: bool = False
) -> HurstEstimate:
    r"""Maximum of the exact Gaussian likelihood, O(n^2) for each evaluation.

    Args:
        x: Series `(*batch, n)`.
        observed: "increments" if the series itself is fractional Gaussian noise (river flows, varves),
            "levels" if it is fractional Brownian motion (log-volatility); getting this wrong shifts H by 1.
        mean: Whether the increments have an unknown mean (for levels: a linear trend), which is
            integrated out (restricted likelihood), so that H is not biased downwards.
        noise: Add independent measurement errors of unknown variance. Where the likelihood is largest
            without them, `noise_std` is 0 and the rest as with `noise=False`.

    Returns:
        Estimates of shape `(*batch,)` in the dtype of `x`, standard errors from the observed information.

    Raises:
        DataError: If the series is too short, constant, or not finite.
    """
    y = increments_of(x, observed)
    basis = y[..., None, :] if mean == "zero" else torch.stack([y, torch.ones_like(y)], dim=-2)

    def profile(h: Tensor, log_ratio: Tensor | None) -> tuple[Tensor, Tensor]:
        r = fgn_autocovariance(y.shape[-1], h, normalisation="unit")
        if log_ratio is not None:
            r = _add_noise(r, log_ratio, observed)
        gram, log_det = toeplitz_gram(r, basis)
        n, square = y.shape[-1], gram[..., 0, 0]
        if mean == "unknown":
            n, square = n - 1, square - gram[..., 0, 1] ** 2 / gram[..., 1, 1]
            log_det = log_det + (gram[..., 1, 1] / (n + 1)).log()
        return -(n * (2 * math.pi * square / n).log() + n + log_det) / 2, square / n

    rough = _whittle_profile(y, observed)
    return _estimate(x, profile, rough, noise=noise)


def hurst_whittle(x: Tensor, *, observed: Observed, noise: bool = False) -> HurstEstimate:
    r"""Maximum of Whittle's likelihood with the exact spectrum of fractional Gaussian noise, O(n log n).

    Arguments, result and errors as for `hurst_likelihood`. A mean does not matter, since the
    frequency 0 is left out. As efficient as the exact likelihood for long series. For H near 0, where power leaks
    into a spectrum that vanishes at 0, the bias of first order is taken off and the standard errors are
    those of the score's exact covariance (`score_moments`), which are larger than the curvature says.
    """
    y = increments_of(x, observed)
    profile = _whittle_profile(y, observed)

    def moments(p: Tensor) -> tuple[Tensor, Tensor]:
        h, log_ratio = p[..., 0], p[..., 1] if p.shape[-1] > 1 else None
        r = fgn_autocovariance(y.shape[-1], h, normalisation="unit")
        r = r if log_ratio is None else _add_noise(r, log_ratio, observed)
        frequency = _frequencies(y)

        def spectrum(p: Tensor) -> Tensor:
            return _spectrum(frequency, p[..., 0], p[..., 1] if p.shape[-1] > 1 else None, observed).log()

        unit = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
        slopes = [torch.func.jvp(spectrum, (p,), (tangent.expand_as(p),))[1] for tangent in unit]
        return score_moments(r, spectrum(p).exp(), torch.stack(slopes, dim=-2))

    return _estimate(x, profile, profile, noise=noise, moments=moments)


def _frequencies(y: Tensor) -> Tensor:
    n = y.shape[-1]
    return 2 * math.pi / n * torch.arange(1, (n - 1) // 2 + 1, dtype=torch.float64, device=y.device)


def _spectrum(frequency: Tensor, h: Tensor, log_ratio: Tensor | None, observed: Observed) -> Tensor:
    """Spectrum of the increments over sigma^2, with measurement errors if there are any."""
    f = fgn_spectrum(frequency, h)
    if log_ratio is None:
        return f
    white = torch.full_like(frequency, 1 / (2 * math.pi))
    error = white if observed == "increments" else 4 * torch.sin(frequency / 2).square() * white
    return f + log_ratio.exp()[..., None] * error


def _whittle_profile(y: Tensor, observed: Observed) -> Profile:
    n, frequency = y.shape[-1], _frequencies(y)
    count = len(frequency)
    shape = (*y.shape[:-1], count)
    centred = y - y.mean(-1, keepdim=True)
    transformed = torch.fft.rfft(centred)[..., 1 : count + 1].abs().square() if y.numel() else y.new_zeros(shape)
    periodogram = transformed / (2 * math.pi * n)

    def profile(h: Tensor, log_ratio: Tensor | None) -> tuple[Tensor, Tensor]:
        f = _spectrum(frequency, h, log_ratio, observed)
        variance = (periodogram / f).mean(-1)
        return -f.log().sum(-1) - count * (variance.log() + 1), variance

    return profile


def _add_noise(r: Tensor, log_ratio: Tensor, observed: Observed) -> Tensor:
    """Autocovariance with measurement errors, which levels pass on to two increments each."""
    shape = torch.zeros_like(r[..., :2])
    shape[..., 0] = 1.0 if observed == "increments" else 2.0
    shape[..., 1] = 0.0 if observed == "increments" else -1.0
    return torch.cat([r[..., :2] + log_ratio.exp()[..., None] * shape, r[..., 2:]], dim=-1)


def _estimate(
    x: Tensor, profile: Profile, rough: Profile, *, noise: bool, moments: Moments | None = None
) -> HurstEstimate:
    """The best of a scan of `rough`, improved on `profile`; then the same with measurement errors.

    `moments` has mean and covariance of the score at an estimate, where they are not zero and the information.
    """
    estimate = _fit(x, profile, rough, noise=False, moments=moments)
    if not noise:
        return estimate
    noisy = _fit(x, profile, rough, noise=True, moments=moments)
    return estimate.where(estimate.log_likelihood >= noisy.log_likelihood, noisy)


def _fit(x: Tensor, profile: Profile, rough: Profile, *, noise: bool, moments: Moments | None) -> HurstEstimate:
    low = x.new_tensor([_H_BOUNDS[0], _LOG_RATIO_BOUNDS[0]][: 1 + noise], dtype=torch.float64)
    high = x.new_tensor([_H_BOUNDS[1], _LOG_RATIO_BOUNDS[1]][: 1 + noise], dtype=torch.float64)

    def objective(profile: Profile) -> Callable[[Tensor], Tensor]:
        return lambda p: profile(p[..., 0], p[..., 1] if noise else None)[0]

    start = _scan(objective(rough), x.shape[:-1], low, high)
    start = maximise(objective(rough), start, low, high)[0]
    best, value, hessian = maximise(objective(profile), start, low, high)
    std_error = _standard_error(best, hessian, low, high, None)
    if moments is not None and best.numel():
        mean, covariance = moments(best)
        std_error = _standard_error(best, hessian, low, high, covariance)
        bias = torch.linalg.solve_ex(-hessian, mean)[0]
        best = torch.where(std_error.isfinite()[..., None], (best - bias).clamp(low, high), best)
    variance = profile(best[..., 0], best[..., 1] if noise else None)[1].detach()
    ratio = best[..., 1].exp() if noise else torch.zeros_like(value)
    return HurstEstimate(
        hurst=best[..., 0].to(x.dtype),
        std_error=std_error.to(x.dtype),
        scale=variance.sqrt().to(x.dtype),
        noise_std=(variance * ratio).sqrt().to(x.dtype),
        log_likelihood=value.to(x.dtype),
    )


def _scan(function: Callable[[Tensor], Tensor], batch: torch.Size, low: Tensor, high: Tensor) -> Tensor:
    """Best point of a coarse grid, for each series."""
    axes = [low[0] + (high[0] - low[0]) * torch.linspace(0.02, 0.98, 25, dtype=low.dtype, device=low.device)]
    if len(low) > 1:
        axes.append(torch.linspace(-8, 4, 13, dtype=low.dtype, device=low.device))
    grid = torch.cartesian_prod(*axes).reshape(-1, len(low))
    best_value = torch.full(batch, -torch.inf, dtype=low.dtype, device=low.device)
    best = grid[0].expand(*batch, len(low))
    for point in grid:
        value = function(point.expand(*(1 for _ in batch), len(low)))
        better = value > best_value
        best_value = torch.where(better, value, best_value)
        best = torch.where(better[..., None], point, best)
    return best


def _standard_error(best: Tensor, hessian: Tensor, low: Tensor, high: Tensor, score: Tensor | None) -> Tensor:
    """Root of the first entry of A^{-1}, or of A^{-1} B A^{-1} with the covariance B of the score.

    A is the observed information. NaN where H sits at the end of the search.
    """
    inverse = torch.linalg.inv_ex(-hessian)[0]
    row = inverse[..., 0, :]
    variance = inverse[..., 0, 0] if score is None else (row * (score @ row[..., None]).squeeze(-1)).sum(-1)
    inside = ((best > low + 1e-3) & (best < high - 1e-3)).all(-1) & (inverse[..., 0, 0] > 0) & (variance > 0)
    return torch.where(inside, variance, torch.full_like(variance, torch.nan)).sqrt()
