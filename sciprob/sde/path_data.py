"""Noisy values of paths at times, and the space that paths live in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.sde.parameters import as_double, check_times
from sciprob.spaces import Space


def path_space(times: Tensor, *, name: str = "x", unit: str = "1") -> Space:
    """The space of paths at `times (n,)`: one axis `time` with its coordinate, as observation in time expects."""
    return Space((len(times),), name=name, dims=("time",), unit=unit, coords={"time": check_times(times)})


@dataclass(frozen=True)
class PathData:
    """Observations v_i = x(t_i) + N(0, noise_std_i^2).

    Args:
        times: `(n,)`, from 0, increasing or repeated, any spacing; shared by the batch.
        values: `(*batch, n)`.
        noise_std: Broadcasts to `values`; 0 for exact values.

    Raises:
        DataError: If times are not sorted, values not finite, shapes disagree or a deviation is negative;
            the message names the row.
    """

    times: Tensor
    values: Tensor
    noise_std: Tensor | float

    def __post_init__(self) -> None:
        times = check_times(self.times)
        values = self.values
        if not values.is_floating_point() or values.ndim == 0 or values.shape[-1] != len(times):
            message = f"`values` should be floating point and end in the {len(times)} times, got {tuple(values.shape)}."
            raise DataError(message)
        if bool((times.diff() < 0).any()):
            row = int((times.diff() < 0).nonzero()[0]) + 1
            message = f"`times` should not decrease, got row {row} before row {row - 1}; sort the series by time."
            raise DataError(message)
        if not bool(values.isfinite().all()):
            row = int(values.isfinite().logical_not().nonzero()[0, -1])
            message = f"`values` should be finite, got a value that is not in row {row}; leave missing rows out."
            raise DataError(message)
        if bool((as_double(self.noise_std) < 0).any()):
            message = "`noise_std` should not be negative; it is a standard deviation, not a variance."
            raise DataError(message)

    @property
    def noise_variance(self) -> Tensor:
        """Variance of each error, `(*, n)` with a batch only where `noise_std` has one; float64."""
        std = as_double(self.noise_std, self.values.device)
        return std.square() * torch.ones(len(self.times), dtype=torch.float64, device=std.device)
