"""Grids: coordinates and interpolation."""

import pytest
import torch

from sciprob.errors import DataError, ShapeError
from sciprob.operators import PointObservation
from sciprob.spaces import GridSpace, Space


@pytest.mark.parametrize("centring", ["node", "cell"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_multilinear_fields_are_reproduced(d, centring):
    names = "zyx"[3 - d :]
    grid = GridSpace(
        (5, 4, 3)[:d], dims=tuple(names), lower=(0.0, -1.0, 2.0)[:d], upper=(1.0, 3.0, 2.5)[:d], centring=centring
    )
    lower, upper = torch.tensor(grid.lower).double(), torch.tensor(grid.upper).double()
    inside = torch.rand(20, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5 + 0.25
    axes = lower + (upper - lower) * inside
    points = axes.flip(-1)  # tensor axes z, y, x; points x, y, z

    def field(x):
        return 1 + x @ torch.tensor([2.0, -3.0, 0.5])[:d].double() + x.prod(-1)

    values = field(grid.points()).reshape(grid.shape)
    torch.testing.assert_close(PointObservation(grid, points)(values), field(points))


def test_points_follow_x_y_whatever_the_order_of_axes():
    grid = GridSpace((2, 3), dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 2.0))
    expected = torch.tensor([[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]).double()
    torch.testing.assert_close(grid.points(), expected)


def test_cell_centres_lie_half_a_cell_inside():
    grid = GridSpace((4,), dims=("x",), lower=(0.0,), upper=(1.0,), centring="cell")
    torch.testing.assert_close(grid.axis(0), torch.tensor([0.125, 0.375, 0.625, 0.875]).double())


def test_errors_name_what_is_wrong():
    grid = GridSpace((4, 4), dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 1.0))
    with pytest.raises(DataError, match=r"point 1 has x = 1.5, outside \[0, 1\]"):
        grid.interpolation(torch.tensor([[0.5, 0.5], [1.5, 0.5]]).double())
    with pytest.raises(DataError, match="point 0 has"):
        grid.interpolation(torch.tensor([[float("nan"), 0.5]]).double())
    with pytest.raises(ShapeError, match="increase"):
        GridSpace((4,), dims=("x",), lower=(1.0,), upper=(0.0,))
    with pytest.raises(ShapeError, match=r"batch axes go first"):
        Space((3,)).batch_shape(torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="dims"):
        Space((3,), dims=("a", "b"))
