"""Sensors in space and time: exactness, orders, adjoints, and what is refused."""

import math

import numpy as np
import pytest
import torch

from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.operators.observe_spectral import SpaceTimeObservation, SpectralObservation
from sciprob.operators.observe_time import TimeAverage, TimeObservation
from sciprob.operators.velocity import VelocityFromVorticity
from sciprob.spaces import GridSpace, Space
from sciprob.testing import OperatorConformance


def grid(shape, dims, lower=None, upper=None, centring="cell"):
    d = len(shape)
    lower, upper = lower or (0.0,) * d, upper or (1.0,) * d
    return GridSpace(shape, name="u", dims=dims, lower=lower, upper=upper, centring=centring)


def trajectory(space, times):
    coords = dict(space.coords) | {"time": times}
    return Space((len(times), *space.shape), name="u", dims=("time", *space.dims), coords=coords)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LINE = grid((8,), ("x",), (-1.0,), (2.0,))
PLANE = grid((5, 6), ("y", "x"), (0.0, -1.0), (1.0, 1.0))
TIMES = torch.tensor([0.0, 0.1, 0.25, 0.4, 0.5, 0.7, 0.8, 1.0], dtype=torch.float64)


class TestSpectralConforms(OperatorConformance):
    def make(self):
        points = torch.stack([2 * random(4) - 1, random(4, seed=1)], dim=1)
        operator = SpectralObservation(trajectory(PLANE, TIMES), PLANE, points, ("dirichlet", "periodic"))
        return operator, random(8, 5, 6, seed=2)


class TestSpaceTimeConforms(OperatorConformance):
    def make(self):
        operator = SpaceTimeObservation(trajectory(LINE, TIMES), LINE, 3 * random(5, 1) - 1, random(5, seed=1))
        return operator, random(8, 8, seed=2)


class TestTimeConforms(OperatorConformance):
    def make(self):
        return TimeObservation(trajectory(PLANE, TIMES), random(3), order=4), random(8, 5, 6, seed=2)


class TestAverageConforms(OperatorConformance):
    def make(self):
        return TimeAverage(trajectory(LINE, TIMES), 0.05, 0.83), random(8, 8, seed=2)


class TestVelocityConforms(OperatorConformance):
    def make(self):
        return VelocityFromVorticity(trajectory(PLANE, TIMES), PLANE), random(8, 5, 6, seed=2)


