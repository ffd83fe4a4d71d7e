"""What a tensor means: shape, axis names, unit, coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciprob.errors import ShapeError, UnsupportedProblemError


@dataclass(frozen=True)
class Space:
    """A space of real tensors; elements are `(*batch, *shape)`.

    Args:
        shape: Event shape.
        name: What is stored here (`m`, `log_conductivity`, ...); names it in files and messages.
        dims: One name per axis of `shape`; default `name_0, name_1, ...`.
        unit: Physical unit, documentation only.
        coords: Coordinates by name; each a tensor along the axis of the same name, or along the
            only axis of the space.
        labels: Names of the entries along the only axis, for a few numbers that are no field.

    Raises:
        ShapeError: If dims or labels do not fit the shape.
    """

    shape: tuple[int, ...]
    name: str = "m"
    dims: tuple[str, ...] = ()
    unit: str = "1"
    coords: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)
    labels: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if not self.dims:
            object.__setattr__(self, "dims", tuple(f"{self.name}_{i}" for i in range(len(self.shape))))
        if len(self.dims) != len(self.shape):
            message = f"a space of shape {self.shape} needs {len(self.shape)} dims, got {self.dims}."
            raise ShapeError(message)
        if self.labels and self.shape != (len(self.labels),):
            message = f"`labels` should name the entries of a space of shape {self.shape}, got {self.labels}."
            raise ShapeError(message)

    @property
    def size(self) -> int:
        """Number of real numbers in one element."""
        return math.prod(self.shape)

    def batch_shape(self, x: Tensor, name: str | None = None) -> torch.Size:
        """Leading axes of `x`.

        Raises:
            ShapeError: If `x` does not end in `shape`.
        """
        n = len(self.shape)
        if x.ndim < n or tuple(x.shape[x.ndim - n :]) != self.shape:
            hint = ""
            if x.ndim > n > 0 and tuple(x.shape[:n]) == self.shape:
                hint = "; batch axes go first: did you mean `movedim(-1, 0)`?"
            message = f"`{name or self.name}` should end in {self.shape} {self.dims}, got {tuple(x.shape)}{hint}"
            raise ShapeError(message)
        return x.shape[: x.ndim - n]

    def merge(self, x: Tensor) -> Tensor:
        """Flatten the batch axes: `(*batch, *shape)` -> `(B, *shape)`."""
        batch = self.batch_shape(x)
        return x.reshape(math.prod(batch), *self.shape)

    def split(self, x: Tensor, batch: torch.Size) -> Tensor:
        """Undo `merge`: `(B, *shape)` -> `(*batch, *shape)`.

        Raises:
            ShapeError: If `x` is not `(B, *shape)`; names this space, so a wrong operator is found.
        """
        expected = (math.prod(batch), *self.shape)
        if tuple(x.shape) != expected:
            message = f"an operator returned {tuple(x.shape)} where {expected} was expected for `{self.name}`."
            raise ShapeError(message)
        return x.reshape((*batch, *self.shape))

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        """Euclidean inner product over the event axes, `(*batch,)`."""
        return self.total(x * y)

    def total(self, x: Tensor) -> Tensor:
        """Sum over the event axes, `(*batch,)`."""
        return x.reshape(*self.batch_shape(x), self.size).sum(-1)

    def compatible(self, other: object) -> bool:
        """Whether elements of `other` are elements of this space."""
        return isinstance(other, Space) and self.shape == other.shape

    def interpolation(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Point evaluation as gather and weights.

        Args:
            points: `(n, d)`, columns in the order x, y, z.

        Returns:
            `index (n, k)` into the flattened event and `weights (n, k)`: `f(p_i) = sum_k w_ik f[index_ik]`.

        Raises:
            UnsupportedProblemError: If the space has no geometry.
        """
        message = f"space `{self.name}` {self.shape} has no geometry, so it cannot be evaluated at points."
        raise UnsupportedProblemError(message)
