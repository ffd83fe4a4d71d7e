"""The X-ray transform: exact adjoint, accuracy with its order, conventions, derivatives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.operators.xray import Ellipses, FanBeam, ParallelBeam, XrayTransform
from sciprob.spaces import GridSpace, Space
from sciprob.testing import OperatorConformance


def grid(ny, nx=None, *, lower=(-1.0, -1.0), upper=(1.0, 1.0), dims=("y", "x"), centring="cell"):
    return GridSpace((ny, nx or ny), dims=dims, lower=lower, upper=upper, centring=centring)


def views(n, span=math.pi, start=0.1):
    return start + span * torch.arange(n, dtype=torch.float64) / n


def beams(n_views=30, n_bins=41):
    return {
        "parallel": ParallelBeam(views(n_views), n_bins, 2.9 / n_bins),
        "parallel-offset": ParallelBeam(views(n_views), n_bins, 2.9 / n_bins, axis_offset=0.11),
        "fan": FanBeam(views(n_views, 2 * math.pi), n_bins, 4.5 / n_bins, 2.5, 1.5),
        "fan-offset": FanBeam(views(n_views, 2 * math.pi), n_bins, 4.5 / n_bins, 2.5, 1.5, axis_offset=-0.2),
    }


GRIDS = {
    "square": grid(24),
    "wide": grid(20, 31, lower=(-0.7, -1.2), upper=(0.5, 1.1)),
    "flat pixels": grid(31, 12),
}


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Blobs:
    """Gaussians exp(-|x - c|^2 / (2 s^2)); a line at distance d has sqrt(2 pi) s exp(-d^2 / (2 s^2))."""

    centres = torch.tensor([[0.2, 0.1], [-0.25, 0.3], [0.05, -0.35]], dtype=torch.float64)
    widths = torch.tensor([0.08, 0.1, 0.07], dtype=torch.float64)

    def image(self, space):
        squared = torch.cdist(space.points(), self.centres).square()
        return (-squared / (2 * self.widths**2)).exp().sum(-1).reshape(space.shape)

    def line_integrals(self, rays):
        offset = rays.point[..., None, :] - self.centres
        direction = rays.direction[..., None, :]
        distance = offset[..., 0] * direction[..., 1] - offset[..., 1] * direction[..., 0]
        peak = math.sqrt(2 * math.pi) * self.widths
        return (peak * (-(distance**2) / (2 * self.widths**2)).exp()).sum(-1)


def observed_order(sizes, errors):
    """Slope of log(error) over log(pixel size)."""
    return -np.polyfit(np.log(sizes), np.log(errors), 1)[0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


class TestParallelBeamConformance(OperatorConformance):
    def make(self):
        return XrayTransform(GRIDS["wide"], beams(6, 11)["parallel-offset"]), randn(20, 31)


class TestFanBeamConformance(OperatorConformance):
    def make(self):
        return XrayTransform(grid(7), beams(5, 11)["fan"]), randn(7, 7)


@pytest.mark.parametrize("space", GRIDS.values(), ids=GRIDS.keys())
@pytest.mark.parametrize("beam", beams().values(), ids=beams().keys())
def test_the_adjoint_is_the_exact_transpose(space, beam):
    A = XrayTransform(space, beam)
    for m, y in [(randn(*space.shape), randn(*beam.shape, seed=1)), (torch.ones(space.shape), torch.ones(beam.shape))]:
        m, y = m.double(), y.double()
        Am, Ay = A(m), A.T(y)
        assert abs(float((Am * y).sum() - (m * Ay).sum())) <= 1e-12 * float(Am.norm() * y.norm())
    dense = A.to_dense()
    torch.testing.assert_close(A.T.to_dense(), dense.T, rtol=0, atol=0)


@pytest.mark.parametrize("aspect", [1.0, 1.7], ids=["square pixels", "wide pixels"])
@pytest.mark.parametrize("name", beams().keys())
def test_second_order_on_smooth_images(name, aspect):
    sizes, errors = [32, 48, 64, 96, 128], []
    beam, phantom = beams()[name], Blobs()
    exact = phantom.line_integrals(beam.rays())
    for n in sizes:
        space = grid(round(n * aspect), n)
        errors.append(relative(XrayTransform(space, beam)(phantom.image(space)), exact))
    assert observed_order(sizes, errors) == pytest.approx(2.0, abs=0.15)
    assert errors[-1] < 4e-3


@pytest.mark.parametrize("name", ["parallel", "fan"])
def test_first_order_or_better_across_edges(name):
    phantom = Ellipses.shepp_logan(0.9)
    beam = beams(60, 101)[name]
    exact = phantom.line_integrals(beam.rays())
    sizes = [32, 64, 128]
    spaces = [grid(n) for n in sizes]
    errors = [relative(XrayTransform(space, beam)(phantom.image(space)), exact) for space in spaces]
    assert 0.8 < observed_order(sizes, errors) < 1.6
    assert errors[-1] < 0.04


def test_axis_parallel_rays_through_ones_measure_the_side():
    space = grid(10, 16, lower=(-1.0, -2.0), upper=(1.5, 2.0))
    beam = ParallelBeam(torch.tensor([0.0, math.pi / 2]), 3, 0.1)
    sides = torch.tensor([[2.5] * 3, [4.0] * 3], dtype=torch.float64)
    torch.testing.assert_close(XrayTransform(space, beam)(torch.ones(10, 16, dtype=torch.float64)), sides)


def test_rays_that_miss_the_image_measure_nothing():
    beam = ParallelBeam(views(7), 2, 20.0)
    A = XrayTransform(grid(8), beam)
    assert not A(torch.ones(8, 8)).any()
    assert not A.T(torch.ones(7, 2)).any()


def test_a_bright_pixel_shows_up_at_its_own_projection():
    space = grid(64)
    m = torch.zeros(64, 64, dtype=torch.float64)
    m[50, 20] = 1.0
    y0, x0 = float(space.axis(0)[50]), float(space.axis(1)[20])
    for beam in (ParallelBeam(views(40, 6.0), 301, 0.01), FanBeam(views(40, 6.0), 301, 0.02, 3.0, 1.5)):
        data = XrayTransform(space, beam)(m)
        centre = (data * beam.bins).sum(1) / data.sum(1)
        cos, sin = beam.angles.cos(), beam.angles.sin()
        expected = x0 * cos + y0 * sin
        if isinstance(beam, FanBeam):  # source at 3 (sin, -cos), magnified to the detector
            expected = expected * 4.5 / (3.0 - x0 * sin + y0 * cos)
        torch.testing.assert_close(centre, expected, rtol=0, atol=6e-3)


def test_opposite_parallel_views_mirror_each_other():
    angles = views(12)
    m = randn(20, 20)
    there = XrayTransform(grid(20), ParallelBeam(angles, 31, 0.09))(m)
    back = XrayTransform(grid(20), ParallelBeam(angles + math.pi, 31, 0.09))(m)
    torch.testing.assert_close(back, there.flip(-1))


@pytest.mark.parametrize("name", beams().keys())
def test_turning_the_image_by_a_quarter_turns_the_angles(name):
    beam, m = beams()[name], randn(22, 22)
    quarter = replace(beam, angles=beam.angles + math.pi / 2)
    turned = XrayTransform(grid(22), beam)(torch.rot90(m, 1, (0, 1)))  # clockwise, as rows run along +y
    torch.testing.assert_close(turned, XrayTransform(grid(22), quarter)(m))


def test_moving_the_grid_moves_the_parallel_data():
    m, width = randn(16, 16), 0.05
    beam = ParallelBeam(torch.tensor([0.0, math.pi / 2]), 81, width)
    here = XrayTransform(grid(16, lower=(-0.8, -0.8), upper=(0.8, 0.8)), beam)(m)
    moved_space = grid(16, lower=(-0.8 + 2 * width, -0.8 + 3 * width), upper=(0.8 + 2 * width, 0.8 + 3 * width))
    moved = XrayTransform(moved_space, beam)(m)
    torch.testing.assert_close(moved[0, 3:], here[0, :-3])  # view 0 sees x
    torch.testing.assert_close(moved[1, 2:], here[1, :-2])  # view 90 degrees sees y


def test_an_axis_offset_of_whole_bins_shifts_the_data():
    m = randn(16, 16)
    for plain, shifted in [
        (ParallelBeam(views(9), 40, 0.08), ParallelBeam(views(9), 40, 0.08, axis_offset=0.16)),
        (FanBeam(views(9), 40, 0.1, 3.0, 1.0), FanBeam(views(9), 40, 0.1, 3.0, 1.0, axis_offset=0.2)),
    ]:
        a, b = XrayTransform(grid(16), plain)(m), XrayTransform(grid(16), shifted)(m)
        torch.testing.assert_close(b[:, 2:], a[:, :-2])


def test_a_far_source_is_a_parallel_beam():
    m = randn(32, 32)
    parallel = XrayTransform(grid(32), ParallelBeam(views(25), 51, 0.06))(m)
    errors = []
    for distance in (1e3, 1e4, 1e5):
        fan = FanBeam(views(25), 51, 0.06, distance, 0.0)
        errors.append(relative(XrayTransform(grid(32), fan)(m), parallel))
    assert errors[-1] < 1e-4
    assert observed_order([1e3, 1e4, 1e5], errors) == pytest.approx(1.0, abs=0.1)


def test_views_are_rows_of_the_whole():
    A = XrayTransform(grid(12), beams()["fan"])
    m = randn(12, 12)
    some = A.views([5, 2, 11])
    assert some.codomain.shape == (3, 41)
    torch.testing.assert_close(some(m), A(m)[[5, 2, 11]])
    torch.testing.assert_close(A.views(slice(4, 9))(m), A(m)[4:9])
    torch.testing.assert_close(A.views(torch.arange(30) % 2 == 0)(m), A(m)[::2])


def astra_operator(space, beam, *, every_ray=False):
    """ASTRA's projector on the CPU and its image of m; ASTRA stores images from the top row."""
    astra = pytest.importorskip("astra")
    (ny, nx), (y0, x0), (y1, x1) = space.shape, space.lower, space.upper
    volume = astra.create_vol_geom(ny, nx, x0, x1, y0, y1)
    kernel = "linear"
    if every_ray:  # one view of one bin per ray, as ASTRA has no linear kernel for fans on the CPU
        point, direction = (part.reshape(-1, 2).numpy() for part in beam.rays())
        across = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
        projection = astra.create_proj_geom("parallel_vec", 1, np.concatenate([direction, point, across], axis=1))
    elif isinstance(beam, ParallelBeam):
        projection = astra.create_proj_geom("parallel", beam.bin_width, beam.n_bins, beam.angles.numpy())
    else:
        distances = (beam.source_origin, beam.origin_detector)
        projection = astra.create_proj_geom("fanflat", beam.bin_width, beam.n_bins, beam.angles.numpy(), *distances)
        kernel = "line_fanflat"
    projector = astra.create_projector(kernel, projection, volume)

    def forward(m):
        _, data = astra.create_sino(np.ascontiguousarray(m.flip(0).numpy(), dtype=np.float32), projector)
        return torch.from_numpy(data).double().reshape(beam.shape)

    return forward


