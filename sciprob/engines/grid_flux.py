"""Finite volumes on a cell-centred grid with zero boundary values: fluxes, and the inverse Laplacian."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.operators.fourier import filter_periodic
from sciprob.spaces import GridSpace


def divergence_of_flux(m: Tensor, u: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """-div(exp(m) grad u) on `(B, *shape)`, with the harmonic mean of exp(m) on faces and u = 0 on the boundary.

    A boundary face lies half a cell away, so its transmissibility is 2 exp(m) / h^2.
    """
    total = torch.zeros_like(u)
    for axis, h in enumerate(spacing, start=1):
        n = u.shape[axis]
        left, right = m.narrow(axis, 0, n - 1), m.narrow(axis, 1, n - 1)
        inner = ((left + right) / 2).exp() / ((left - right) / 2).cosh()  # 2 a b / (a + b) for a, b = exp(m)
        first, last = (2 * m.narrow(axis, i, 1).exp() for i in (0, n - 1))
        zero = torch.zeros_like(u.narrow(axis, 0, 1))
        gradient = torch.cat([zero, u, zero], dim=axis).diff(dim=axis)
        total = total - (torch.cat([first, inner, last], dim=axis) * gradient).diff(dim=axis) / h**2
    return total


def inverse_symbol(grid: GridSpace) -> Tensor:
    """Inverse eigenvalues of the finite-volume -Laplacian on the doubled torus, as a half spectrum, float64.

    On odd sequences the stencil with half a cell at the boundary is the periodic one; its modes have
    the eigenvalue sum_i 4 sin^2(pi k_i / 2 n_i) / h_i^2. The constant mode, which no odd sequence has, is 1.
    """
    d = len(grid.shape)
    total = torch.zeros((), dtype=torch.float64)
    for axis, (n, h) in enumerate(zip(grid.shape, grid.spacing, strict=True)):
        k = torch.arange(2 * n if axis < d - 1 else n + 1, dtype=torch.float64)
        values = 4 * (math.pi * k / (2 * n)).sin().square() / h**2
        total = total + values.reshape([-1 if i == axis else 1 for i in range(d)])
    total[(0,) * d] = 1.0
    return 1 / total


def odd_filter(x: Tensor, symbol: Tensor) -> Tensor:
    """Multiply the sine coefficients of `(B, *shape)` by a symbol given on the doubled torus."""
    shape = x.shape[1:]
    for axis in range(1, x.ndim):
        x = torch.cat([x, -x.flip(axis)], dim=axis)
    y = filter_periodic(x, symbol, tuple(2 * n for n in shape))
    return y[(slice(None), *(slice(n) for n in shape))]
