"""Sliced Wasserstein distances against POT and a closed form."""

import pytest
import torch

from sciprob.errors import ConfigError, ShapeError
from sciprob.metrics.transport import sliced_wasserstein


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=source(seed), dtype=torch.float64)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("order", [1.0, 2.0])
def test_weighted_samples_as_in_pot(order):
    ot = pytest.importorskip("ot")
    x, y = normal(30, 3), 0.5 + 2 * normal(47, 3, seed=1)
    wx, wy = (torch.rand(n, generator=source(n), dtype=torch.float64) for n in (30, 47))
    directions = torch.randn((3, 60), generator=source(5), dtype=torch.float64)
    directions = directions / directions.norm(dim=0)
    expected = ot.sliced_wasserstein_distance(
        x.numpy(), y.numpy(), (wx / wx.sum()).numpy(), (wy / wy.sum()).numpy(), projections=directions.numpy(), p=order
    )
    ours = sliced_wasserstein(x, y, wx, wy, order=order, projections=60, generator=source(5))
    assert ours == pytest.approx(float(expected), rel=1e-9)


def test_a_shift_has_the_length_of_its_mean_projection():
    x = normal(500, 4)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    value = sliced_wasserstein(x, x + shift, projections=4000, generator=source(2))
    assert value == pytest.approx(float(shift.norm()) / 2, rel=0.05)  # E (u . s)^2 = |s|^2 / d


def test_weights_count_as_copies():
    x, y = normal(20, 2), normal(30, 2, seed=1)
    copies = torch.arange(20) % 3 + 1
    once = sliced_wasserstein(x, y, copies.double(), generator=source())
    assert sliced_wasserstein(x.repeat_interleave(copies, 0), y, generator=source()) == pytest.approx(once, rel=1e-10)


def test_bad_input_is_refused():
    x = normal(5, 2)
    with pytest.raises(ShapeError, match="event"):
        sliced_wasserstein(x, normal(5, 3), generator=source())
    with pytest.raises(ShapeError, match="one per point"):
        sliced_wasserstein(x, x, torch.ones(4), generator=source())
    with pytest.raises(ConfigError, match="negative"):
        sliced_wasserstein(x, x, -torch.ones(5), generator=source())
    with pytest.raises(ConfigError, match="order"):
        sliced_wasserstein(x, x, order=0.5, generator=source())