@pytest.mark.parametrize("name", ["parallel", "fan", "fan-offset"])
def test_equals_the_linear_kernel_of_astra(name):
    beam = beams(40, 61)[name]
    space, m = grid(48), Ellipses.shepp_logan().image(grid(48))
    forward = astra_operator(space, beam, every_ray=name != "parallel")
    assert relative(XrayTransform(space, beam)(m), forward(m)) < 2e-5


def test_fan_conventions_are_those_of_astra():
    beam, space = beams(40, 61)["fan"], grid(384)  # fine, as ASTRA's line kernel is the coarser one
    m = Blobs().image(space)
    forward = astra_operator(space, beam)
    assert relative(XrayTransform(space, beam)(m), forward(m)) < 1e-3


@pytest.mark.parametrize("name", ["parallel", "fan"])
def test_float32_follows_the_input(name):
    A = XrayTransform(grid(40), beams()[name])
    m, y = randn(40, 40), randn(30, 41, seed=1)
    for op, x in ((A, m), (A.T, y)):
        single = op(x.float())
        assert single.dtype == torch.float32
        assert relative(single.double(), op(x)) < 1e-5
    with pytest.raises(UnsupportedProblemError, match=r"float32 and float64, got torch\.float16"):
        A(m.half())


def test_any_number_of_batch_axes():
    A = XrayTransform(grid(10), beams()["fan"])
    m = randn(2, 3, 4, 10, 10)
    y = A(m)
    assert y.shape == (2, 3, 4, 30, 41)
    torch.testing.assert_close(y[1, 2, 3], A(m[1, 2, 3]))
    torch.testing.assert_close(A.T(y)[0, 1], A.T(y[0, 1]))
    assert A(m[:, :0]).shape == (2, 0, 4, 30, 41)
    assert A.T(y[:0]).shape == (0, 3, 4, 10, 10)
    with pytest.raises(ShapeError, match=r"should end in \(10, 10\)"):
        A(randn(10, 11))


