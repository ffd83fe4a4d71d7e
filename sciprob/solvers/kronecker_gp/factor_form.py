"""The conditioned process in factor form: coefficients of products of axis functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.linear import LinearMap
from sciprob.pde.functionals import AnyPoints, TensorPoints
from sciprob.random import randn
from sciprob.solvers.kronecker_gp.columns import Columns, contract, contract_at_points, transposed_at_points
from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.least_squares import Triangle
from sciprob.solvers.kronecker_gp.variance import missing_variance, variance
from sciprob.spaces import Space


@dataclass(frozen=True, eq=False)
class FactorConditional(Conditional):
    r"""u(x) = sum_i c_i prod_j phi_ij(x_j) with c ~ N(m, R^{-1} R^{-T}), in factor form.

    Every question about u, its derivatives and its uncertainty anywhere in the box is answered from
    the factors, one axis at a time, without a covariance of grid values.

    Attributes:
        factors: Factors of each axis.
        columns: Products of factors that take part.
        triangle: R, and what else the factorisation left.
    """

    factors: tuple[AxisFactors, ...]
    columns: Columns
    triangle: Triangle

    @property
    def rank(self) -> int:
        """Number of coefficients."""
        return self.columns.count

    @property
    def coefficients(self) -> Tensor:
        """Posterior mean of c, `(*batch, r_1, ..., r_d)`."""
        mean = self.columns.std * self.triangle.solve()
        return self.columns.scatter(mean).reshape(*self.batch, *self.columns.shape)

    def mean(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior mean of a derivative of u, `(*batch, *points.shape)`; see `Conditional.mean`."""
        return self.evaluate(self.coefficients, points, derivative)

    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior standard deviation of a derivative of u, `(*points.shape)`, the same for all data.

        Sums of squares only, so nothing cancels. What the nodes of the factors do not resolve adds
        its prior variance, where it is more than round-off.
        """
        rows = self.rows(points, derivative)
        tensor = isinstance(points, TensorPoints)
        explained = variance(self.columns, self.triangle, rows, tensor)
        return (explained + missing_variance(self.factors, self.columns, points, self._orders(derivative))).sqrt()

    def covariance_action(self, points: AnyPoints, vector: Tensor, derivative: str = "") -> Tensor:
        """Posterior covariance of a derivative at points, times `(*k, *points.shape)`; of what the nodes resolve."""
        rows = self.rows(points, derivative)
        lead = vector.shape[: vector.ndim - len(points.shape)]
        flat = vector.reshape(-1, *points.shape)
        if isinstance(points, TensorPoints):
            full = contract(flat, [row.mT for row in rows])
        else:
            full = transposed_at_points(flat, rows)
        inner = self.columns.std * self.columns.gather(full)
        white = self.triangle.forward(inner)
        action = self.evaluate(
            self.columns.scatter(self.columns.std * self.triangle.backward(white)), points, derivative
        )
        return action.reshape(*lead, *points.shape)

    def sample(self, points: AnyPoints, n: int, generator: torch.Generator, derivative: str = "") -> Tensor:
        """`n` draws of a derivative of u at points, `(n, *batch, *points.shape)`; of what the nodes resolve."""
        return self.evaluate(self.draw(n, generator), points, derivative)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` draws of the coefficients, `(n, *batch, r_1, ..., r_d)`; one draw serves all points and derivatives."""
        mean = self.triangle.solve()
        white = randn((n, *mean.shape), mean, generator)
        draws = self.columns.std * (mean + self.triangle.backward(white))
        return self.columns.scatter(draws).reshape(n, *self.batch, *self.columns.shape)

    def root(self, points: AnyPoints, derivative: str, scale: float, codomain: Space) -> LinearMap:
        """Root of the covariance of a derivative at points, times `scale`, into `codomain`."""
        from sciprob.solvers.kronecker_gp.root import ProcessRoot

        return ProcessRoot(self, points, derivative, scale, codomain)

    def evaluate(self, coefficients: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """A derivative of the field with coefficients `(*batch, *r)` at points, `(*batch, *points.shape)`."""
        rows = self.rows(points, derivative)
        if isinstance(points, TensorPoints):
            return contract(coefficients, rows)
        return contract_at_points(coefficients, rows)

    def rows(self, points: AnyPoints, derivative: str = "") -> list[Tensor]:
        """Factors of a derivative at points, per axis: at the lines of a tensor grid, else at every point."""
        lines: Sequence[Tensor]
        lines = points.lines if isinstance(points, TensorPoints) else points.points.unbind(1)
        if len(lines) != len(self.factors):
            message = f"points should have {len(self.factors)} coordinates {self.coordinates}, got {len(lines)}."
            raise ShapeError(message)
        orders = self._orders(derivative)
        like = self.triangle.root
        return [f.at(x.to(like), p) for f, x, p in zip(self.factors, lines, orders, strict=True)]
