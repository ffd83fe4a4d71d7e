"""Jets of fields and trajectories on spectral grids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.pde.derivative_names import canonical
from sciprob.pde.jet import Jet
from sciprob.pde.time_differences import time_difference_matrix


def grid_jet(basis: SpectralBasis, u: Tensor, derivatives: Iterable[str]) -> Jet:
    """Values and spatial derivatives of a field at the grid points, by its Fourier, sine or cosine series.

    Exact for fields in the basis; dtype and device are those of `u`.

    Args:
        basis: Basis of the grid.
        u: `(*batch, *grid.shape)`.
        derivatives: Names in the axes of the grid, such as `("x", "xx")`.

    Returns:
        A jet with entries `(*batch, n)`, points in the order of `grid.points()`.
    """
    basis.grid.batch_shape(u)
    u_hat = basis.to_spectral(u)
    wanted = dict.fromkeys(map(canonical, derivatives))
    entries = {name: basis.values_of_derivative(u_hat, name) for name in wanted if name}
    return Jet({name: _points(basis, values) for name, values in {"": u, **entries}.items()})


def trajectory_jet(
    basis: SpectralBasis,
    u: Tensor,
    times: Tensor,
    derivatives: Iterable[str],
    *,
    order: int = 6,
    rate: Tensor | None = None,
) -> Jet:
    """Values and derivatives in space and time of a trajectory at all grid points and times.

    Space as in `grid_jet`. Derivatives in t come from `rate`, the values of u_t, if it is given
    (`spectral_rate`), else from finite differences of the stored times, uniform or not, with the error
    O(step^order); near the ends they are one-sided, with larger constants.

    Args:
        basis: Basis of the grid.
        u: `(*batch, n_times, *grid.shape)`.
        times: `(n_times,)`, increasing.
        derivatives: Names in the axes of the grid and `t`, such as `("x", "xx", "t")`.
        order: Order of accuracy in time.
        rate: u_t, shape of `u`.

    Returns:
        A jet with entries `(*batch, n_times * n)`, time-major, as `trajectory_points`.

    Raises:
        ShapeError: If `u` does not have as many times as `times`, or these are too few for the order.
        UnsupportedProblemError: For second derivatives in time with `rate`.
    """
    d = len(basis.grid.shape)
    if u.ndim < d + 1 or u.shape[-d - 1] != len(times):
        message = f"`u` should end in (n_times, *grid) = {(len(times), *basis.grid.shape)}, got {tuple(u.shape)}."
        raise ShapeError(message)
    entries = {}
    for name in dict.fromkeys(("", *map(canonical, derivatives))):
        space = name.replace("t", "")
        values = _in_time(u, times, name.count("t"), order, rate, d)
        if space:
            values = basis.values_of_derivative(basis.to_spectral(values), space)
        entries[name] = _points(basis, values).flatten(-2)
    return Jet(entries)


def trajectory_points(basis: SpectralBasis, times: Tensor, like: Tensor) -> dict[str, Tensor]:
    """Coordinates of the entries of a `trajectory_jet`, `(n_times * n,)` each, `t` among them, in dtype of `like`."""
    points = basis.grid.points().to(like)
    axes = {name: points[:, i].repeat(len(times)) for i, name in enumerate(sorted(basis.grid.dims))}
    return axes | {"t": times.to(like).repeat_interleave(len(points))}


def spectral_rate(
    equation: SpectralEquation, u: Tensor, p: Mapping[str, Tensor] | None = None, t: float = 0.0
) -> Tensor:
    """u_t = L u + N(u, t) as the spectral equation has it, values on the grid.

    Args:
        equation: The equation.
        u: `(*batch, *state.shape)`.
        p: Parameters that differ from the defaults, without batch axis.
        t: Time, for equations whose coefficients depend on it.
    """
    batch = equation.state.batch_shape(u)
    known = {name: value.to(u.device) for name, value in equation.defaults.items()} | dict(p or {})
    parameters = {name: value.unsqueeze(0) for name, value in known.items()}
    basis = equation.basis
    u_hat = basis.to_spectral(equation.state.merge(u))
    rate = equation.symbol(parameters) * u_hat
    nonlinear = equation.nonlinear(u_hat, t, equation.prepare({k: v.to(u.dtype) for k, v in parameters.items()}))
    values = basis.to_grid(rate.to(u_hat.dtype) if nonlinear is None else (rate + nonlinear).to(u_hat.dtype))
    return equation.state.split(values, batch)


def _in_time(u: Tensor, times: Tensor, derivative: int, order: int, rate: Tensor | None, d: int) -> Tensor:
    """U or one of its derivatives in time, on the grid."""
    if derivative == 0:
        return u
    if rate is None:
        matrix = time_difference_matrix(times, derivative, order).to(u)
        return torch.einsum("st,...tn->...sn", matrix, u.flatten(-d)).reshape(u.shape)
    if derivative > 1:
        message = "`rate` gives the first derivative in time only; leave it out for finite differences."
        raise UnsupportedProblemError(message)
    return rate


def _points(basis: SpectralBasis, values: Tensor) -> Tensor:
    return values.flatten(-len(basis.grid.shape))
