"""Blurs of images and fields: kernels, and convolution with mirrored borders."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.operators.fourier import filter_periodic
from sciprob.operators.linear import LinearMap
from sciprob.spaces import GridSpace, Space

_REACH = 5.0  # standard deviations after which a Gaussian kernel is cut; what is left is below 1e-6
_STEPS = 64  # points per cell along a line of motion


def gaussian_kernel(space: GridSpace, width: float) -> Tensor:
    """Kernel of an isotropic Gaussian blur, summing to one, `(*space.shape)`, origin at index 0, float64.

    Args:
        space: Grid.
        width: Standard deviation in the unit of the coordinates, positive.

    Raises:
        ConfigError: If the width is not positive, or too large for the grid.
    """
    if not 0 < width < math.inf:
        message = f"the width of a blur should be positive and finite, got {width}."
        raise ConfigError(message)
    kernel = torch.ones((), dtype=torch.float64)
    for n, h in zip(space.shape, space.spacing, strict=True):
        offset = _offsets(n)
        profile = torch.exp(-0.5 * (offset * h / width).square()) * (offset.abs() * h <= _REACH * width)
        _refuse_wide(int((profile > 0).sum()), n, f"a Gaussian of width {width:g}")
        kernel = kernel[..., None] * (profile / profile.sum())
    return kernel


def motion_kernel(space: GridSpace, length: float, angle: float) -> Tensor:
    """Kernel of a blur by motion along a straight line, summing to one, `(*space.shape)`, origin at index 0, float64.

    The line is centred on the origin; its points are shared linearly among the four nearest cells.

    Args:
        space: Grid with two axes, y and x.
        length: Length of the motion in the unit of the coordinates, positive.
        angle: Degrees from the x axis towards y.

    Raises:
        ConfigError: If the length is not positive, or too large for the grid.
        ShapeError: If the grid has not two axes.
    """
    if len(space.shape) != 2:
        message = f"a motion blur needs a grid with two axes, got the shape {space.shape}."
        raise ShapeError(message)
    if not 0 < length < math.inf:
        message = f"the length of a motion should be positive and finite, got {length}."
        raise ConfigError(message)
    direction = (math.sin(math.radians(angle)), math.cos(math.radians(angle)))
    count = max(2, math.ceil(_STEPS * length / min(space.spacing)))
    along = length * ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5)
    index, weight = [], []
    for n, h, d in zip(space.shape, space.spacing, direction, strict=True):
        place = along * d / h
        _refuse_wide(2 * math.ceil(float(place.abs().max())) + 1, n, f"a motion of length {length:g}")
        left = place.floor()
        index.append(torch.stack([left, left + 1]).long() % n)
        weight.append(torch.stack([1 - (place - left), place - left]) / count**0.5)
    kernel = torch.zeros(space.shape, dtype=torch.float64)
    for i in (0, 1):
        for j in (0, 1):
            kernel.index_put_((index[0][i], index[1][j]), weight[0][i] * weight[1][j], accumulate=True)
    return kernel


class ReflectedConvolution(LinearMap):
    """Convolution with a kernel of short reach after mirroring the field at its borders (half-sample symmetric).

    Costs two FFTs of twice the points along each axis. A kernel that sums to one keeps constants. The adjoint
    is exact: pad with zeros, filter with the conjugate, fold the mirror images back.

    Args:
        space: Grid of input and output, 1 to 3 axes.
        kernel: `(*space.shape)` with its origin at index 0, as of `gaussian_kernel`.

    Raises:
        ShapeError: If the kernel has another shape.
    """

    transfer: Tensor

    def __init__(self, space: Space, kernel: Tensor) -> None:
        super().__init__(space, space)
        if tuple(kernel.shape) != space.shape:
            message = f"`kernel` should be {space.shape}, got {tuple(kernel.shape)}; pad it with zeros."
            raise ShapeError(message)
        self.register_buffer("transfer", torch.fft.rfftn(_on_double_torus(kernel)))

    def _apply_batched(self, m: Any) -> Any:
        y = self._filter(mirror(m, len(self.domain.shape)), conjugate=False)
        return y[(slice(None), *(slice(n) for n in self.domain.shape))]

    def _adjoint_batched(self, y: Any) -> Any:
        padding = [size for n in reversed(self.domain.shape) for size in (0, n)]
        folded = self._filter(torch.nn.functional.pad(y, padding), conjugate=True)
        for axis, n in enumerate(self.domain.shape, start=1):
            folded = folded.narrow(axis, 0, n) + folded.narrow(axis, n, n).flip(axis)
        return folded

    def _filter(self, x: Tensor, *, conjugate: bool) -> Tensor:
        transfer = self.transfer.to(torch.promote_types(x.dtype, torch.complex32))
        shape = tuple(2 * n for n in self.domain.shape)
        return filter_periodic(x, transfer.conj() if conjugate else transfer, shape)


def mirror(x: Tensor, axes: int) -> Tensor:
    """The field followed by its mirror image along each of the last axes, `(*batch, 2 n, ...)`."""
    for axis in range(-axes, 0):
        x = torch.cat([x, x.flip(axis)], dim=axis)
    return x


def _on_double_torus(kernel: Tensor) -> Tensor:
    """The kernel on a torus of twice the points, negative offsets moved to its end."""
    for axis, n in enumerate(kernel.shape):
        ahead, behind = kernel.split([(n + 1) // 2, n // 2], dim=axis)
        gap = torch.zeros_like(kernel)
        kernel = torch.cat([ahead, gap, behind], dim=axis)
    return kernel


def _offsets(n: int) -> Tensor:
    """Signed offsets of the indices 0 ... n - 1 from the origin, float64."""
    return (torch.arange(n, dtype=torch.float64) + n // 2) % n - n // 2


def _refuse_wide(cells: int, n: int, what: str) -> None:
    """Refuse kernels that would meet themselves around the torus."""
    if cells >= n:
        message = f"{what} covers {cells} of {n} points along an axis; choose a smaller blur or a larger grid."
        raise ConfigError(message)
