"""Checks of noise parameters and data, with messages that name the entry."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError
from sciprob.spaces import Space
from sciprob.spaces.shapes import broadcast_shapes


def refuse(bad: Tensor, values: Tensor, name: str, expected: str, remedy: str) -> None:
    """Refuse a tensor where `bad` holds.

    Raises:
        DataError: Naming the first bad entry and its value.
    """
    if bool(bad.any()):
        entry = tuple(int(i) for i in bad.nonzero()[0])
        where = f"entry {entry[0] if len(entry) == 1 else entry} is " if entry else "got "
        message = f"`{name}` should be {expected}, {where}{float(values[entry]):g}; {remedy}."
        raise DataError(message)


def broadcastable(value: float | Tensor, space: Space, name: str) -> Tensor:
    """`value` as a floating-point tensor (float64 if it was a number) that broadcasts to the space.

    Raises:
        ShapeError: If it does not broadcast.
    """
    given = value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    given = given if given.is_floating_point() else given.to(torch.float64)
    try:
        fits = broadcast_shapes(given.shape, space.shape) == space.shape
    except ShapeError:
        fits = False
    if not fits:
        message = f"`{name}` should be a number or broadcast to {space.shape} {space.dims}, got {tuple(given.shape)}."
        raise ShapeError(message)
    return given


def positive(value: float | Tensor, space: Space, name: str) -> Tensor:
    """A parameter that is positive and finite everywhere.

    Raises:
        DataError: If it is not.
        ShapeError: If it does not broadcast to the space.
    """
    given = broadcastable(value, space, name)
    refuse(~(torch.isfinite(given) & (given > 0)), given, name, "positive and finite", "correct it or mask the entry")
    return given


def nonnegative(value: float | Tensor, space: Space, name: str) -> Tensor:
    """A parameter that is finite and not negative.

    Raises:
        DataError: If it is.
        ShapeError: If it does not broadcast to the space.
    """
    given = broadcastable(value, space, name)
    refuse(~(torch.isfinite(given) & (given >= 0)), given, name, "finite and not negative", "correct it")
    return given


def finite(y: Tensor, space: Space) -> None:
    """Refuse data that are not finite.

    Raises:
        DataError: Naming the first bad entry.
        ShapeError: If the data do not fit the space.
    """
    space.batch_shape(y, "data")
    refuse(~torch.isfinite(y), y, "data", "finite", "remove it or mask it with a `Restriction`")
