"""Broadcasting of shapes, beside torch's own function."""

import itertools

import pytest
import torch

from sciprob.errors import ShapeError
from sciprob.spaces.shapes import broadcast_shapes

SHAPES = [(), (1,), (3,), (0,), (2, 1), (1, 3), (2, 3), (4, 1, 1), (4, 0, 3)]


@pytest.mark.parametrize("shapes", [(), *itertools.product(SHAPES, repeat=2)])
def test_as_torch(shapes):
    try:
        expected = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        with pytest.raises(ShapeError, match="should broadcast to one"):
            broadcast_shapes(*shapes)
        return
    found = broadcast_shapes(*shapes)
    assert isinstance(found, torch.Size)
    assert found == expected
