"""Velocity of a plane periodic flow from its vorticity."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.interpolation import refuse_nodes
from sciprob.operators.linear import LinearMap
from sciprob.operators.observe_spectral import leading_axes
from sciprob.spaces import GridSpace, Space


class VelocityFromVorticity(LinearMap):
    """The Biot-Savart law on the torus: `(*lead, *grid)` -> `(*lead, 2, *grid)`, components along x and y.

    Stream function psi with -Laplace psi = omega, velocity (d psi / dy, -d psi / dx), both by FFT. The
    mean of omega, zero for a periodic velocity, is ignored, and the velocity has mean zero. For
    even sizes the highest mode along the differentiated axis has no derivative on the grid and is dropped.

    Args:
        domain: Space whose last two axes are those of `grid`, e.g. the grid or a trajectory.
        grid: Periodic grid with the axes x and y in either order.

    Raises:
        ShapeError: If the grid does not have the two axes x and y, or the domain does not end in it.
        ConfigError: If the grid is node-centred.

    Source: Majda and Bertozzi, Vorticity and Incompressible Flow (2002), section 2.1.
    """

    factors: Tensor

    def __init__(self, domain: Space, grid: GridSpace) -> None:
        lead = leading_axes(domain, grid)
        if sorted(grid.dims) != ["x", "y"]:
            message = f"velocity from vorticity needs a grid with the axes x and y, got {grid.dims}."
            raise ShapeError(message)
        refuse_nodes(grid)
        dims = (*domain.dims[: len(lead)], "component", *grid.dims)
        shape = (*lead, 2, *grid.shape)
        super().__init__(domain, Space(shape, name="velocity", dims=dims, coords=dict(domain.coords)))
        self.register_buffer("factors", _factors(grid))

    def _apply_batched(self, m: Any) -> Any:
        if m.numel() == 0:
            return m.new_zeros(len(m), *self.codomain.shape)  # an empty batch, which the FFT refuses
        shape = self.domain.shape[-2:]
        factors = self.factors.to(m.dtype)
        # multiplication by i f, f real, as (re, im) -> (-f im, f re)
        spectrum = torch.fft.rfftn(m, dim=(-2, -1)).unsqueeze(-3)
        turned = torch.complex(-spectrum.imag * factors, spectrum.real * factors)
        return torch.fft.irfftn(turned, s=shape, dim=(-2, -1))


def _factors(grid: GridSpace) -> Tensor:
    """k_y / |k|^2 and -k_x / |k|^2 on the half spectrum, `(2, n_0, n_1 // 2 + 1)`, float64; i times them is the map."""
    waves, odd = {}, {}
    for axis, dim in enumerate(grid.dims):
        n = grid.shape[axis]
        index = torch.fft.fftfreq(n, dtype=torch.float64) if axis == 0 else torch.fft.rfftfreq(n, dtype=torch.float64)
        k = 2 * math.pi * n / (grid.upper[axis] - grid.lower[axis]) * index
        waves[dim] = k.reshape((-1, 1) if axis == 0 else (1, -1))
        odd[dim] = waves[dim] * (index.abs() < 0.5).reshape(waves[dim].shape)  # without the Nyquist mode
    square = waves["x"].square() + waves["y"].square()
    inverse = torch.where(square > 0, 1 / square.clamp_min(1e-300), torch.zeros_like(square))
    return torch.stack([odd["y"] * inverse, -odd["x"] * inverse])
