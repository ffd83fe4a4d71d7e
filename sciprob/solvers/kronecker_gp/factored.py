"""Conditioned processes whose mean and root are sums of products of axis functions."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.linear import LinearMap
from sciprob.pde.functionals import AnyPoints, Functionals, TensorPoints
from sciprob.random import randn
from sciprob.solvers.kronecker_gp.columns import contract, contract_at_points, transposed_at_points
from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.spaces import Space

if TYPE_CHECKING:
    from sciprob.solvers.kronecker_gp.factors import AxisFactors


class FactoredConditional(Conditional):
    """Mean and covariance from the factors of the axes; no covariance of grid values is ever formed."""

    @property
    @abc.abstractmethod
    def axes(self) -> tuple[AxisFactors, ...]:
        """Factors of each axis."""

    @property
    @abc.abstractmethod
    def coefficients(self) -> Tensor:
        """Posterior mean as coefficients of products of factors, `(*batch, r_1, ..., r_d)`."""

    @property
    @abc.abstractmethod
    def white_shape(self) -> tuple[int, ...]:
        """Shape of the white noise that drives the process around its mean."""

    @abc.abstractmethod
    def deviation(self, white: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """The root of the covariance at points, `(B, *white_shape)` to `(B, *points.shape)`."""

    @abc.abstractmethod
    def deviation_transpose(self, values: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """The transpose of `deviation`."""

    @abc.abstractmethod
    def std_of(self, functionals: Functionals) -> Tensor:
        """Posterior standard deviation of sum_a c_a D^a u, without noise, `(*points.shape)`; row by row."""

    def mean(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior mean of a derivative of u, `(*batch, *points.shape)`; see `Conditional.mean`."""
        return self.evaluate(self.coefficients, points, derivative)

    def evaluate(self, coefficients: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """A derivative of the field with coefficients `(*batch, *r)` at points, `(*batch, *points.shape)`."""
        return at_points(coefficients, self.rows(points, derivative), points)

    def covariance_action(self, points: AnyPoints, vector: Tensor, derivative: str = "") -> Tensor:
        """Posterior covariance of a derivative at points, times `(*k, *points.shape)`; of what the nodes resolve."""
        flat = vector.reshape(-1, *points.shape)
        action = self.deviation(self.deviation_transpose(flat, points, derivative), points, derivative)
        return action.reshape(vector.shape)

    def sample(self, points: AnyPoints, n: int, generator: torch.Generator, derivative: str = "") -> Tensor:
        """`n` draws of a derivative of u at points, `(n, *batch, *points.shape)`; of what the nodes resolve."""
        mean = self.mean(points, derivative)
        white = randn((n * self.batch.numel(), *self.white_shape), mean, generator)
        deviation = self.deviation(white, points, derivative)
        return mean + deviation.reshape(n, *self.batch, *points.shape)

    def root(self, points: AnyPoints, derivative: str, scale: float, codomain: Space) -> LinearMap:
        """Root of the covariance of a derivative at points, times `scale`, into `codomain`; it can be saved."""
        from sciprob.solvers.kronecker_gp.root import ProcessRoot

        return ProcessRoot(self, points, derivative, scale, codomain)

    def rows(self, points: AnyPoints, derivative: str = "") -> list[Tensor]:
        """Factors of a derivative at points, per axis: at the lines of a tensor grid, else at every point.

        Raises:
            ShapeError: If the derivative names an unknown coordinate, or the points have other coordinates.
        """
        lines: Sequence[Tensor]
        lines = points.lines if isinstance(points, TensorPoints) else points.points.unbind(1)
        axes = self.axes
        if len(lines) != len(axes):
            message = f"points should have {len(axes)} coordinates {self.coordinates}, got {len(lines)}."
            raise ShapeError(message)
        pairs = zip(axes, lines, self._orders(derivative), strict=True)
        return [f.at(x.to(f.nodes), p) for f, x, p in pairs]


def at_points(tensor: Tensor, rows: list[Tensor], points: AnyPoints) -> Tensor:
    """Coefficients `(*batch, *r)` and functions at points to values `(*batch, *points.shape)`."""
    return contract(tensor, rows) if isinstance(points, TensorPoints) else contract_at_points(tensor, rows)


def transposed(values: Tensor, rows: list[Tensor], points: AnyPoints) -> Tensor:
    """The transpose of `at_points`, for one batch axis."""
    if isinstance(points, TensorPoints):
        return contract(values, [row.mT for row in rows])
    return transposed_at_points(values, rows)
