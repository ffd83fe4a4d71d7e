"""Filtered back-projection: right values for every kind of scan, exact adjoint."""

import math

import numpy as np
import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.operators.xray import Ellipses, FanBeam, FilteredBackProjection, ParallelBeam, XrayTransform
from sciprob.operators.xray.angular import Arc, angular_cells, short_scan_weights
from sciprob.spaces import GridSpace
from sciprob.testing import OperatorConformance

GRID = GridSpace((64, 64), dims=("y", "x"), lower=(-1.0, -1.0), upper=(1.0, 1.0), centring="cell")
DISC = Ellipses(*(torch.tensor([part], dtype=torch.float64) for part in (2.0, (0.2, -0.3), (0.5, 0.5), 0.0)))


def degrees(start, stop, n):
    return torch.deg2rad(torch.linspace(start, stop, n, dtype=torch.float64))


def fan(angles, **kwargs):
    return FanBeam(angles, 300, 0.0135, 3.0, 1.0, **kwargs)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def uneven(n, period):
    """A permutation of unevenly spaced angles, dense on one side."""
    t = torch.linspace(0, 1, n + 1, dtype=torch.float64)[:-1]
    angles = period * (t + 0.1 * (2 * math.pi * t).sin())
    return angles[torch.randperm(n, generator=torch.Generator().manual_seed(0))]


COMPLETE = {
    "parallel half turn": ParallelBeam(degrees(0, 179, 180), 200, 0.015),
    "parallel full turn, both ends": ParallelBeam(degrees(0, 360, 361), 200, 0.015),
    "parallel off centre": ParallelBeam(degrees(20, 199, 180), 200, 0.015, axis_offset=0.1),
    "parallel uneven": ParallelBeam(uneven(240, math.pi), 200, 0.015),
    "fan full turn": fan(degrees(0, 359, 360)),
    "fan full turn, both ends": fan(degrees(0, 360, 361)),
    "fan off centre": fan(degrees(0, 359, 360), axis_offset=0.1),
    "fan uneven": fan(uneven(400, 2 * math.pi)),
    "fan virtual detector": FanBeam(degrees(0, 359, 360), 300, 0.01, 3.0, 0.0),
    "fan short scan": fan(degrees(70, 300, 231)),
    "fan long short scan": fan(degrees(-30, 270, 301)),
}


class TestFilteredBackProjectionConformance(OperatorConformance):
    single_tolerance = 1e-3  # the ramp amplifies round-off

    def make(self):
        beam = FanBeam(degrees(0, 240, 9), 21, 0.2, 3.0, 1.0)
        small = GridSpace((7, 8), dims=("y", "x"), lower=(-1.0, -1.0), upper=(1.0, 1.0), centring="cell")
        return FilteredBackProjection(XrayTransform(small, beam)), randn(9, 21)


def parts(image):
    """Values well inside and well outside the disc."""
    distance = (GRID.points() - DISC.centre).norm(dim=1).reshape(GRID.shape)
    from_axis = GRID.points().norm(dim=1).reshape(GRID.shape)
    return image[distance < 0.4], image[(distance > 0.6) & (from_axis < 1.0)]


@pytest.mark.parametrize("beam", COMPLETE.values(), ids=COMPLETE.keys())
def test_the_attenuation_of_a_disc_is_found(beam):
    image = FilteredBackProjection(XrayTransform(GRID, beam))(DISC.line_integrals(beam.rays()))
    inside, outside = parts(image)
    torch.testing.assert_close(inside, torch.full_like(inside, 2.0), rtol=0, atol=0.01)
    assert float(outside.std()) < 0.05  # streaks from the sharp edge
    assert abs(float(outside.mean())) < 0.005


def test_physical_units_scale_the_attenuation():
    beam = FanBeam(degrees(0, 359, 360), 300, 13.5, 3000.0, 1000.0)
    disc = Ellipses(DISC.value / 1000, DISC.centre * 1000, DISC.semi_axes * 1000, DISC.angle)
    space = GridSpace((64, 64), dims=("y", "x"), lower=(-1e3, -1e3), upper=(1e3, 1e3), centring="cell")
    image = FilteredBackProjection(XrayTransform(space, beam))(disc.line_integrals(beam.rays()))
    here = fan(degrees(0, 359, 360))
    unit = FilteredBackProjection(XrayTransform(GRID, here))(DISC.line_integrals(here.rays()))
    torch.testing.assert_close(image * 1000, unit)


