"""Posteriors of fields that are known everywhere: Gaussian processes conditioned in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.pde.functionals import AnyPoints, ScatteredPoints, TensorPoints
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.spaces import GridSpace, Space


class Process(Protocol):
    """A conditioned process, such as `sciprob.solvers.kronecker_gp.FactorConditional`."""

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        ...

    @property
    def batch(self) -> torch.Size:
        """Batch shape of the mean."""
        ...

    def mean(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Mean of a derivative, `(*batch, *points.shape)`."""
        ...

    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Standard deviation of a derivative, `(*points.shape)`."""
        ...

    def root(self, points: AnyPoints, derivative: str, scale: float, codomain: Space) -> Any:
        """Root of the covariance at points, times `scale`."""
        ...


class ProcessPosterior(GaussianPosterior):
    r"""A field with exact values, derivatives and standard deviations at any points.

    On its grid it is a `GaussianPosterior` as any other. Beyond it, `at` evaluates the process itself instead of
    interpolating grid values, and `derivative` and `on` give derivatives and other grids, all from the same
    coefficients. Standard deviations are exact and cost a few matrix products per axis; no covariance is formed.
    Draws hold what the factors of the process hold: everything on the nodes, and between them too unless the grid does
    not resolve the kernels, where `std` is the larger.

    Args:
        space: Grid with the process' coordinates as axes; dtype and device are the process'.
        process: The conditioned process, without batch axes.
        name_of_derivative: Which derivative of the process is the field.
        scale: Factor of all standard deviations, from calibration.
        meta: Plain numbers and words.
        variance: Marginal variances, if already known.

    Raises:
        ShapeError: If the axes of the grid are not the coordinates of the process, or the process has batch axes.
    """

    def __init__(
        self,
        space: GridSpace,
        process: Process,
        *,
        name_of_derivative: str = "",
        scale: float = 1.0,
        meta: Mapping[str, Any] | None = None,
        variance: Tensor | None = None,
    ) -> None:
        if space.dims != process.coordinates or len(process.batch):
            message = (
                f"a process in {process.coordinates} needs a grid with these axes, and one right-hand side, got "
                f"{space.dims} and the batch {tuple(process.batch)}."
            )
            raise ShapeError(message)
        self.process = process
        self.scale = float(scale)
        self.name_of_derivative = name_of_derivative
        points = TensorPoints(tuple(space.axis(i) for i in range(len(space.dims))))
        mean = process.mean(points, name_of_derivative)
        root = process.root(points, name_of_derivative, self.scale, space)
        super().__init__(space, mean=mean, root=root, variance=variance, meta=meta)
        self._points = points

    def at(self, points: Tensor) -> GaussianPosterior:
        """The field at points `(n, d)` anywhere in the domain, columns in the order x, y, z, t; no interpolation.

        Points outside the domain are extrapolated, with a standard deviation that says so.

        Raises:
            ShapeError: If `points` is not `(n, d)`.
        """
        names = sorted(self.process.coordinates, key=lambda name: (name == "t", name))
        if points.ndim != 2 or points.shape[1] != len(names):
            message = f"`points` should be (n, {len(names)}), got {tuple(points.shape)}."
            raise ShapeError(message)
        columns = [names.index(name) for name in self.process.coordinates]
        scattered = ScatteredPoints(points[:, columns].to(self.mean))
        coords = {name: points[:, i].detach().cpu() for i, name in enumerate(names)}
        space = Space((len(points),), self.space.name, ("points",), self.space.unit, coords)
        name = self.name_of_derivative
        return GaussianPosterior(
            space,
            mean=self.process.mean(scattered, name),
            root=self.process.root(scattered, name, self.scale, space),
            variance=(self.scale * self.process.std(scattered, name)).square(),
            meta=self._origin(),
        )

    def derivative(self, name: str) -> ProcessPosterior:
        """The posterior of a derivative of this field (`"x"`, `"xx"`, `"xt"`), on the same grid.

        Raises:
            ShapeError: If the name has letters that are no coordinates.
            UnsupportedProblemError: If the kernels are not smooth enough.
        """
        return self._new(self.space, self.name_of_derivative + name, f"{self.space.name}_{name}")

    def on(self, space: GridSpace) -> ProcessPosterior:
        """The same field on another grid.

        Raises:
            ShapeError: If the grid has other coordinates.
        """
        return self._new(space, self.name_of_derivative, space.name)

    def _new(self, space: Any, derivative: str, name: str) -> ProcessPosterior:
        grid = GridSpace(
            space.shape, name, space.dims, space.unit, lower=space.lower, upper=space.upper, centring=space.centring
        )
        return ProcessPosterior(
            grid, self.process, name_of_derivative=derivative, scale=self.scale, meta=self._origin()
        )

    def _compute_variance(self) -> Tensor:
        return (self.scale * self.process.std(self._points, self.name_of_derivative)).square()
