"""Kernel interpolation from any set of points to fixed nodes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import DataError

_AT_ONCE = 1 << 24  # kernel values held at once


def kernel_interpolation(
    points: Tensor, values: Tensor, nodes: Tensor, lengths: Tensor, log_weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Weighted averages of values near nodes, and how many points are near.

        Y_p(g) = sum_i a_i k_p(g, x_i) h_ip / sum_i a_i k_p(g, x_i),     k_p(g, x) = exp(-|g - x|^2 / (2 l_p^2))
        rho_p(g) = log( sum_i a_i k_p(g, x_i) / sum_i a_i )

    Normalised in log space: constants are reproduced exactly, and where no point is within a length the
    nearest one counts, so that no node is ever without value or gradient. Order and repetition of the
    points change nothing. Averages depend on where points are dense; rho tells.

    Args:
        points: `(*batch, m, d)`, m > 0.
        values: h `(*batch, m, p)`.
        nodes: `(g, d)`.
        lengths: l `(p,)`, in the unit of the coordinates.
        log_weights: log a `(*batch, m)`; -inf leaves a point out, as where sets of different size are padded to
            one. By default all equal.

    Returns:
        Y and rho, `(*batch, g, p)` each.

    Raises:
        DataError: If there is no point.

    Source: the interpolation of GICNet, Vadeboncoeur et al., ICML 2023, with a normalisation that cannot vanish.
    """
    if points.shape[-2] == 0:
        message = "kernel interpolation needs at least one point, got none."
        raise DataError(message)
    squared = (nodes.unsqueeze(-2) - points.unsqueeze(-3)).square().sum(-1)  # (*batch, g, m)
    if log_weights is None:
        total = points.new_tensor(math.log(points.shape[-2]))
    else:
        total = log_weights.logsumexp(-1)[..., None, None]
    step = max(1, _AT_ONCE // max(1, squared.numel()))
    averages, densities = [], []
    for start in range(0, len(lengths), step):
        scale = -0.5 / lengths[start : start + step].square()
        log_kernel = squared.unsqueeze(-3) * scale[:, None, None]  # (*batch, p, g, m)
        if log_weights is not None:
            log_kernel = log_kernel + log_weights[..., None, None, :]
        mass = log_kernel.logsumexp(-1)
        share = (log_kernel - mass.unsqueeze(-1)).exp()
        part = values[..., start : start + step].mT.unsqueeze(-1)  # (*batch, p, m, 1)
        averages.append((share @ part)[..., 0])
        densities.append(mass)
    return torch.cat(averages, dim=-2).mT, torch.cat(densities, dim=-2).mT - total
