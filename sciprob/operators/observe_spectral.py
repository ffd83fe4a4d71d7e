"""Point sensors of fields on spectral grids, and of trajectories of such fields."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.interpolation import lagrange_matrix, spectral_matrix
from sciprob.operators.linear import LinearMap
from sciprob.spaces import GridSpace, Space

AXES = "abc"  # letters of the grid's axes in einsum


class SpectralObservation(LinearMap):
    """Values at points by trigonometric interpolation: `(*lead, *grid.shape)` -> `(*lead, n)`.

    Exact to round-off for band-limited fields; the interpolant is that of `spectral_matrix`.
    Leading axes of the event, such as time or components, are kept.

    Args:
        domain: Space whose last axes are those of `grid` (the grid itself, or a trajectory).
        grid: The grid of the field, 1 to 3 axes.
        points: `(n, d)`, columns in the order x, y, z.
        boundary: One of `"periodic"`, `"dirichlet"`, `"neumann"`, or one for each tensor axis of `grid`.

    Raises:
        ShapeError: If `points` or `domain` does not fit the grid.
        DataError: If a point lies outside a bounded axis; periodic axes wrap.
    """

    def __init__(
        self, domain: Space, grid: GridSpace, points: Tensor, boundary: str | tuple[str, ...] = "periodic"
    ) -> None:
        matrices = axis_matrices(grid, points, boundary)
        lead = leading_axes(domain, grid)
        coords = {dim: domain.coords[dim] for dim in domain.dims[: len(lead)] if dim in domain.coords}
        coords |= {axis: points[:, i].detach().cpu() for i, axis in enumerate("xyz"[: points.shape[1]])}
        dims = (*domain.dims[: len(lead)], "sensor")
        codomain = Space((*lead, len(points)), name=domain.name, dims=dims, unit=domain.unit, coords=coords)
        super().__init__(domain, codomain)
        self._register(matrices)
        self.grid = grid
        self.boundary = boundary

    def at(self, points: Tensor) -> SpectralObservation:
        """The same field at other points."""
        return SpectralObservation(self.domain, self.grid, points, self.boundary)

    def _register(self, matrices: list[Tensor]) -> None:
        for i, matrix in enumerate(matrices):
            self.register_buffer(f"matrix_{i}", matrix)

    def _matrices(self, like: Tensor) -> list[Tensor]:
        return [getattr(self, f"matrix_{i}").to(like.dtype) for i in range(len(self.grid.shape))]

    def _apply_batched(self, m: Any) -> Any:
        letters = AXES[: len(self.grid.shape)]
        factors = ",".join(f"p{a}" for a in letters)
        return torch.einsum(f"...{letters},{factors}->...p", m, *self._matrices(m))

    def _adjoint_batched(self, y: Any) -> Any:
        letters = AXES[: len(self.grid.shape)]
        factors = ",".join(f"p{a}" for a in letters)
        return torch.einsum(f"...p,{factors}->...{letters}", y, *self._matrices(y))


class SpaceTimeObservation(LinearMap):
    """Values of a trajectory at scattered places and times: y_i = u(t_i, x_i).

    Trigonometric in space (see `SpectralObservation`), local polynomials in time
    (see `lagrange_matrix`): the error is O(h^order) in the spacing h of the stored times.

    Args:
        domain: Trajectory `(n_times, *grid.shape)` with the coordinate `time`.
        grid: Grid of the field.
        points: `(n, d)`, columns in the order x, y, z.
        times: `(n,)`, one for each point.
        boundary: As in `SpectralObservation`.
        order: Stored values used for each time.

    Raises:
        DataError: If a time lies outside the trajectory (the message names the interval), or a point outside
            a bounded axis.
        ShapeError: If shapes disagree.
    """

    weights: Tensor

    def __init__(
        self,
        domain: Space,
        grid: GridSpace,
        points: Tensor,
        times: Tensor,
        *,
        boundary: str | tuple[str, ...] = "periodic",
        order: int = 6,
    ) -> None:
        if leading_axes(domain, grid) != domain.shape[:1] or times.shape != points.shape[:1]:
            message = (
                f"a trajectory of shape (n_times, {', '.join(map(str, grid.shape))}) and one time for each of "
                f"{len(points)} points are needed, got {domain.shape} and times {tuple(times.shape)}."
            )
            raise ShapeError(message)
        coords = {axis: points[:, i].detach().cpu() for i, axis in enumerate("xyz"[: points.shape[1]])}
        coords["time"] = times.detach().cpu()
        super().__init__(
            domain, Space((len(points),), name=domain.name, dims=("sensor",), unit=domain.unit, coords=coords)
        )
        self.in_space = SpectralObservation(domain, grid, points, boundary)
        self.register_buffer("weights", lagrange_matrix(domain.coords["time"], times, order))

    def _apply_batched(self, m: Any) -> Any:
        return torch.einsum("...tp,pt->...p", self.in_space(m), self.weights.to(m.dtype))

    def _adjoint_batched(self, y: Any) -> Any:
        return self.in_space.T(torch.einsum("...p,pt->...tp", y, self.weights.to(y.dtype)))


def axis_matrices(grid: GridSpace, points: Tensor, boundary: str | tuple[str, ...]) -> list[Tensor]:
    """Interpolation matrix `(n_points, grid.shape[i])` of each tensor axis."""
    d = len(grid.shape)
    if points.ndim != 2 or points.shape[1] != d:
        message = f"`points` should be (n, {d}), got {tuple(points.shape)}."
        raise ShapeError(message)
    kinds = (boundary,) * d if isinstance(boundary, str) else tuple(boundary)
    if len(kinds) != d:
        message = f"`boundary` should be one word or one for each of {d} axes, got {boundary!r}."
        raise ShapeError(message)
    columns = sorted(range(d), key=lambda i: grid.dims[i])  # tensor axis of each point column
    return [spectral_matrix(grid, i, points[:, columns.index(i)], kinds[i]) for i in range(d)]


def leading_axes(domain: Space, grid: GridSpace) -> tuple[int, ...]:
    """Axes of `domain` before those of the grid.

    Raises:
        ShapeError: If the domain does not end in the grid's shape.
    """
    lead = len(domain.shape) - len(grid.shape)
    if lead < 0 or domain.shape[lead:] != grid.shape:
        message = f"`domain` should end in the grid's shape {grid.shape}, got {domain.shape}."
        raise ShapeError(message)
    return domain.shape[:lead]
