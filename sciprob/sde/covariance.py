r"""Covariances of fractional noises, exact and differentiable in H.

Every function takes `hurst` of any batch shape `(*batch,)` and works in float64, whatever its dtype, on
its device. Source: Mandelbrot and Van Ness, SIAM Rev. 10 (1968); Marinucci and Robinson, J. Stat.
Plan. Inference 80 (1999) for the two types.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.sde.parameters import Normalisation, check_hurst, check_times, gamma_variance, variance_at_one
from sciprob.sde.special import power_integral


def fbm_covariance(s: Tensor, t: Tensor, hurst: Tensor | float, *, normalisation: Normalisation) -> Tensor:
    r"""Fractional Brownian motion (type I): Cov = V (s^{2H} + t^{2H} - |t - s|^{2H}) / 2.

    Args:
        s: Times `(n,)`, not before 0.
        t: Times `(m,)`, not before 0.
        hurst: H in (0, 1), `(*batch,)`.
        normalisation: "unit" is V = 1, "gamma" V = 1 / (Gamma(2H + 1) sin(pi H)).

    Returns:
        `(*batch, n, m)`, float64.

    Raises:
        ConfigError: If H leaves (0, 1), or for an unknown normalisation.
        DataError: If times are negative or not finite.
    """
    h = check_hurst(hurst)
    variance = variance_at_one(h, kind="I", normalisation=normalisation)[..., None, None]
    s, t = check_times(s)[:, None], check_times(t)[None, :]
    two_h = 2 * h[..., None, None]
    return variance / 2 * (power(s, two_h) + power(t, two_h) - power((t - s).abs(), two_h))


def fgn_autocovariance(n: int, hurst: Tensor | float, *, step: float = 1.0, normalisation: Normalisation) -> Tensor:
    r"""Fractional Gaussian noise, the increments of fBM over `step`: lags 0 to n - 1, `(*batch, n)`, float64.

    r_k = V step^{2H} (|k + 1|^{2H} - 2 |k|^{2H} + |k - 1|^{2H}) / 2. The second difference loses about
    log10(k^2) of 16 digits at lag k.

    Raises:
        ConfigError: If H leaves (0, 1), or for an unknown normalisation.
    """
    h = check_hurst(hurst)
    variance = variance_at_one(h, kind="I", normalisation=normalisation)[..., None]
    two_h = 2 * h[..., None]
    k = torch.arange(n, dtype=torch.float64, device=h.device)
    second = power(k + 1, two_h) - 2 * power(k, two_h) + power((k - 1).abs(), two_h)
    return variance * step**two_h / 2 * second


def riemann_liouville_covariance(
    s: Tensor, t: Tensor, hurst: Tensor | float, *, normalisation: Normalisation
) -> Tensor:
    r"""Riemann-Liouville process (type II), B(t) = int_0^t (t - u)^{H - 1/2} dW(u) / Gamma(H + 1/2) for "gamma".

    Arguments, result and errors as for `fbm_covariance`; with "unit" the variance is t^{2H}.
    Cov = t^p s^{p+1} / (p + 1) 2F1(-p, 1; p + 2; s/t) / Gamma(p + 1)^2 for s <= t, p = H - 1/2.
    """
    h = check_hurst(hurst)[..., None]
    hs, ht = h.expand(*h.shape[:-1], len(s)), h.expand(*h.shape[:-1], len(t))
    return multifractional_covariance(s, t, hs, ht, normalisation=normalisation)


def multifractional_covariance(
    s: Tensor, t: Tensor, hurst_s: Tensor, hurst_t: Tensor, *, normalisation: Normalisation
) -> Tensor:
    r"""Multifractional Riemann-Liouville process, B(t) = int_0^t (t - u)^{H(t) - 1/2} dW(u) / Gamma(H(t) + 1/2).

    That is the value form of a time-dependent H: the variance at t depends on H(t) alone, and is
    t^{2 H(t)} with "unit". (Integrating d B_{H(t)} is another process.)

    Args:
        s: Times `(n,)`, not before 0.
        t: Times `(m,)`, not before 0.
        hurst_s: H at `s`, `(*batch, n)`.
        hurst_t: H at `t`, `(*batch, m)`.
        normalisation: "unit" or "gamma".

    Returns:
        `(*batch, n, m)`, float64.

    Raises:
        ConfigError: If H leaves (0, 1), or for an unknown normalisation.
        DataError: If times are negative or not finite.
        ShapeError: If H and times disagree.
    """
    hs, ht = check_hurst(hurst_s), check_hurst(hurst_t)
    s, t = check_times(s), check_times(t)
    for h, times, name in ((hs, s, "hurst_s"), (ht, t, "hurst_t")):
        if not h.ndim or h.shape[-1] != len(times):
            message = f"`{name}` should end in the {len(times)} times, got shape {tuple(h.shape)}."
            raise ShapeError(message)
    hs, ht, s, t = hs[..., :, None], ht[..., None, :], s[:, None], t[None, :]
    swap = s > t
    early, late = torch.minimum(s, t), torch.maximum(s, t)
    q = torch.where(swap, ht, hs) - 0.5
    p = torch.where(swap, hs, ht) - 0.5
    positive = early > 0
    e, a = torch.where(positive, early, torch.ones_like(early)), torch.where(positive, late, torch.ones_like(late))
    log_scale = p * a.log() + (q + 1) * e.log() - torch.lgamma(p + 1) - torch.lgamma(q + 1)
    value = log_scale.exp() * power_integral(p, q, (a - e) / a)
    value = torch.where(positive, value, torch.zeros_like(value))
    scale = _deviation(hs, normalisation) * _deviation(ht, normalisation)
    return value * scale


def _deviation(h: Tensor, normalisation: Normalisation) -> Tensor:
    """Standard deviation at t = 1 over that of the gamma normalisation."""
    return (variance_at_one(h, kind="II", normalisation=normalisation) / gamma_variance(h, "II")).sqrt()


def power(x: Tensor, exponent: Tensor) -> Tensor:
    """x^exponent for x >= 0, with derivative 0 in the exponent at x = 0."""
    positive = x > 0
    safe = torch.where(positive, x, torch.ones_like(x))
    return torch.where(positive, safe**exponent, torch.zeros_like(safe * exponent))
