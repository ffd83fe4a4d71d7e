"""Convergence of Markov chains: rank-normalised split R-hat, effective sample sizes, errors.

All functions take draws `(chains, draws, *event)` and work on every entry of the event at once,
in float64. A quantity that never moves has R-hat NaN and the full number of draws as sample size.

Source: Vehtari, Gelman, Simpson, Carpenter, Buerkner, Bayesian Analysis 16 (2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sciprob.errors import DataError

_CHUNK = 1 << 21  # numbers treated at once; the Fourier transforms need several times as many
_FEWEST = 4
_RHAT, _EFFECTIVE = 1.05, 100


def rhat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat, the larger of bulk and tail, `(*event,)`; below 1.01 is good.

    Raises:
        DataError: If there are fewer than 4 draws per chain or draws are not finite.
    """
    return _by_columns(_rhat, draws)


def ess_bulk(draws: Tensor) -> Tensor:
    """Effective sample size in the bulk, from normal scores of the ranks, `(*event,)`.

    Raises:
        DataError: If there are fewer than 4 draws per chain or draws are not finite.
    """
    return _by_columns(lambda x: _ess(_normal_scores(_split(x))), draws)


def ess_tail(draws: Tensor, prob: float = 0.05) -> Tensor:
    """Effective sample size of the tails: the smaller one of the quantiles at `prob` and `1 - prob`, `(*event,)`.

    Raises:
        DataError: If there are fewer than 4 draws per chain or draws are not finite.
    """

    def tails(x: Tensor) -> Tensor:
        levels = torch.tensor([prob, 1 - prob], dtype=x.dtype, device=x.device)
        low, high = _quantiles(x, levels)
        return torch.minimum(_ess(_split((x <= low).double())), _ess(_split((x <= high).double())))

    return _by_columns(tails, draws)


def ess_mean(draws: Tensor) -> Tensor:
    """Effective sample size of the mean, without rank normalisation, `(*event,)`.

    Raises:
        DataError: If there are fewer than 4 draws per chain or draws are not finite.
    """
    return _by_columns(lambda x: _ess(_split(x)), draws)


def mcse_mean(draws: Tensor) -> Tensor:
    """Monte-Carlo standard error of the mean, std / sqrt(ess), `(*event,)`, in the unit of the draws.

    Raises:
        DataError: If there are fewer than 4 draws per chain or draws are not finite.
    """
    return _by_columns(lambda x: x.flatten(1).std(1) / _ess(_split(x)).sqrt(), draws)


def summary(draws: Tensor) -> dict[str, float]:
    """Worst R-hat and smallest effective sample sizes over the event, entries that never move left out.

    Raises:
        DataError: If there are fewer than 4 draws per chain or draws are not finite.
    """
    ratio, bulk, tail = rhat(draws).flatten(), ess_bulk(draws).flatten(), ess_tail(draws).flatten()
    moving = torch.isfinite(ratio)
    if not bool(moving.any()):
        return {"rhat_max": float("inf"), "ess_bulk_min": 0.0, "ess_bulk_median": 0.0, "ess_tail_min": 0.0}
    return {
        "rhat_max": float(ratio[moving].max()),
        "ess_bulk_min": float(bulk[moving].min()),
        "ess_bulk_median": float(bulk[moving].median()),
        "ess_tail_min": float(tail[moving].min()),
    }


def advice(figures: Mapping[str, float]) -> dict[str, str]:
    """`{"advice": ...}` if the chains of a `summary` do not agree or moved too little, else nothing.

    For quantiles R-hat should be below 1.01 and the effective draws 400 (Vehtari et al., 2021); the
    advice comes above 1.05 and below 100, where means begin to suffer.
    """
    ratio, draws = figures["rhat_max"], figures["ess_bulk_min"]
    if ratio <= _RHAT and draws >= _EFFECTIVE:
        return {}
    return {"advice": f"R-hat reaches {ratio:.2f} with {draws:.0f} effective draws; take more or longer chains."}


