"""What estimators of the Hurst index return, and the series they accept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError

Observed = Literal["levels", "increments"]


@dataclass(frozen=True)
class HurstEstimate:
    """Hurst indices of a batch of series, all `(*batch,)`.

    Attributes:
        hurst: Estimate of H.
        std_error: Its standard error; NaN where none exists (H at the end of the search, or no solution).
        scale: Standard deviation of one increment of the noise-free process.
        noise_std: Standard deviation of a measurement error; 0 where none was asked for or found.
        log_likelihood: Value at the maximum (Whittle's up to a constant); NaN for estimators without one.
    """

    hurst: Tensor
    std_error: Tensor
    scale: Tensor
    noise_std: Tensor
    log_likelihood: Tensor

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Normal confidence interval for H, cut to [0, 1]."""
        z = torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)).item()
        return (self.hurst - z * self.std_error).clamp_min(0), (self.hurst + z * self.std_error).clamp_max(1)

    def where(self, mask: Tensor, other: HurstEstimate) -> HurstEstimate:
        """These estimates where `mask` is true, `other` elsewhere."""
        names = [f.name for f in fields(self)]
        return HurstEstimate(*(torch.where(mask, getattr(self, name), getattr(other, name)) for name in names))


def increments_of(x: Tensor, observed: Observed) -> Tensor:
    """The increments of a series in float64, `(*batch, n)`.

    Raises:
        ConfigError: If `observed` is not a known name.
        DataError: If the series has fewer than 8 increments, is not finite, or is constant.
    """
    if observed not in ("levels", "increments"):
        message = f"`observed` should be 'levels' or 'increments', got {observed!r}."
        raise ConfigError(message)
    if x.ndim == 0 or not x.is_floating_point():
        message = f"a series should be a floating-point tensor (*batch, n), got {x.dtype} {tuple(x.shape)}."
        raise DataError(message)
    if not bool(x.isfinite().all()):
        where = tuple(x.isfinite().logical_not().nonzero()[0].tolist())
        message = f"a series should be finite, got {float(x[where])} at entry {where}; equal spacing allows no gaps."
        raise DataError(message)
    y = x.double().diff(dim=-1) if observed == "levels" else x.double()
    if y.shape[-1] < 8:
        message = f"a Hurst index needs at least 8 increments, got {y.shape[-1]}."
        raise DataError(message)
    spread = (y - y.mean(-1, keepdim=True)).square().mean(-1)
    if bool((spread <= 1e-24 * y.square().mean(-1)).any()):
        message = "a series should vary, got one whose increments are all equal."
        raise DataError(message)
    return y
