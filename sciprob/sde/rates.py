r"""Mean-reversion rates of the Ornstein-Uhlenbeck processes that stand for fractional noise.

All grids are geometric, `(K,)`, float64. What they miss: nothing faster than the largest rate is rough,
nothing slower than the smallest one is remembered.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.sde.parameters import Kind


def geometric_rates(lowest: float, highest: float, count: int) -> Tensor:
    """`count` rates from `lowest` to `highest`; one rate is their geometric mean.

    Raises:
        ConfigError: If not 0 < lowest <= highest or count < 1.
    """
    if not (0 < lowest <= highest < math.inf) or count < 1:
        message = f"rates need 0 < lowest <= highest and a count of at least 1, got {lowest:g}, {highest:g}, {count}."
        raise ConfigError(message)
    if count == 1:
        return torch.tensor([math.sqrt(lowest * highest)], dtype=torch.float64)
    return torch.logspace(math.log10(lowest), math.log10(highest), count, dtype=torch.float64)


def rates_for_times(*, horizon: float, resolution: float, kind: Kind, count: int | None = None) -> Tensor:
    """Rates for paths looked at from `resolution` to `horizon`, for any H: the grid to learn H with.

    From 1e-6 / horizon (type I, whose past is infinitely long) or 0.1 / horizon (type II) to 1e4 / resolution;
    by default three rates in two decades. On 256 times with errors of 0.02 the Kullback-Leibler divergence of the law
    of the data is then below 0.03 for H from 0.2 to 0.95, 0.3 at H = 0.1 and 6 at H = 0.05.

    Args:
        horizon: Length of the path, T.
        resolution: Smallest gap between times that matter.
        kind: "I" or "II".
        count: Number of rates.

    Raises:
        ConfigError: If not 0 < resolution <= horizon.
    """
    if not 0 < resolution <= horizon:
        message = f"rates need 0 < resolution <= horizon, got {resolution:g} and {horizon:g}."
        raise ConfigError(message)
    lowest = (1e-6 if kind == "I" else 0.1) / horizon
    highest = 1e4 / resolution
    return geometric_rates(lowest, highest, count or math.ceil(1.5 * math.log10(highest / lowest)) + 1)


def rates_for_hurst(hurst: float, *, horizon: float, count: int, kind: Kind) -> Tensor:
    r"""Rates for one known H, whose path error decays like exp(-c sqrt(K)); 1 to 3 times the best geometric grid's.

    gamma T = exp(-2 alpha sqrt(K) / ((d - H) A)) to exp(2 alpha sqrt(K) / (H A)), A = sqrt(1/H + 1/(d - H)),
    alpha = 1.06418 and d = 1 (type I), 3/2 (type II, H < 1/2), 5/2 (type II, H > 1/2). Source: the rate of Bayer
    and Breneis, Quant. Finance 23 (2023), with doubled exponents. For H near 0 the largest rates lie far
    beyond what any step resolves; then `rates_for_times` is the better choice.

    Raises:
        ConfigError: If H leaves (0, 1) or count < 1.
    """
    if not 0 < hurst < 1:
        message = f"`hurst` should lie strictly between 0 and 1, got {hurst:g}."
        raise ConfigError(message)
    d = 1.0 if kind == "I" else 1.5 if hurst < 0.5 else 2.5
    spread = 2 * 1.06418 * math.sqrt(count) / math.sqrt(1 / hurst + 1 / (d - hurst))
    return geometric_rates(math.exp(-spread / (d - hurst)) / horizon, math.exp(spread / hurst) / horizon, count)


def published_rates(count: int = 5, highest: float = 20.0) -> Tensor:
    """The fixed grid 1 / highest to highest of Daems et al., ICLR 2024, for comparisons: too narrow for most H."""
    return geometric_rates(1 / highest, highest, count)
