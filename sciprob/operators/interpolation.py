"""Interpolation matrices along one axis: trigonometric in space, local polynomials in time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError
from sciprob.spaces import GridSpace

BOUNDARIES = ("periodic", "dirichlet", "neumann")


def spectral_matrix(grid: GridSpace, axis: int, x: Tensor, boundary: str) -> Tensor:
    """Values at `x` of the trigonometric interpolant of values on one grid axis, `(len(x), n)`, float64.

    With s = (x - lower) / (upper - lower) and n points the basis is 1, cos 2 pi k s, sin 2 pi k s
    (`"periodic"`, about the first point; for even n the highest mode is the cosine), sin pi k s with
    k = 1..n (`"dirichlet"`) or cos pi k s with k = 0..n-1 (`"neumann"`). Exact to round-off for
    fields in that span. Each basis is orthogonal on its points (discrete Fourier, sine and cosine transforms).

    Args:
        grid: The grid.
        axis: Tensor axis of the grid.
        x: Coordinates along that axis, `(n_points,)`; periodic axes wrap.
        boundary: `"periodic"`, `"dirichlet"` or `"neumann"`.

    Raises:
        ConfigError: If the boundary is unknown, a bounded axis is not cell-centred, or a periodic one is node-centred.
        DataError: If a point lies outside a bounded axis.
    """
    lower, upper, n = grid.lower[axis], grid.upper[axis], grid.shape[axis]
    nodes, x = grid.axis(axis), x.detach().to("cpu", torch.float64)
    if boundary == "periodic":
        refuse_nodes(grid)
        origin = float(nodes[0])
        on_points, on_grid = (_harmonics((z - origin) / (upper - lower), n) for z in (x, nodes))
    elif boundary in BOUNDARIES:
        if grid.centring != "cell":
            message = f"a {boundary} axis needs a cell-centred grid, got centring {grid.centring!r}."
            raise ConfigError(message)
        _refuse_outside(x, grid, axis)
        on_points, on_grid = (_half_waves((z - lower) / (upper - lower), n, boundary) for z in (x, nodes))
    else:
        message = f"`boundary` should be one of {', '.join(BOUNDARIES)}, got {boundary!r}."
        raise ConfigError(message)
    return (on_points / on_grid.square().sum(0)) @ on_grid.T


def lagrange_matrix(times: Tensor, t: Tensor, order: int) -> Tensor:
    """Values at `t` of the polynomials through `order` neighbouring stored values, `(len(t), len(times))`, float64.

    The error is O(h^order) for spacing h; polynomials of degree `order - 1` are reproduced. The
    times may be unevenly spaced.

    Args:
        times: Stored times, increasing, `(n_times,)`.
        t: Wanted times, `(n,)`.
        order: Number of neighbours, at least 2 and at most `n_times`.

    Raises:
        ConfigError: If there are fewer stored times than `order`.
        DataError: If a wanted time lies outside the stored interval.
    """
    times, t = (z.detach().to("cpu", torch.float64) for z in (times, t))
    if not 2 <= order <= len(times):
        message = (
            f"interpolation in time through {order} values needs 2 <= order <= {len(times)}, the number of stored "
            "times; store more of them or lower `order`."
        )
        raise ConfigError(message)
    refuse_times_outside(times, t)
    first = (torch.searchsorted(times, t, right=True) - (order + 1) // 2).clamp(0, len(times) - order)
    stencil = first[:, None] + torch.arange(order)
    nodes = times[stencil]  # (n, order)
    same = torch.eye(order, dtype=torch.bool)
    gaps = (nodes[:, :, None] - nodes[:, None, :]).masked_fill(same, 1.0)
    factors = (t[:, None, None] - nodes[:, None, :]) / gaps
    weights = factors.masked_fill(same, 1.0).prod(-1)
    return torch.zeros(len(t), len(times), dtype=torch.float64).scatter(1, stencil, weights)


def refuse_times_outside(times: Tensor, t: Tensor) -> None:
    """Raise a `DataError` that names the first time outside the stored interval, and the interval."""
    first, last = float(times[0]), float(times[-1])
    slack = 1e-9 * (last - first)
    outside = ~((t >= first - slack) & (t <= last + slack))
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        message = (
            f"observation {row} is at time {float(t[row]):g}, outside the interval [{first:g}, {last:g}] of the "
            "trajectory; move it, or extend the times of the trajectory."
        )
        raise DataError(message)


def refuse_nodes(grid: GridSpace) -> None:
    """Raise a `ConfigError` for a grid whose last point would repeat the first one on the torus."""
    if grid.centring == "node":
        message = "a periodic axis needs a grid of centring 'periodic' or 'cell', got 'node'."
        raise ConfigError(message)


def _harmonics(s: Tensor, n: int) -> Tensor:
    """1, cos 2 pi k s, sin 2 pi k s and, for even n, cos pi n s: n columns."""
    k = torch.arange(1, (n - 1) // 2 + 1, dtype=torch.float64)
    phase = 2 * math.pi * (s[:, None] * k)
    columns = [torch.ones(len(s), 1, dtype=torch.float64), phase.cos(), phase.sin()]
    if n % 2 == 0:
        columns.append((math.pi * n * s[:, None]).cos())
    return torch.cat(columns, dim=1)


def _half_waves(s: Tensor, n: int, boundary: str) -> Tensor:
    """Sin pi k s with k = 1..n, or cos pi k s with k = 0..n-1."""
    k = torch.arange(n, dtype=torch.float64)
    if boundary == "neumann":
        return (math.pi * s[:, None] * k).cos()
    return (math.pi * s[:, None] * (k + 1)).sin()


def _refuse_outside(x: Tensor, grid: GridSpace, axis: int) -> None:
    lower, upper = grid.lower[axis], grid.upper[axis]
    slack = 1e-9 * (upper - lower)
    outside = ~((x >= lower - slack) & (x <= upper + slack))
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        message = f"point {row} has {grid.dims[axis]} = {float(x[row]):g}, outside [{lower:g}, {upper:g}]; move it."
        raise DataError(message)
