"""Broadcasting of shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sciprob.errors import ShapeError


def broadcast_shapes(*shapes: Sequence[int]) -> torch.Size:
    """The shape to which all shapes broadcast; torch's own function imports sympy, which takes seconds.

    Raises:
        ShapeError: If they do not broadcast.
    """
    sizes: list[int] = []  # plain loops, which torch.compile can follow
    for shape in shapes:
        sizes = [1] * (len(shape) - len(sizes)) + sizes
        for axis in range(-len(shape), 0):
            if shape[axis] == 1 or shape[axis] == sizes[axis]:
                continue
            if sizes[axis] != 1:
                message = f"shapes should broadcast to one, got {[tuple(shape) for shape in shapes]}."
                raise ShapeError(message)
            sizes[axis] = shape[axis]
    return torch.Size(sizes)
