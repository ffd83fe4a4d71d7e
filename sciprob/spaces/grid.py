"""Fields on uniform Cartesian grids."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError, ShapeError
from sciprob.spaces.space import Space


@dataclass(frozen=True)
class GridSpace(Space):
    """A scalar field on a uniform grid in 1 to 3 dimensions.

    Axis `i` of the tensor has `shape[i]` points named `dims[i]`, uniformly spaced from `lower[i]`
    to `upper[i]`. With `centring="node"` the first and last points lie on the bounds, with
    `"cell"` (pixels, voxels) half a cell inside, with `"periodic"` the first lies on the lower bound
    and the upper bound is the first point again: lower + i h, h = (upper - lower) / n. Images have
    `dims = ("y", "x")`, y increasing with the row. Points are always given in the order x, y, z, t,
    whatever the order of the axes.
    """

    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    centring: str = "node"

    def __post_init__(self) -> None:
        super().__post_init__()
        d = len(self.shape)
        if not (len(self.lower) == len(self.upper) == d):
            message = f"a grid of shape {self.shape} needs {d} bounds each way, got {self.lower} and {self.upper}."
            raise ShapeError(message)
        if self.centring not in ("node", "cell", "periodic"):
            message = f"`centring` should be 'node', 'cell' or 'periodic', got {self.centring!r}."
            raise ShapeError(message)
        if any(b <= a for a, b in zip(self.lower, self.upper, strict=True)):
            message = f"grid bounds should increase, got lower {self.lower} and upper {self.upper}."
            raise ShapeError(message)
        if any(n < (2 if self.centring == "node" else 1) for n in self.shape):
            message = f"a {self.centring} grid of shape {self.shape} has too few points along an axis."
            raise ShapeError(message)
        coords = {name: self.axis(i) for i, name in enumerate(self.dims)}
        object.__setattr__(self, "coords", coords | dict(self.coords))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring points along each axis."""
        shift = 1 if self.centring == "node" else 0
        return tuple((b - a) / (n - shift) for a, b, n in zip(self.lower, self.upper, self.shape, strict=True))

    def axis(self, i: int) -> Tensor:
        """Coordinates along axis `i`, `(shape[i],)`, float64."""
        return self.lower[i] + self.spacing[i] * (torch.arange(self.shape[i], dtype=torch.float64) + self._offset)

    @property
    def _offset(self) -> float:
        """Distance of the first point from the lower bound, in cells."""
        return 0.5 if self.centring == "cell" else 0.0

    def points(self) -> Tensor:
        """All grid points `(size, d)`, columns in the order x, y, z, t."""
        mesh = torch.meshgrid(*(self.axis(i) for i in range(len(self.shape))), indexing="ij")
        return torch.stack([mesh[i].reshape(-1) for i in self._column_axes()], dim=-1)

    def _column_axes(self) -> list[int]:
        """Tensor axis of each point column."""
        return sorted(range(len(self.dims)), key=lambda i: (self.dims[i] == "t", self.dims[i]))

    def interpolation(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Multilinear interpolation, exact for multilinear fields.

        Constant in the outer half cells of a cell-centred grid; a periodic grid is continued
        periodically, so that its points may lie anywhere.

        Raises:
            DataError: If a point is not finite, or lies outside a bounded grid; the message names the first one.
        """
        d = len(self.shape)
        if points.ndim != 2 or points.shape[1] != d:
            message = f"`points` should be (n, {d}), got {tuple(points.shape)}."
            raise ShapeError(message)
        index = torch.zeros(len(points), 1, dtype=torch.long, device=points.device)
        weight = torch.ones(len(points), 1, dtype=points.dtype, device=points.device)
        for i, column in sorted(zip(self._column_axes(), range(d), strict=True)):
            left, fraction = self._locate(points[:, column], i)
            n = self.shape[i]
            right = (left + 1) % n if self.centring == "periodic" else (left + 1).clamp_max(n - 1)
            pair = torch.stack([left, right], dim=-1)
            share = torch.stack([1 - fraction, fraction], dim=-1)
            index = (index[:, :, None] * n + pair[:, None, :]).flatten(1)
            weight = (weight[:, :, None] * share[:, None, :]).flatten(1)
        return index, weight

    def _locate(self, x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Left neighbour and fraction along axis `i`."""
        if self.centring == "periodic":
            return self._locate_periodic(x, i)
        tolerance = 1e-9 * (self.upper[i] - self.lower[i])
        outside = ~((x >= self.lower[i] - tolerance) & (x <= self.upper[i] + tolerance))
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            place, bounds = f"{self.dims[i]} = {float(x[row]):g}", f"[{self.lower[i]:g}, {self.upper[i]:g}]"
            message = f"point {row} has {place}, outside {bounds}; move it, or give it in the unit of the grid."
            raise DataError(message)
        s = ((x - self.lower[i]) / self.spacing[i] - self._offset).clamp(0, self.shape[i] - 1)
        left = s.floor().clamp_max(max(self.shape[i] - 2, 0))
        return left.long(), s - left

    def _locate_periodic(self, x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """Left neighbour, wrapped into the period, and fraction along axis `i`."""
        if not bool(torch.isfinite(x).all()):
            row = int((~torch.isfinite(x)).nonzero()[0])
            message = f"point {row} has {self.dims[i]} = {float(x[row]):g}, which is not finite."
            raise DataError(message)
        s = (x - self.lower[i]) / self.spacing[i]
        left = s.floor()
        return left.long() % self.shape[i], s - left