def waves(s, n, boundary, coefficients):
    """A random field in the span of the basis, written out independently of the operator."""
    s, total = s.numpy(), 0.0
    highest = {"periodic": (n - 1) // 2, "dirichlet": n, "neumann": n - 1}[boundary]
    for k in range(highest + 1):
        a, b = float(coefficients[2 * k]), float(coefficients[2 * k + 1])
        if boundary == "periodic":
            total = total + a * np.cos(2 * np.pi * k * s) + b * np.sin(2 * np.pi * k * s)
        elif boundary == "dirichlet":
            total = total + a * np.sin(np.pi * k * s)
        else:
            total = total + a * np.cos(np.pi * k * s)
    return torch.as_tensor(total, dtype=torch.float64)


@pytest.mark.parametrize("n", [7, 8, 33])
@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann"])
def test_band_limited_fields_are_exact(n, boundary):
    space = grid((n,), ("x",), (-1.0,), (2.0,))
    coefficients = random(2 * n + 4) - 0.5
    x = 3 * random(50, seed=1) - 1
    observe = SpectralObservation(space, space, x[:, None], boundary)
    field, expected = (waves((z + 1) / 3, n, boundary, coefficients) for z in (space.axis(0), x))
    torch.testing.assert_close(observe(field), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [6, 9])
def test_periodic_grids_wrap(n):
    space = grid((n,), ("x",), (-1.0,), (2.0,), "periodic")
    u = random(n)
    x = 3 * random(5, 1, seed=1) - 1
    here, there = (SpectralObservation(space, space, x + shift)(u) for shift in (0.0, 6.0))
    torch.testing.assert_close(here, there, rtol=0, atol=1e-12)
    at_nodes = SpectralObservation(space, space, space.points())
    torch.testing.assert_close(at_nodes(u), u, rtol=0, atol=1e-13)


def test_interpolation_converges_spectrally():
    """exp(sin 2 pi x): the error falls faster than any power, to round-off at 32 points."""
    x = random(100, 1, seed=3)
    errors = []
    for n in (8, 14, 20, 32):
        space = grid((n,), ("x",), centring="periodic")
        value = SpectralObservation(space, space, x)((2 * math.pi * space.axis(0)).sin().exp())
        errors.append(float((value - (2 * math.pi * x[:, 0]).sin().exp()).abs().max()))
    assert errors[0] > 1e-4 > errors[1] > 1e-7 > errors[2] > 1e-13
    assert errors[3] < 1e-13


def test_axes_in_any_order():
    """Columns of points are x, y whatever the order of the tensor's axes."""
    points = torch.tensor([[0.3, 0.8], [-0.9, 0.1]], dtype=torch.float64)

    def field(x, y):
        return (math.pi * x).sin() * (2 * math.pi * y).cos()

    for dims, lower, upper in ((("x", "y"), (-1.0, 0.0), (1.0, 1.0)), (("y", "x"), (0.0, -1.0), (1.0, 1.0))):
        space = grid((9, 7), dims, lower, upper)
        xy = space.points()
        u = field(xy[:, 0], xy[:, 1]).reshape(space.shape)
        value = SpectralObservation(space, space, points)(u)
        torch.testing.assert_close(value, field(points[:, 0], points[:, 1]), rtol=0, atol=1e-13)


def test_time_reproduces_polynomials_exactly():
    space = trajectory(LINE, TIMES)
    t = random(40)
    for order in (2, 4, 6):
        c = random(order, 8, seed=order)
        u, expected = (torch.stack([c[k] * z[:, None] ** k for k in range(order)]).sum(0) for z in (TIMES, t))
        torch.testing.assert_close(TimeObservation(space, t, order=order)(u), expected, rtol=0, atol=1e-11)
        too_high = TimeObservation(space, t, order=order)(TIMES[:, None] ** order * torch.ones(8).double())
        assert float((too_high - (t**order)[:, None]).abs().max()) > 1e-6


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize("average", [False, True])
def test_time_converges_with_the_stated_order(order, average):
    t = random(200)
    sizes, errors = (16, 32, 64, 128), []
    for n in sizes:
        times = torch.linspace(0, 1, n + 1, dtype=torch.float64)
        space = Space((n + 1,), name="u", dims=("time",), coords={"time": times})
        if average:
            value = TimeAverage(space, 0.013, 0.871, order=order)((4 * times).cos())
            expected = (math.sin(4 * 0.871) - math.sin(4 * 0.013)) / (4 * 0.858)
        else:
            value, expected = TimeObservation(space, t, order=order)((4 * times).cos()), (4 * t).cos()
        errors.append(float((value - expected).abs().max()))
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    # an average may gain an order by cancellation, but should lose none
    assert slope > order - 0.25
    assert average or slope < order + 0.25


def test_space_time_is_time_after_space():
    space, t, x = trajectory(LINE, TIMES), random(6), 3 * random(6, 1, seed=1) - 1
    u = random(8, 8, seed=2)
    both = SpaceTimeObservation(space, LINE, x, t)(u)
    table = TimeObservation(SpectralObservation(space, LINE, x).codomain, t)(SpectralObservation(space, LINE, x)(u))
    torch.testing.assert_close(both, table.diagonal(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dims", [("x", "y"), ("y", "x")])
@pytest.mark.parametrize("n", [11, 12])
def test_velocity_of_a_known_stream_function(dims, n):
    """psi = sin(a x) cos(2 b y) + cos(2 a x): omega = -Laplace psi, velocity by hand."""
    lengths = {"x": 3.0, "y": 2.0}
    space = grid((n, n), dims, (0.0, 0.0), (lengths[dims[0]], lengths[dims[1]]))
    a, b = 2 * math.pi / 3.0, math.pi
    x, y = space.points().T
    omega = (a**2 + 4 * b**2) * (a * x).sin() * (2 * b * y).cos() + 4 * a**2 * (2 * a * x).cos()
    u = -2 * b * (a * x).sin() * (2 * b * y).sin()
    v = -a * (a * x).cos() * (2 * b * y).cos() + 2 * a * (2 * a * x).sin()
    velocity = VelocityFromVorticity(space, space)(omega.reshape(space.shape) + 0.7)
    torch.testing.assert_close(velocity, torch.stack([u, v]).reshape(2, n, n), rtol=0, atol=1e-12)


def test_times_outside_name_the_interval():
    space = trajectory(LINE, TIMES)
    bad = torch.tensor([0.2, 1.3], dtype=torch.float64)
    sentence = r"observation 1 is at time 1.3, outside the interval \[0, 1\]"
    with pytest.raises(DataError, match=sentence):
        TimeObservation(space, bad)
    with pytest.raises(DataError, match=sentence):
        SpaceTimeObservation(space, LINE, torch.zeros(2, 1).double(), bad)
    with pytest.raises(DataError, match=sentence):
        TimeAverage(space, 0.2, 1.3)
    with pytest.raises(ConfigError, match="start < stop"):
        TimeAverage(space, 0.6, 0.2)
    with pytest.raises(ConfigError, match="2 <= order <= 8"):
        TimeObservation(space, bad[:1], order=9)


def test_what_does_not_fit_is_refused():
    outside = torch.tensor([[0.0], [2.5]], dtype=torch.float64)
    with pytest.raises(DataError, match=r"point 1 has x = 2.5, outside \[-1, 2\]"):
        SpectralObservation(LINE, LINE, outside, "dirichlet")
    nodes = grid((8,), ("x",), centring="node")
    for boundary, word in (("neumann", "cell-centred"), ("periodic", "'periodic' or 'cell'"), ("free", "one of")):
        with pytest.raises(ConfigError, match=word):
            SpectralObservation(nodes, nodes, torch.zeros(1, 1).double(), boundary)
    with pytest.raises(ShapeError, match=r"end in the grid's shape \(8,\)"):
        SpectralObservation(PLANE, LINE, outside)
    with pytest.raises(ShapeError, match="first axis `time`"):
        TimeObservation(PLANE, TIMES)
