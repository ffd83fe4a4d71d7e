"""Masks, blurs and block averages: the contract, closed forms, other libraries."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from sciprob.errors import ConfigError, ShapeError
from sciprob.operators import Restriction
from sciprob.operators.block_average import BlockAverage
from sciprob.operators.blur import ReflectedConvolution, gaussian_kernel, motion_kernel
from sciprob.operators.fourier import Convolution
from sciprob.spaces import GridSpace
from sciprob.testing import OperatorConformance


def grid(*shape):
    dims = ("x",) if len(shape) == 1 else ("y", "x")
    upper = tuple(0.1 * n for n in shape)
    return GridSpace(shape, "u", dims, lower=(0.0,) * len(shape), upper=upper, centring="cell")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestReflected(OperatorConformance):
    def make(self):
        kernel = normal(6, 5)  # neither even nor short: the adjoint must not rely on either
        return ReflectedConvolution(grid(6, 5), kernel), normal(6, 5, seed=1)


class TestMotion(OperatorConformance):
    def make(self):
        return ReflectedConvolution(grid(8, 9), motion_kernel(grid(8, 9), 0.4, 30.0)), normal(8, 9)


class TestBlockAverage(OperatorConformance):
    def make(self):
        return BlockAverage(grid(6, 4), 2), normal(6, 4)


def test_a_gaussian_blur_is_that_of_scipy():
    space, width = grid(40, 33), 0.17  # 1.7 cells
    field = normal(40, 33)
    kernel = gaussian_kernel(space, width)
    for operator, mode in ((ReflectedConvolution(space, kernel), "reflect"), (Convolution(space, kernel), "wrap")):
        expected = scipy.ndimage.gaussian_filter(field.numpy(), 1.7, mode=mode, truncate=_reach(1.7))
        np.testing.assert_allclose(operator(field).numpy(), expected, rtol=0, atol=1e-12)


def _reach(width):
    """Truncation that keeps the same cells in scipy, which rounds."""
    return math.floor(5 * width) / width


def test_a_general_kernel_with_mirrored_borders_is_that_of_scipy():
    kernel = torch.zeros(20, 21, dtype=torch.float64)
    small = normal(5, 3)
    for i in range(-2, 3):
        for j in range(-1, 2):
            kernel[i, j] = small[i + 2, j + 1]
    field = normal(20, 21, seed=2)
    expected = scipy.ndimage.convolve(field.numpy(), small.numpy(), mode="reflect")
    np.testing.assert_allclose(ReflectedConvolution(grid(20, 21), kernel)(field).numpy(), expected, atol=1e-12)


def test_motion_blurs_along_its_line_and_keeps_constants():
    space = grid(31, 31)
    kernel = torch.fft.fftshift(motion_kernel(space, 0.9, 0.0))  # nine cells along x
    assert float(kernel.sum()) == pytest.approx(1.0)
    np.testing.assert_allclose(kernel[15, 11:20].numpy(), 1 / 9, atol=0.02)
    assert float(kernel[14].abs().max() + kernel[16].abs().max()) < 1e-12
    offsets = torch.arange(31).double() - 15
    tilted = torch.fft.fftshift(motion_kernel(space, 0.9, 30.0))
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    moments = torch.tensor([[float((tilted * a * b).sum()) for b in (x, y)] for a in (x, y)], dtype=torch.float64)
    direction = torch.linalg.eigh(moments)[1][:, 1]
    assert float(direction[1] / direction[0]) == pytest.approx(math.tan(math.radians(30)), rel=0.02)


def test_gram_maps_keep_their_structure():
    space = grid(6, 5)
    mask = normal(6, 5) > 0
    for operator in (Restriction(space, mask), Convolution(space, normal(6, 5))):
        gram = operator.gram()
        assert "Composition" not in type(gram).__name__
        dense = operator.to_dense()
        torch.testing.assert_close(gram.to_dense(), dense.T @ dense)
    average = BlockAverage(grid(6, 4), 2).to_dense()
    torch.testing.assert_close(average @ average.T, torch.eye(6, dtype=torch.float64) / 4)


def test_block_averages_keep_integrals_and_place():
    operator = BlockAverage(grid(6, 4), 2)
    linear = grid(6, 4).points()[:, 0].reshape(6, 4)  # x at cell centres
    coarse = operator.codomain
    assert coarse.shape == (3, 2)
    torch.testing.assert_close(operator(linear), coarse.points()[:, 0].reshape(3, 2))


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="width"):
        gaussian_kernel(grid(8, 8), 0.0)
    with pytest.raises(ConfigError, match="covers"):
        gaussian_kernel(grid(8, 8), 1.0)
    with pytest.raises(ConfigError, match="covers"):
        motion_kernel(grid(8, 8), 2.0, 0.0)
    with pytest.raises(ShapeError, match="two axes"):
        motion_kernel(grid(8), 0.2, 0.0)
    with pytest.raises(ConfigError, match="divide"):
        BlockAverage(grid(6, 4), 3)
    with pytest.raises(ShapeError, match="kernel"):
        ReflectedConvolution(grid(6, 5), torch.ones(3, 3))
