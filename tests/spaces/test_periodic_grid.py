"""Periodic grids: points, wrapped interpolation, refusals."""

import math

import pytest
import torch

from sciprob.errors import DataError, ShapeError
from sciprob.operators import PointObservation
from sciprob.spaces import GridSpace


def grid_1d(n=8):
    return GridSpace((n,), dims=("x",), lower=(-1.0,), upper=(1.0,), centring="periodic")


@pytest.mark.parametrize("n", [1, 7, 8])
def test_points_start_at_the_lower_bound_and_leave_out_the_upper(n):
    expected = -1 + 2 / n * torch.arange(n, dtype=torch.float64)
    torch.testing.assert_close(grid_1d(n).axis(0), expected, rtol=0, atol=1e-15)


def test_the_last_cell_interpolates_towards_the_first_point():
    grid = grid_1d(4)
    values = torch.tensor([1.0, 2.0, 4.0, 8.0]).double()
    points = torch.tensor([[0.5], [0.75], [1.0]]).double()  # last point, middle of the last cell, first point again
    expected = torch.tensor([8.0, 4.5, 1.0]).double()
    torch.testing.assert_close(PointObservation(grid, points)(values), expected)


@pytest.mark.parametrize("periods", [(1, 0), (-3, 2)])
def test_a_shift_by_whole_periods_changes_nothing(periods):
    grid = GridSpace((5, 6), dims=("y", "x"), lower=(0.0, 1.0), upper=(2.0, 4.0), centring="periodic")
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(3, 5, 6, generator=generator, dtype=torch.float64)
    points = torch.rand(20, 2, generator=generator, dtype=torch.float64) * 2 + 1
    shifted = points + torch.tensor([3.0 * periods[0], 2.0 * periods[1]]).double()  # columns x, y
    original, moved = (PointObservation(grid, p)(field) for p in (points, shifted))
    torch.testing.assert_close(original, moved, rtol=0, atol=1e-12)


def test_interpolation_is_of_second_order_across_the_seam():
    errors = []
    points = torch.linspace(-1, 1, 101, dtype=torch.float64)[:, None]
    for n in (32, 64):
        grid = grid_1d(n)
        values = torch.sin(math.pi * grid.axis(0) + 0.3)
        errors.append(
            float((PointObservation(grid, points)(values) - torch.sin(math.pi * points[:, 0] + 0.3)).abs().max())
        )
    assert 1.8 <= math.log2(errors[0] / errors[1]) <= 2.2


def test_refusals():
    with pytest.raises(DataError, match="point 1 has x = nan, which is not finite"):
        grid_1d().interpolation(torch.tensor([[0.0], [math.nan]]).double())
    with pytest.raises(ShapeError, match="'periodic'"):
        GridSpace((4,), dims=("x",), lower=(0.0,), upper=(1.0,), centring="staggered")
