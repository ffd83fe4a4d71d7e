"""Groups of tensors that are built once and follow the device of what they meet."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor


class Tables[T]:
    """A dataclass of tensors, also nested, copied to other devices on demand and kept there.

    No module buffers: operators are float64 inside, whatever they are converted to.

    Args:
        original: The dataclass, on the CPU.
    """

    def __init__(self, original: T) -> None:
        self._kept: dict[torch.device, T] = {torch.device("cpu"): original}

    def beside(self, x: Tensor) -> T:
        """The tables on the device of `x`."""
        if x.device not in self._kept:
            self._kept[x.device] = _moved(self._kept[torch.device("cpu")], x.device)
        return self._kept[x.device]


def _moved(item: Any, device: torch.device) -> Any:
    if isinstance(item, Tensor):
        return item.to(device)
    if is_dataclass(item) and not isinstance(item, type):
        return type(item)(**{field.name: _moved(getattr(item, field.name), device) for field in fields(item)})
    return item
