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
    rank = max(map(len, shapes), default=0)
    sizes = []
    for axis in range(-rank, 0):
        found = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(found) > 1:
            message = f"shapes should broadcast to one, got {[tuple(shape) for shape in shapes]}."
            raise ShapeError(message)
        sizes.append(found.pop() if found else 1)
    return torch.Size(sizes)
