"""Groups of tensors that are built once in float64 and follow the dtype and device of what they meet."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Tables[T]:
    """A dataclass of tensors (also nested, also tuples), converted on demand and kept per dtype and device.

    Integer tensors keep their type. No module buffers: conversions to float32 and back would lose digits.

    Args:
        original: The dataclass, float64 on the CPU.
    """

    def __init__(self, original: T) -> None:
        self._original = original
        self._kept: dict[tuple[torch.dtype, torch.device], T] = {}

    def like(self, x: Tensor) -> T:
        """The tables in the dtype and on the device of `x`."""
        key = (x.dtype, x.device)
        if key not in self._kept:
            self._kept[key] = _moved(self._original, x)
        return self._kept[key]


def _moved(item: Any, like: Tensor) -> Any:
    if isinstance(item, Tensor):
        return item.to(like.device, like.dtype if item.is_floating_point() else item.dtype)
    if is_dataclass(item) and not isinstance(item, type):
        return type(item)(**{field.name: _moved(getattr(item, field.name), like) for field in fields(item)})
    return item