def test_non_contiguous_input():
    A = XrayTransform(grid(10), beams()["parallel"])
    m = randn(10, 10, 5).movedim(-1, 0)
    torch.testing.assert_close(A(m), A(m.contiguous()))
    torch.testing.assert_close(A(m[0].T), A(m[0].T.contiguous()))


def test_vmap_and_both_modes_of_differentiation():
    A = XrayTransform(grid(6), ParallelBeam(views(4), 7, 0.4))
    m = randn(3, 6, 6)
    torch.testing.assert_close(torch.func.vmap(A)(m), A(m))
    torch.testing.assert_close(torch.func.vmap(torch.func.vmap(A.T))(A(m)[None]), A.T(A(m))[None])
    reverse, forward = torch.func.jacrev(A)(m[0]), torch.func.jacfwd(A)(m[0])
    torch.testing.assert_close(reverse, forward)
    torch.testing.assert_close(reverse.reshape(28, 36), A.to_dense())
    y, dy = A.jvp(m, 2 * m)
    torch.testing.assert_close(dy, 2 * y)
    torch.testing.assert_close(A.vjp(m, y)[1], A.T(y))


def test_gradcheck_to_second_order():
    A = XrayTransform(grid(4), FanBeam(views(3), 5, 0.8, 2.5, 1.0))
    m = randn(2, 4, 4).requires_grad_()

    def nonlinear(m):
        return A(m).square() + A.T(A(m)).sin().sum()

    assert gradcheck(nonlinear, m, check_forward_ad=True)
    assert gradgradcheck(nonlinear, m)