def _by_columns(function: Callable[[Tensor], Tensor], draws: Tensor) -> Tensor:
    """Apply `function: (columns, chains, draws) -> (columns,)` to the event, some columns at a time."""
    if draws.ndim < 2 or draws.shape[0] < 1 or draws.shape[1] < _FEWEST:
        message = (
            f"draws should be (chains, at least {_FEWEST} draws, ...), got {tuple(draws.shape)}; run longer chains."
        )
        raise DataError(message)
    chains, n, *event = draws.shape
    columns = draws.reshape(chains, n, -1)
    step = max(1, _CHUNK // (chains * n))
    parts = []
    for start in range(0, columns.shape[2], step):
        part = columns[:, :, start : start + step].double().permute(2, 0, 1).contiguous()
        if not bool(torch.isfinite(part).all()):
            message = "draws should be finite, some are not; look at the chains before their statistics."
            raise DataError(message)
        parts.append(function(part))
    empty = torch.zeros(0, dtype=torch.float64, device=draws.device)
    return torch.cat([empty, *parts]).reshape(event)


def _split(x: Tensor) -> Tensor:
    """Halves of chains as chains; the middle draw of an odd number is left out."""
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half], x[..., -half:]], dim=-2)


def _normal_scores(x: Tensor) -> Tensor:
    """Normal quantiles of the pooled ranks, ties at their average rank (rejections repeat a draw)."""
    flat = x.flatten(1)
    ordered = flat.sort(dim=1).values
    below, up_to = torch.searchsorted(ordered, flat), torch.searchsorted(ordered, flat, right=True)
    rank = (below + up_to + 1).double() / 2
    scores: Tensor = torch.special.ndtri((rank - 0.375) / (flat.shape[1] + 0.25))
    return scores.reshape(x.shape)


def _quantiles(x: Tensor, levels: Tensor) -> Tensor:
    """Pooled quantiles, linear between order statistics, `(levels, columns, 1, 1)`."""
    ordered = x.flatten(1).sort(dim=1).values
    position = levels * (ordered.shape[1] - 1)
    left = position.floor().long().clamp_max(ordered.shape[1] - 2)
    values = torch.lerp(ordered[:, left], ordered[:, left + 1], position - left)
    return values.T[:, :, None, None]


def _rhat(x: Tensor) -> Tensor:
    halves = _split(x)
    centre = _quantiles(halves, torch.full((1,), 0.5, dtype=x.dtype, device=x.device))[0]
    bulk, tail = _normal_scores(halves), _normal_scores((halves - centre).abs())
    return torch.maximum(_variance_ratio(bulk), _variance_ratio(tail))


def _variance_ratio(x: Tensor) -> Tensor:
    """Square root of pooled over within-chain variance, `(columns,)`."""
    n = x.shape[-1]
    between, within = x.mean(-1).var(-1), x.var(-1).mean(-1)
    return (between / within + (n - 1) / n).sqrt()


def _ess(x: Tensor) -> Tensor:
    """Effective sample size of the mean by Geyer's initial monotone sequence, `(columns,)`."""
    _, chains, n = x.shape
    covariance = _autocovariance(x).mean(1)
    within = covariance[:, 0] * n / (n - 1)
    pooled = covariance[:, 0] + (x.mean(-1).var(-1) if chains > 1 else 0)
    rho = 1 - (within[:, None] - covariance) / pooled[:, None]
    rho[:, 0] = 1
    pairs = rho[:, : n - n % 2].unflatten(1, (-1, 2)).sum(-1)
    # The sum ends before the first pair that is not positive, at the latest where lags run out.
    last = max((n - 3) // 2, 0) if n > 4 else 0
    ends = pairs[:, : last + 1] <= 0
    ends[:, last] = True
    end = ends.long().argmax(1)
    monotone = pairs.cummin(1).values.cumsum(1)
    total = torch.where(end > 0, monotone.gather(1, (end - 1).clamp_min(0)[:, None])[:, 0], 0)
    remainder = rho.gather(1, 2 * end[:, None])[:, 0]
    remainder = torch.where(pairs.gather(1, end[:, None])[:, 0] >= 0, remainder, remainder.clamp_min(0))
    size = torch.tensor(float(chains * n), dtype=x.dtype, device=x.device)
    # Antithetic chains may beat independent draws, but no estimate from few draws shows by how much.
    time = torch.maximum(-1 + 2 * total + remainder, 1 / size.log10())
    constant = (x.amax((1, 2)) - x.amin((1, 2))) < 1e-15
    return torch.where(constant, size, size / time)


def _autocovariance(x: Tensor) -> Tensor:
    """Autocovariances at all lags, divided by n, `(..., n)`."""
    n = x.shape[-1]
    spectrum = torch.fft.rfft(x - x.mean(-1, keepdim=True), n=2 * n)
    covariance: Tensor = torch.fft.irfft(spectrum.abs().square(), n=2 * n)
    return covariance[..., :n] / n
