"""Are ranks uniform? The statistics behind simulation-based calibration."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from sciprob.errors import DataError

_SIMULATIONS = 4000
_CLEAR = 3.0  # standard errors that tell in which way a method errs
_LEVEL = 0.01  # of the whole set of tests: one false alarm in a hundred calibrated methods


@dataclass(frozen=True)
class RankTest:
    """What the ranks of one quantity say.

    Attributes:
        p_value: Of uniformity, by the largest pointwise deviation of the empirical distribution function.
        dispersion: 12 E(u - 1/2)^2 of the relative ranks u: 1 if calibrated, above 1 if the truth lies too often
            in the tails (intervals too narrow), below 1 if too rarely (too wide).
        dispersion_z: The same, in standard errors from 1.
        bias_z: Mean of u - 1/2 in standard errors: negative if the draws lie above the truth.
    """

    p_value: float
    dispersion: float
    dispersion_z: float
    bias_z: float


def rank_test(ranks: Tensor, draws: int) -> RankTest:
    """Test whether ranks are uniform on 0, ..., `draws`.

    The statistic is the smallest pointwise binomial tail probability of the empirical distribution function over
    all values; its distribution is simulated once per size, so the p-value is exact to 1 / 4000.

    Args:
        ranks: Number of posterior draws below the truth, one per simulation, `(n,)`.
        draws: Draws per simulation, L.

    Raises:
        DataError: If there are fewer than 10 ranks, or one lies outside 0, ..., L.

    Source: Saeilynoja, Buerkner, Vehtari, Statistics and Computing 32 (2022).
    """
    r = ranks.detach().cpu().to(torch.int64).numpy()
    n = len(r)
    if n < 10 or r.min() < 0 or r.max() > draws:
        message = f"a rank test needs at least 10 ranks between 0 and {draws}, got {n} between {r.min()} and {r.max()}."
        raise DataError(message)
    null = _null_distribution(n, draws)
    statistic = _statistic(r[None], n, draws)[0]
    p_value = (1 + int((null <= statistic).sum())) / (1 + len(null))
    u = (r + 0.5) / (draws + 1)
    dispersion = 12 * float(np.mean((u - 0.5) ** 2))
    bias = float(u.mean() - 0.5)
    return RankTest(p_value, dispersion, (dispersion - 1) / math.sqrt(0.8 / n), bias * math.sqrt(12 * n))


def verdict(tests: Mapping[str, RankTest], marginals: Sequence[str]) -> str:
    """One line: calibrated, over-confident, under-confident, biased, or miscalibrated, and by which quantity.

    Args:
        tests: By quantity.
        marginals: Quantities that are linear in m. Only their ranks pile up at both ends where intervals are too
            narrow; those of a norm or a likelihood go to one side.
    """
    worst = min(tests, key=lambda name: tests[name].p_value)
    corrected = min(1.0, tests[worst].p_value * len(tests))
    if corrected > _LEVEL:
        return f"calibrated, as far as these simulations tell (smallest corrected p = {corrected:.2g}, `{worst}`)"
    kind, detail = "miscalibrated", ""
    if marginals:
        test = max((tests[name] for name in marginals), key=lambda t: max(abs(t.dispersion_z), abs(t.bias_z)))
        if max(abs(test.dispersion_z), abs(test.bias_z)) > _CLEAR:
            kind, detail = _direction(test)
    return f"{kind} (corrected p = {corrected:.2g}, `{worst}`{detail})"


def _direction(test: RankTest) -> tuple[str, str]:
    if abs(test.bias_z) > abs(test.dispersion_z):
        return f"biased: draws lie {'below' if test.bias_z > 0 else 'above'} the truth", ""
    narrow = test.dispersion_z > 0
    kind = "over-confident: intervals too narrow" if narrow else "under-confident: intervals too wide"
    return kind, f", dispersion {test.dispersion:.2f} where 1 is right"


def uniform_band(n: int, draws: int, level: float = 0.95) -> tuple[Tensor, Tensor]:
    """Simultaneous band of the empirical distribution function of n uniform ranks.

    Returns:
        Lower and upper end at the fractions 1/(L+1), ..., L/(L+1), `(draws,)` each: with probability `level` the
        whole function stays inside.
    """
    gamma = float(np.quantile(_null_distribution(n, draws), 1 - level))
    z = np.arange(1, draws + 1) / (draws + 1)
    low, high = stats.binom.ppf(gamma / 2, n, z) / n, stats.binom.ppf(1 - gamma / 2, n, z) / n
    return torch.from_numpy(low), torch.from_numpy(high)


def _statistic(ranks: NDArray[np.int64], n: int, draws: int) -> NDArray[np.float64]:
    """Min over z of 2 min(P(B <= F), P(B >= F)) for rows of ranks, B binomial."""
    offsets = np.arange(len(ranks))[:, None] * (draws + 1)
    counts = np.bincount((ranks + offsets).ravel(), minlength=len(ranks) * (draws + 1)).reshape(len(ranks), -1)
    below = counts.cumsum(1)[:, :-1]  # number of ranks < 1, ..., < L + 1 without the last, which is n
    tails = _tails(n, draws)
    smallest: NDArray[np.float64] = tails[below, np.arange(draws)].min(1)
    return smallest


@functools.lru_cache(maxsize=32)
def _tails(n: int, draws: int) -> NDArray[np.float64]:
    """Two-sided tail probabilities of count c at value j, `(n + 1, draws)`."""
    c, z = np.arange(n + 1)[:, None], np.arange(1, draws + 1) / (draws + 1)
    tails: NDArray[np.float64] = 2 * np.minimum(stats.binom.cdf(c, n, z), stats.binom.sf(c - 1, n, z))
    return np.minimum(tails, 1.0)


@functools.lru_cache(maxsize=32)
def _null_distribution(n: int, draws: int) -> NDArray[np.float64]:
    """The statistic of uniform ranks; the generator is fixed, so that a p-value is a function of the ranks."""
    generator = np.random.default_rng(20)
    return _statistic(generator.integers(0, draws + 1, (_SIMULATIONS, n)), n, draws)