def test_a_grid_away_from_the_axis():
    space = GridSpace((20, 30), dims=("y", "x"), lower=(-0.5, 0.0), upper=(-0.2, 0.4), centring="cell")
    beam = COMPLETE["fan full turn"]
    image = FilteredBackProjection(XrayTransform(space, beam))(DISC.line_integrals(beam.rays()))
    torch.testing.assert_close(image, torch.full_like(image, 2.0), rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_second_order_in_the_bin_width_on_a_smooth_image(kind):
    width, centre = 0.12, torch.tensor([0.2, -0.1], dtype=torch.float64)
    truth = (-(GRID.points() - centre).square().sum(1) / (2 * width**2)).exp().reshape(GRID.shape)
    sizes, errors = [40, 60, 80, 120], []
    for n in sizes:
        parallel = ParallelBeam(degrees(0, 179, 180), n, 3.0 / n)
        beam = parallel if kind == "parallel" else FanBeam(degrees(0, 359, 360), n, 4.4 / n, 3.0, 1.0)
        point, direction = beam.rays()
        offset = point - centre
        distance = offset[..., 0] * direction[..., 1] - offset[..., 1] * direction[..., 0]
        data = math.sqrt(2 * math.pi) * width * (-(distance**2) / (2 * width**2)).exp()
        image = FilteredBackProjection(XrayTransform(GRID, beam))(data)
        errors.append(float((image - truth).norm() / truth.norm()))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -slope == pytest.approx(2.0, abs=0.2)


def test_a_far_fan_reconstructs_like_a_parallel_beam():
    angles = degrees(0, 358, 180)
    y = randn(180, 80)
    parallel = FilteredBackProjection(XrayTransform(GRID, ParallelBeam(angles, 80, 0.04)))(y)
    far = FilteredBackProjection(XrayTransform(GRID, FanBeam(angles, 80, 0.04, 1e7, 0.0)))(y)
    torch.testing.assert_close(far, parallel, rtol=0, atol=1e-4 * float(parallel.abs().max()))


@pytest.mark.parametrize("beam", [fan(degrees(0, 90, 181)), ParallelBeam(degrees(0, 90, 91), 200, 0.015)])
def test_missing_angles_lose_part_of_the_image_and_no_more(beam):
    image = FilteredBackProjection(XrayTransform(GRID, beam))(DISC.line_integrals(beam.rays()))
    inside, _ = parts(image)
    assert 0.4 < float(inside.mean()) / 2.0 < 0.75  # half of the directions are there


@pytest.mark.parametrize("window", ["ramp", "hann"])
@pytest.mark.parametrize("name", ["parallel off centre", "fan short scan"])
def test_the_adjoint_is_the_exact_transpose(name, window):
    beam = COMPLETE[name]
    F = FilteredBackProjection(XrayTransform(GRID, beam), window=window)
    for y, m in [(randn(*beam.shape), randn(64, 64, seed=1)), (torch.ones(beam.shape), torch.ones(64, 64))]:
        y, m = y.double(), m.double()
        Fy, Fm = F(y), F.T(m)
        assert abs(float((Fy * m).sum() - (y * Fm).sum())) <= 1e-12 * float(Fy.norm() * m.norm())


def test_the_hann_window_damps_noise_and_keeps_the_mean():
    beam = COMPLETE["fan full turn"]
    A = XrayTransform(GRID, beam)
    ramp, hann = FilteredBackProjection(A), FilteredBackProjection(A, window="hann")
    noise = randn(*beam.shape)
    assert float(hann(noise).std()) < 0.6 * float(ramp(noise).std())
    inside, _ = parts(hann(DISC.line_integrals(beam.rays())))
    torch.testing.assert_close(inside, torch.full_like(inside, 2.0), rtol=0, atol=0.01)
    with pytest.raises(ConfigError, match="'ramp' or 'hann', got 'hamming'"):
        FilteredBackProjection(A, window="hamming")


def test_batches_dtypes_and_vmap():
    beam = fan(degrees(0, 350, 36))
    F = FilteredBackProjection(XrayTransform(GRID, beam))
    y = randn(2, 3, *beam.shape)
    image = F(y)
    torch.testing.assert_close(image[1, 2], F(y[1, 2]))
    torch.testing.assert_close(torch.func.vmap(F)(y[0]), image[0])
    single = F(y.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), image, rtol=0, atol=1e-4 * float(image.abs().max()))
    assert F(y[:0]).shape == (0, 3, 64, 64)
    assert F.T(image[:, :0]).shape == (2, 0, *beam.shape)


def test_one_bin_is_enough():
    F = FilteredBackProjection(XrayTransform(GRID, ParallelBeam(degrees(0, 170, 18), 1, 4.0)))
    assert F(torch.ones(18, 1)).isfinite().all()
    assert F.T(torch.ones(64, 64)).isfinite().all()


def test_cells_fill_the_circle_and_coinciding_views_share_one():
    cells, arc = angular_cells(uneven(50, math.pi), math.pi)
    assert float(cells.sum()) == pytest.approx(math.pi)
    assert arc.span == math.pi
    cells, _ = angular_cells(degrees(0, 360, 13), 2 * math.pi)  # the first and last view are one
    torch.testing.assert_close(cells[[0, 1, 12]], torch.deg2rad(torch.tensor([15.0, 30.0, 15.0], dtype=torch.float64)))
    cells, _ = angular_cells(torch.tensor([1.0]), math.pi)
    assert cells.tolist() == [pytest.approx(math.pi)]


@pytest.mark.parametrize("start", [0.0, 200.0, -500.0])
def test_a_missing_range_is_not_bridged(start):
    cells, arc = angular_cells(degrees(start, start + 90, 91).flip(0), 2 * math.pi)
    torch.testing.assert_close(cells, torch.full((91,), math.pi / 180, dtype=torch.float64))
    assert arc.span == pytest.approx(math.pi / 2)
    assert arc.start == pytest.approx(math.radians(start % 360))
    cells, arc = angular_cells(degrees(start, start + 10, 2), 2 * math.pi)
    torch.testing.assert_close(cells, torch.full((2,), math.radians(10), dtype=torch.float64))


@pytest.mark.parametrize("span", [150.0, 180.0, 200.0, 240.0, 330.0])
def test_shares_of_a_line_add_up_to_one(span):
    g = torch.deg2rad(torch.linspace(-25, 25, 51, dtype=torch.float64))
    t = torch.deg2rad(torch.linspace(0, span, 400, dtype=torch.float64))
    arc = Arc(0.7, math.radians(span))
    share = short_scan_weights(t + 0.7, g, arc)
    assert float(share.min()) >= 0
    for k in range(0, 51, 5):
        partner = t + math.pi - 2 * g[k]  # the same line, seen from the other end
        measured = partner < arc.span - 1e-9  # a line seen just by the first and the last view is a limit of both
        other = short_scan_weights(partner[measured] + 0.7, -g[k : k + 1], arc)[:, 0]
        torch.testing.assert_close(share[measured, k] + other, torch.ones_like(other))
