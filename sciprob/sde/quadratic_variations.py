r"""Hurst index by ratios of quadratic variations of second differences.

E (B_{i+2m} - 2 B_{i+m} + B_i)^2 = c sigma^2 m^{2H} + 6 tau^2, tau the measurement error. Sources: Istas and
Lang, Ann. Inst. H. Poincare 33 (1997); Kent and Wood, J. R. Stat. Soc. B 59 (1997).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.sde.covariance import power
from sciprob.sde.hurst_estimate import HurstEstimate, Observed, increments_of

_COEFFICIENTS = ((0, 1.0), (1, -2.0), (2, 1.0))


def hurst_quadratic_variations(x: Tensor, *, observed: Observed, noise: bool = False) -> HurstEstimate:
    r"""H from variations at lags 1 and 2, or with measurement errors at lags 1, 2 and 4; O(n).

    No optimisation and no assumption beyond the scaling at small lags (any smooth trend drops out), at
    1.7 to 3.4 times the standard error of the likelihood. Standard errors by the delta method with the
    exact covariance of the variations at the estimate.

    Args:
        x: Series `(*batch, n)`.
        observed: "levels" or "increments", as for `hurst_likelihood`.
        noise: Allow for measurement errors of the levels: 2^{2H} = (V_4 - V_2) / (V_2 - V_1). Where this has
            no solution in (0, 1) the results are NaN: a rough path and noise cannot be told apart there.

    Raises:
        DataError: If the series is too short, constant, or not finite.
        UnsupportedProblemError: For measurement errors of increments, which scale as another power.
    """
    if noise and observed == "increments":
        message = "variations know measurement errors of levels only; use `hurst_likelihood` for noisy increments."
        raise UnsupportedProblemError(message)
    y = increments_of(x, observed)
    path = torch.nn.functional.pad(y.cumsum(-1), (1, 0)) if observed == "increments" else x.double()
    lags = [1, 2, 4] if noise else [1, 2]
    v = torch.stack([_second_difference(path, m).square().mean(-1) for m in lags], dim=-1).requires_grad_()
    with torch.enable_grad():
        ratio = (v[..., 2] - v[..., 1]) / (v[..., 1] - v[..., 0]) if noise else v[..., 1] / v[..., 0]
        h = ratio.log() / (2 * math.log(2))
        (slope,) = torch.autograd.grad(h.sum(), v)
    v, h = v.detach(), h.detach()
    valid = (h > 0) & (h < 1)
    if noise:
        valid &= v[..., 1] > v[..., 0]
    h = torch.where(valid, h, torch.full_like(h, torch.nan))
    constant = 4 - 2 ** (2 * h)
    variance = (v[..., 1] - v[..., 0]) / (constant * (2 ** (2 * h) - 1)) if noise else v[..., 0] / constant
    error = ((v[..., 0] - constant * variance) / 6).clamp_min(0) if noise else torch.zeros_like(h)
    covariance = _covariance(h, variance, error, lags, path.shape[-1])
    std_error = (slope[..., None, :] @ covariance @ slope[..., None]).squeeze(-1).squeeze(-1).sqrt()
    nothing = torch.full_like(h, torch.nan)
    values = (h, std_error, variance.sqrt(), error.sqrt(), nothing)
    return HurstEstimate(*(value.to(x.dtype) for value in values))


def _second_difference(path: Tensor, m: int) -> Tensor:
    return path[..., 2 * m :] - 2 * path[..., m:-m] + path[..., : -2 * m]


def _covariance(h: Tensor, variance: Tensor, error: Tensor, lags: list[int], n: int) -> Tensor:
    """Covariance of the mean squares: 2 / (N_a N_b) sum_ij Cov(d_a(i), d_b(j))^2, `(*batch, lags, lags)`."""
    reach = n + 2 * lags[-1]
    k = torch.arange(-reach, reach + 1, dtype=torch.float64, device=h.device)
    # - variogram / 2 and the covariance of errors, which second differences turn into covariances
    table = -variance[..., None] / 2 * power(k.abs(), 2 * h[..., None]) + error[..., None] * (k == 0)
    k = k[2 * lags[-1] + 1 : -2 * lags[-1] - 1]
    rows = []
    for a in lags:
        row = []
        for b in lags:
            cross = torch.zeros_like(table[..., : 2 * n - 1])
            for p, c in _COEFFICIENTS:
                for q, d in _COEFFICIENTS:
                    start = 2 * lags[-1] + 1 + p * a - q * b
                    cross = cross + c * d * table[..., start : start + 2 * n - 1]
            count_a, count_b = n - 2 * a, n - 2 * b
            pairs = ((k + count_b).clamp_max(count_a) - k.clamp_min(0)).clamp_min(0)
            row.append(2 * (pairs * cross.square()).sum(-1) / (count_a * count_b))
        rows.append(torch.stack(row, dim=-1))
    return torch.stack(rows, dim=-2)
