"""Trajectories at other times, and their averages over a window."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.operators.interpolation import lagrange_matrix, refuse_times_outside
from sciprob.operators.linear import LinearMap
from sciprob.spaces import Space


class TimeObservation(LinearMap):
    """A trajectory between its stored times: `(n_times, *rest)` -> `(k, *rest)`.

    Local polynomials through `order` stored values: the error is O(h^order) in their spacing h.

    Args:
        domain: Space with the first axis `time` and its coordinate.
        times: Wanted times, `(k,)`.
        order: Stored values used for each time.

    Raises:
        ConfigError: If there are fewer stored times than `order`.
        DataError: If a time lies outside the trajectory; the message names the interval.
        ShapeError: If `domain` has no time axis.
    """

    weights: Tensor

    def __init__(self, domain: Space, times: Tensor, *, order: int = 6) -> None:
        weights = lagrange_matrix(stored_times(domain), times, order)
        coords = dict(domain.coords) | {"time": times.detach().cpu()}
        shape = (len(times), *domain.shape[1:])
        super().__init__(domain, Space(shape, name=domain.name, dims=domain.dims, unit=domain.unit, coords=coords))
        self.register_buffer("weights", weights)

    def _apply_batched(self, m: Any) -> Any:
        return torch.einsum("kt,bt...->bk...", self.weights.to(m.dtype), m)

    def _adjoint_batched(self, y: Any) -> Any:
        return torch.einsum("kt,bk...->bt...", self.weights.to(y.dtype), y)


class TimeAverage(LinearMap):
    """Mean over a window, (1 / (stop - start)) int u dt: `(n_times, *rest)` -> `(*rest,)`.

    The integral of the local polynomials of `TimeObservation` is exact, so the error is O(h^order).

    Args:
        domain: Space with the first axis `time` and its coordinate.
        start: Begin of the window; default the first stored time.
        stop: End of the window; default the last stored time.
        order: Stored values used for each instant.

    Raises:
        ConfigError: If the window is empty, or there are fewer stored times than `order`.
        DataError: If the window leaves the trajectory; the message names the interval.
        ShapeError: If `domain` has no time axis.
    """

    weights: Tensor

    def __init__(self, domain: Space, start: float | None = None, stop: float | None = None, *, order: int = 6) -> None:
        times = stored_times(domain).detach().to("cpu", torch.float64)
        window = (float(times[0]) if start is None else start, float(times[-1]) if stop is None else stop)
        ends = torch.tensor(window, dtype=torch.float64)
        if not ends[0] < ends[1]:
            message = f"a time window needs start < stop, got [{float(ends[0]):g}, {float(ends[1]):g}]."
            raise ConfigError(message)
        refuse_times_outside(times, ends)
        coords = {name: value for name, value in domain.coords.items() if name != "time"}
        super().__init__(
            domain, Space(domain.shape[1:], name=domain.name, dims=domain.dims[1:], unit=domain.unit, coords=coords)
        )
        self.register_buffer("weights", _average_weights(times, ends, order))

    def _apply_batched(self, m: Any) -> Any:
        return torch.einsum("t,bt...->b...", self.weights.to(m.dtype), m)

    def _adjoint_batched(self, y: Any) -> Any:
        return torch.einsum("t,b...->bt...", self.weights.to(y.dtype), y)


def stored_times(domain: Space) -> Tensor:
    """Times of a trajectory.

    Raises:
        ShapeError: If its first axis is not `time`, or has no coordinate.
    """
    if not domain.dims or domain.dims[0] != "time" or "time" not in domain.coords:
        message = f"a trajectory should have the first axis `time` with its coordinate, got the axes {domain.dims}."
        raise ShapeError(message)
    return domain.coords["time"]


def _average_weights(times: Tensor, ends: Tensor, order: int) -> Tensor:
    """Integral of the piecewise polynomial: Gauss points on each piece, exact up to degree `order - 1`."""
    nodes, shares = (torch.from_numpy(z) for z in np.polynomial.legendre.leggauss((order + 1) // 2))
    inner = times[(times > ends[0]) & (times < ends[1])]
    breaks = torch.cat([ends[:1], inner, ends[1:]])
    half = breaks.diff()[:, None] / 2
    t = (breaks[:-1, None] + half * (nodes + 1)).flatten()
    return (half * shares).flatten() @ lagrange_matrix(times, t, order) / (ends[1] - ends[0])
