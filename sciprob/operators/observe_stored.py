"""Values of a path at some of its stored times."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.operators.linear import LinearMap
from sciprob.operators.observe_time import stored_times
from sciprob.spaces import Space


class StoredTimes(LinearMap):
    """A path at stored times, exactly: `(n_times,)` -> `(k,)`.

    Rough paths must not be interpolated, so every wanted time has to be stored.

    Args:
        domain: Space with the one axis `time` and its coordinate, increasing.
        times: Wanted times `(k,)`, any order, perhaps repeated.

    Raises:
        DataError: If a time is not stored, up to rounding; names it.
        ShapeError: If `domain` has no time axis.
    """

    index: Tensor

    def __init__(self, domain: Space, times: Tensor) -> None:
        stored, wanted = stored_times(domain).double(), times.detach().double().cpu()
        right = torch.searchsorted(stored, wanted).clamp(0, len(stored) - 1)
        left = (right - 1).clamp_min(0)
        index = torch.where((stored[left] - wanted).abs() < (stored[right] - wanted).abs(), left, right)
        away = (stored[index] - wanted).abs() > 1e-9 * stored.abs().max().clamp_min(1e-300)
        if bool(away.any()):
            row = int(away.nonzero()[0])
            message = (
                f"time {float(wanted[row]):g} (row {row}) is not one of the {len(stored)} stored times; "
                "store the path there too."
            )
            raise DataError(message)
        codomain = Space((len(wanted),), name=domain.name, dims=("time",), unit=domain.unit, coords={"time": wanted})
        super().__init__(domain, codomain)
        self.register_buffer("index", index)

    def _apply_batched(self, m: Any) -> Any:
        return m[..., self.index]

    def _adjoint_batched(self, y: Any) -> Any:
        zero = torch.zeros(len(y), *self.domain.shape, dtype=y.dtype, device=y.device)
        return zero.index_add(1, self.index, y)