def test_the_data_space_knows_its_coordinates():
    beam = beams()["fan-offset"]
    A = XrayTransform(grid(8), beam, name="counts")
    assert A.codomain.name == "counts"
    assert A.codomain.dims == ("angle", "bin")
    assert A.codomain.coords["angle"] is beam.angles
    torch.testing.assert_close(A.codomain.coords["bin"], beam.bins)
    assert float(beam.bins.mean()) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: ParallelBeam(torch.tensor([0.0, math.nan]), 3, 1.0), DataError, "angle of view 1 is nan"),
        (lambda: ParallelBeam(torch.zeros(0), 3, 1.0), ShapeError, "non-empty vector in radians"),
        (lambda: ParallelBeam(torch.zeros(2, 2), 3, 1.0), ShapeError, "non-empty vector in radians"),
        (lambda: ParallelBeam(views(3), 0, 1.0), DataError, "`n_bins` should be at least 1, got 0"),
        (lambda: ParallelBeam(views(3), 3, -1.0), DataError, "`bin_width` should be a positive length"),
        (lambda: ParallelBeam(views(3), 3, 1.0, axis_offset=math.inf), DataError, "`axis_offset` should be a finite"),
        (lambda: FanBeam(views(3), 3, 1.0, 0.0, 1.0), DataError, "`source_origin` should be a positive length"),
        (lambda: FanBeam(views(3), 3, 1.0, 2.0, -1.0), DataError, "`origin_detector` should be a distance of 0 or"),
        (
            lambda: XrayTransform(grid(8), FanBeam(views(3), 3, 1.0, 1.4, 1.0)),
            DataError,
            r"the source, 1.4 from the rotation axis, should stay outside the image, which reaches 1.414",
        ),
        (
            lambda: XrayTransform(grid(8, centring="node"), ParallelBeam(views(3), 3, 1.0)),
            ShapeError,
            r"at least 2 x 2 pixels with dims \('y', 'x'\) and centring 'cell'",
        ),
        (lambda: XrayTransform(grid(8, dims=("x", "y")), ParallelBeam(views(3), 3, 1.0)), ShapeError, "2 x 2"),
        (lambda: XrayTransform(grid(1, 8), ParallelBeam(views(3), 3, 1.0)), ShapeError, "2 x 2"),
        (lambda: XrayTransform(Space((8, 8)), ParallelBeam(views(3), 3, 1.0)), ShapeError, "2 x 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", ["parallel", "fan"])
def test_cuda_gives_the_numbers_of_the_cpu(name):
    A = XrayTransform(grid(32), beams()[name])
    m = randn(3, 32, 32)
    y = A(m)
    on_gpu = A(m.cuda())
    assert on_gpu.device.type == "cuda"
    torch.testing.assert_close(on_gpu.cpu(), y)
    torch.testing.assert_close(A.T(y.cuda()).cpu(), A.T(y))
