"""Products of spaces: elements are dictionaries of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.spaces.space import Space


@dataclass(frozen=True)
class ProductSpace:
    """Dictionaries `{name: (*batch, *factor.shape)}` with one common batch."""

    factors: Mapping[str, Space]

    @property
    def name(self) -> str:
        """The factor names, joined."""
        return "(" + ", ".join(self.factors) + ")"

    @property
    def shape(self) -> dict[str, tuple[int, ...]]:
        """Event shape of each factor."""
        return {name: space.shape for name, space in self.factors.items()}

    @property
    def size(self) -> int:
        """Number of real numbers in one element."""
        return sum(space.size for space in self.factors.values())

    def batch_shape(self, x: Mapping[str, Tensor], name: str | None = None) -> torch.Size:
        """Common leading axes.

        Raises:
            ShapeError: If factors are missing, do not fit or disagree on the batch.
        """
        if not isinstance(x, Mapping) or set(x) != set(self.factors):
            given = sorted(x) if isinstance(x, Mapping) else type(x).__name__
            message = f"`{name or self.name}` should be a dictionary with keys {sorted(self.factors)}, got {given}."
            raise ShapeError(message)
        batches = {space.batch_shape(x[key], key) for key, space in self.factors.items()}
        if len(batches) != 1:
            given = sorted(str(tuple(batch)) for batch in batches)
            message = f"the factors of `{name or self.name}` should share their batch axes, got {given}."
            raise ShapeError(message)
        return batches.pop()

    def merge(self, x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Flatten the batch axes of every factor."""
        self.batch_shape(x)
        return {key: space.merge(x[key]) for key, space in self.factors.items()}

    def split(self, x: Mapping[str, Tensor], batch: torch.Size) -> dict[str, Tensor]:
        """Undo `merge`."""
        return {key: space.split(x[key], batch) for key, space in self.factors.items()}

    def inner(self, x: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
        """Sum of the factors' inner products, `(*batch,)`."""
        return torch.stack([space.inner(x[key], y[key]) for key, space in self.factors.items()]).sum(0)

    def flatten(self, x: Mapping[str, Tensor]) -> Tensor:
        """Concatenate to one vector, `(*batch, size)`."""
        batch = self.batch_shape(x)
        return torch.cat([x[key].reshape(*batch, space.size) for key, space in self.factors.items()], dim=-1)

    def unflatten(self, vector: Tensor) -> dict[str, Tensor]:
        """Undo `flatten`."""
        pieces = vector.split([space.size for space in self.factors.values()], dim=-1)
        return {
            key: piece.reshape(*vector.shape[:-1], *space.shape)
            for (key, space), piece in zip(self.factors.items(), pieces, strict=True)
        }

    def compatible(self, other: object) -> bool:
        """Whether both have the same factors with the same shapes."""
        return isinstance(other, ProductSpace) and self.shape == other.shape

    def __hash__(self) -> int:
        return hash(tuple((key, math.prod(space.shape)) for key, space in self.factors.items()))
