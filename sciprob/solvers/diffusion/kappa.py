"""The strength kappa of guidance in continuous weights, fixed or chosen to keep the weights even."""

from __future__ import annotations

import torch
from torch import Tensor

KAPPA_LIMIT = 1.5
_ROUND_OFF = 1e-24  # relative variance of a constant in float64


def rates(score_along: Tensor, square: Tensor, laplacian: Tensor | float, time_slope: Tensor) -> tuple[Tensor, Tensor]:
    r"""g_0 and g_1 of the log-weight rate g = g_0 + kappa g_1 per unit of falling variance v.

    For particles that move by dz = (S - kappa grad phi) dv + dW and represent p_v exp(-phi),
    g_0 = -S.grad phi + (lap phi + |grad phi|^2) / 2 + grad phi.(S - grad phi) + d phi / dv and
    g_1 = -grad phi.(S - grad phi) - lap phi.

    Args:
        score_along: S . grad phi, `(*sets, N)`.
        square: |grad phi|^2.
        laplacian: lap phi.
        time_slope: d phi / dv at fixed z.

    Source: Chen, Ren, Min, Ying, Izzo, arXiv 2506.03979 (2025); Skreta et al., arXiv 2503.02819 (2025), for kappa 1/2.
    """
    return (laplacian - square) / 2 + time_slope, square - score_along - laplacian


def adaptive_kappa(log_weights: Tensor, fixed: Tensor, slope: Tensor) -> Tensor:
    """Kappa that minimises the weighted variance of g_0 + kappa g_1, within [0, 1.5], `(*sets, 1)`.

    Args:
        log_weights: `(*sets, N)`.
        fixed: g_0.
        slope: g_1; where it is constant kappa does not matter and is 1.

    Source: Ren et al., arXiv 2509.21655 (2025), with one basis function.
    """
    w = log_weights.softmax(-1)
    usable = w > 0  # a particle without weight may hold infinities
    fixed, slope = (torch.where(usable, x, 0.0) for x in (fixed, slope))
    centred = slope - (w * slope).sum(-1, keepdim=True)
    covariance = (w * centred * fixed).sum(-1, keepdim=True)
    variance = (w * centred.square()).sum(-1, keepdim=True)
    size = (w * slope.square()).sum(-1, keepdim=True)
    kappa = torch.where(variance > _ROUND_OFF * size, -covariance / variance, 1.0)
    return kappa.nan_to_num(1.0).clamp(0.0, KAPPA_LIMIT)
