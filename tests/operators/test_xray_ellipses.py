"""Ellipse phantoms: exact line integrals, pixel averages, random phantoms."""

import math

import pytest
import torch

from sciprob.errors import DataError, ShapeError
from sciprob.operators.xray import Ellipses, FanBeam, ParallelBeam
from sciprob.spaces import GridSpace


def ellipse(value=2.0, centre=(0.2, -0.1), semi_axes=(0.5, 0.2), angle=0.4):
    return Ellipses(*(torch.tensor([part], dtype=torch.float64) for part in (value, centre, semi_axes, angle)))


def square(n, half=1.0):
    return GridSpace((n, n), dims=("y", "x"), lower=(-half, -half), upper=(half, half), centring="cell")


ANGLES = torch.linspace(0, 3, 13, dtype=torch.float64)


def test_a_disc_has_the_chords_of_a_circle():
    disc = ellipse(centre=(0.3, 0.4), semi_axes=(0.25, 0.25))
    beam = ParallelBeam(ANGLES, 101, 0.02)
    distance = beam.bins - (0.3 * ANGLES.cos() + 0.4 * ANGLES.sin())[:, None]
    chords = 2 * 2.0 * (0.25**2 - distance**2).clamp_min(0).sqrt()
    torch.testing.assert_close(disc.line_integrals(beam.rays()), chords, rtol=1e-12, atol=1e-7)


@pytest.mark.parametrize("beam", [ParallelBeam(ANGLES, 21, 0.1), FanBeam(ANGLES, 21, 0.2, 3.0, 1.0)])
def test_line_integrals_equal_quadrature_of_the_values(beam):
    phantom = Ellipses.random(5, generator=torch.Generator().manual_seed(1))
    rays = beam.rays()
    t = torch.linspace(-6, 6, 6001, dtype=torch.float64)
    points = rays.point[..., None, :] + t[:, None] * rays.direction[..., None, :]
    quadrature = phantom.at(points).sum(-1) * (t[1] - t[0])
    torch.testing.assert_close(phantom.line_integrals(rays), quadrature, rtol=0, atol=1e-2)


def test_a_far_source_loses_no_digits():
    phantom = Ellipses.random(5, generator=torch.Generator().manual_seed(1))
    parallel = phantom.line_integrals(ParallelBeam(ANGLES, 20, 0.1).rays())
    far = phantom.line_integrals(FanBeam(ANGLES, 20, 0.1, 1e8, 0.0).rays())
    torch.testing.assert_close(far, parallel, rtol=0, atol=1e-6)


def test_an_empty_phantom_is_zero():
    nothing = Ellipses(torch.zeros(0), torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))
    assert not nothing.line_integrals(ParallelBeam(ANGLES, 5, 0.1).rays()).any()
    assert not nothing.image(square(4)).any()


def test_pixel_averages_keep_the_mass():
    image = ellipse().image(square(50), supersampling=10)
    assert image.shape == (50, 50)
    assert image.dtype == torch.float64
    assert float(image.sum()) * 0.04**2 == pytest.approx(2.0 * math.pi * 0.5 * 0.2, rel=1e-3)
    assert float(image.min()) >= 0
    assert float(image.max()) == 2.0


def test_rows_of_the_image_run_along_y():
    image = ellipse(centre=(-0.5, 0.6), semi_axes=(0.1, 0.1), angle=0.0).image(square(20))
    row, column = divmod(int(image.flatten().argmax()), 20)
    assert square(20).axis(0)[row] == pytest.approx(0.6, abs=0.06)
    assert square(20).axis(1)[column] == pytest.approx(-0.5, abs=0.06)


def test_the_angle_turns_anticlockwise():
    needle = ellipse(centre=(0.0, 0.0), semi_axes=(0.9, 0.05), angle=math.pi / 4)
    points = torch.tensor([[0.5, 0.5], [0.5, -0.5]], dtype=torch.float64)
    assert needle.at(points).tolist() == [2.0, 0.0]


def test_shepp_logan_values():
    points = torch.tensor([[0.0, 0.0], [0.0, 0.9], [0.22, 0.0], [0.0, 0.35], [0.95, 0.0]], dtype=torch.float64)
    expected = torch.tensor([0.2, 1.0, 0.0, 0.3, 0.0], dtype=torch.float64)
    torch.testing.assert_close(Ellipses.shepp_logan().at(points), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(Ellipses.shepp_logan(3.0).at(3 * points), expected, rtol=0, atol=1e-12)
    soft = Ellipses.shepp_logan(original=True).at(points)
    expected = torch.tensor([1.02, 2.0, 1.0, 1.03, 0.0], dtype=torch.float64)
    torch.testing.assert_close(soft, expected, rtol=0, atol=1e-12)


def test_random_ellipses_lie_in_their_disc_and_follow_the_generator():
    def draw(seed):
        return Ellipses.random(300, radius=2.0, values=(-1.0, 0.5), generator=torch.Generator().manual_seed(seed))

    phantom = draw(0)
    turn = torch.linspace(0, 2 * math.pi, 60, dtype=torch.float64)
    rim = torch.stack([turn.cos(), turn.sin()], dim=-1) * phantom.semi_axes[:, None, :]
    cos, sin = phantom.angle.cos()[:, None], phantom.angle.sin()[:, None]
    x = phantom.centre[:, :1] + cos * rim[..., 0] - sin * rim[..., 1]
    y = phantom.centre[:, 1:] + sin * rim[..., 0] + cos * rim[..., 1]
    assert float(torch.hypot(x, y).max()) <= 2.0
    assert -1.0 <= float(phantom.value.min()) < -0.9
    assert 0.4 < float(phantom.value.max()) <= 0.5
    assert torch.equal(draw(0).centre, phantom.centre)
    assert not torch.equal(draw(1).centre, phantom.centre)


def test_bad_ellipses_are_refused():
    with pytest.raises(DataError, match=r"ellipse 0 has the semi-axes \[0.5, 0.0\]"):
        ellipse(semi_axes=(0.5, 0.0))
    with pytest.raises(ShapeError, match="1 ellipses need value"):
        Ellipses(torch.ones(1), torch.zeros(2), torch.ones(1, 2), torch.zeros(1))
    with pytest.raises(DataError, match=r"within \(0, 1\)"):
        Ellipses.random(3, semi_axes=(0.1, 1.2), generator=torch.Generator())
