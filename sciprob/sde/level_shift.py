"""Does one shift of the level explain what looks like long memory?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.sde.hurst import hurst_likelihood

_EDGE = 0.1  # share of the series at each end in which no shift is looked for


@dataclass(frozen=True)
class LevelShift:
    """The best single shift of the level of each series, all `(*batch,)`.

    Attributes:
        index: First entry after the shift.
        size: Level after minus level before.
        hurst: Estimate of H with the shift taken out.
        gain: Twice the gain in log likelihood, with H and scale fitted again.
    """

    index: Tensor
    size: Tensor
    hurst: Tensor
    gain: Tensor


def level_shift(x: Tensor) -> LevelShift:
    """Compare fractional noise around one level with noise around two levels.

    The shift is where least squares puts it. Long memory makes shifts of its own, so `gain` is large by chance too:
    a bound for it has to come from series without a shift.

    Args:
        x: Series of increments `(*batch, n)`, n at least 20, equally spaced.

    Raises:
        DataError: If the series is too short, constant, or not finite.
    """
    y = x.double()
    n = y.shape[-1]
    plain = hurst_likelihood(y, observed="increments")
    first = max(2, round(_EDGE * n))
    k = torch.arange(first, n - first + 1, dtype=torch.float64, device=y.device)
    sums = y.cumsum(-1)
    before = sums[..., first - 1 : n - first] / k
    after = (sums[..., -1:] - sums[..., first - 1 : n - first]) / (n - k)
    best = (k * (n - k) * (after - before).square()).argmax(-1, keepdim=True)
    size = (after - before).gather(-1, best)
    index = best + first
    shifted = y - size * (torch.arange(n, device=y.device) >= index)
    without = hurst_likelihood(shifted, observed="increments")
    gain = 2 * (without.log_likelihood - plain.log_likelihood)
    return LevelShift(index.squeeze(-1), size.squeeze(-1), without.hurst, gain)
