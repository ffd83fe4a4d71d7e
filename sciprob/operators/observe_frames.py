"""The first frames of a video."""

from __future__ import annotations

from typing import Any

import torch

from sciprob.errors import ConfigError
from sciprob.operators.linear import LinearMap
from sciprob.spaces import Space


class FirstFrames(LinearMap):
    """A video up to its k-th frame: `(n, *frame)` -> `(k, *frame)`.

    Args:
        domain: Space of the video; its first axis counts frames and is called `time`.
        count: k.

    Raises:
        ConfigError: If there are not so many frames.
    """

    def __init__(self, domain: Space, count: int) -> None:
        if not 1 <= count <= domain.shape[0]:
            message = f"the frames seen should be 1 to {domain.shape[0]} in number, got {count}."
            raise ConfigError(message)
        coords = {"time": domain.coords["time"][:count]}
        shape = (count, *domain.shape[1:])
        super().__init__(domain, Space(shape, name=domain.name, dims=domain.dims, unit=domain.unit, coords=coords))
        self.count = count

    def _apply_batched(self, m: Any) -> Any:
        return m[:, : self.count]

    def _adjoint_batched(self, y: Any) -> Any:
        rest = torch.zeros(len(y), self.domain.shape[0] - self.count, *y.shape[2:], dtype=y.dtype, device=y.device)
        return torch.cat([y, rest], dim=1)
