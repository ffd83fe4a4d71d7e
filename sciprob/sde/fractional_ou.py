r"""Covariance of the fractional Ornstein-Uhlenbeck process, for every H.

Source: Cheridito, Kawaguchi and Maejima, Electron. J. Probab. 8 (2003), rewritten with incomplete gamma functions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.sde.covariance import power
from sciprob.sde.special import lower_convolution, scaled_upper_gamma


def fou_covariance(s: Tensor, t: Tensor, hurst: Tensor, reversion: Tensor) -> Tensor:
    r"""Cov of X_t = int_0^t e^{-theta (t - u)} dB(u) with unit fractional Brownian motion (type I), `(*batch, n, m)`.

    X_t = U_t - e^{-theta t} U_0 with the stationary U, so
    Cov = r(t - s) - e^{-theta t} r(s) - e^{-theta s} r(t) + e^{-theta (t + s)} r(0). Float64; the terms grow
    like theta^{-2H} for theta t << 1 and like t^{2H} for theta t >> 1, which costs digits (five at theta t = 1e-3
    and H = 0.9).
    """
    h, theta = hurst[..., None, None], reversion[..., None, None]
    s, t = s[:, None], t[None, :]
    lag, zero = (t - s).abs(), torch.zeros_like(s[:1])
    at_s, at_t = (stationary_covariance(v, h, theta) for v in (s, t))
    decayed = torch.exp(-theta * t) * at_s + torch.exp(-theta * s) * at_t
    start = torch.exp(-theta * (t + s)) * stationary_covariance(zero, h, theta)
    total: Tensor = _at_lags(lag, hurst, reversion) - decayed + start
    return total


def _at_lags(lag: Tensor, hurst: Tensor, reversion: Tensor) -> Tensor:
    """The stationary covariance of lags `(n, m)`, evaluated once for lags that differ by rounding: a grid has few."""
    if not lag.numel():
        return stationary_covariance(lag, hurst[..., None, None], reversion[..., None, None])
    keys = (lag / (16 * torch.finfo(lag.dtype).eps * lag.max().clamp_min(1e-300))).round()
    few, inverse = keys.unique(return_inverse=True)
    # the smallest of each group, so that the choice does not depend on threads
    chosen = torch.zeros_like(few).scatter_reduce(0, inverse.flatten(), lag.flatten(), "amin", include_self=False)
    return stationary_covariance(chosen, hurst[..., None], reversion[..., None])[..., inverse]


def stationary_covariance(lag: Tensor, hurst: Tensor, reversion: Tensor) -> Tensor:
    r"""r(tau) of the stationary process, unit noise, z = theta tau.

    (e^z Gamma(2H + 1, z) + e^{-z} Gamma(2H + 1) + int_0^z e^{v - z} v^{2H} dv) / (4 theta^{2H}) - tau^{2H} / 2.
    """
    h, theta, lag = torch.broadcast_tensors(hurst, reversion, lag)
    a, z = 2 * h + 1, theta * lag
    past = torch.exp(torch.lgamma(a) - z)
    terms = scaled_upper_gamma(a, z) + past + lower_convolution(a, z)
    covariance: Tensor = terms / (4 * theta ** (2 * h)) - power(lag, 2 * h) / 2
    return covariance
