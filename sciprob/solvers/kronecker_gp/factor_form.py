"""The conditioned process in factor form: coefficients of products of axis functions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciprob.pde.functionals import AnyPoints, Functionals, TensorPoints
from sciprob.random import randn
from sciprob.solvers.kronecker_gp.columns import Columns
from sciprob.solvers.kronecker_gp.dense_gram import SeparableCovariance
from sciprob.solvers.kronecker_gp.factored import FactoredConditional, at_points, transposed
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.least_squares import Triangle
from sciprob.solvers.kronecker_gp.rows import piece_width, point_rows
from sciprob.solvers.kronecker_gp.variance import above_round_off, missing_variance, variance


@dataclass(frozen=True, eq=False)
class FactorConditional(FactoredConditional):
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
    def axes(self) -> tuple[AxisFactors, ...]:
        """Factors of each axis."""
        return self.factors

    @property
    def coefficients(self) -> Tensor:
        """Posterior mean of c, `(*batch, r_1, ..., r_d)`."""
        mean = self.columns.std * self.triangle.solve()
        return self.columns.scatter(mean).reshape(*self.batch, *self.columns.shape)

    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior standard deviation of a derivative of u, `(*points.shape)`, the same for all data.

        Sums of squares only, so nothing cancels. What the nodes of the factors do not resolve adds
        its prior variance, where it is more than round-off.
        """
        rows = self.rows(points, derivative)
        tensor = isinstance(points, TensorPoints)
        explained = variance(self.columns, self.triangle, rows, tensor)
        return (explained + missing_variance(self.factors, self.columns, points, self._orders(derivative))).sqrt()

    @property
    def white_shape(self) -> tuple[int, ...]:
        """One number per coefficient."""
        return (self.rank,)

    def deviation(self, white: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """Phi std R^{-1} white at points, `(B, K)` to `(B, *points.shape)`."""
        full = self.columns.scatter(self.columns.std * self.triangle.backward(white))
        return at_points(full, self.rows(points, derivative), points)

    def deviation_transpose(self, values: Tensor, points: AnyPoints, derivative: str = "") -> Tensor:
        """R^{-T} std Phi^T values, `(B, *points.shape)` to `(B, K)`."""
        full = transposed(values, self.rows(points, derivative), points)
        return self.triangle.forward(self.columns.std * self.columns.gather(full))

    def sample(self, points: AnyPoints, n: int, generator: torch.Generator, derivative: str = "") -> Tensor:
        """`n` draws of a derivative of u at points, `(n, *batch, *points.shape)`; of what the nodes resolve."""
        return self.evaluate(self.draw(n, generator), points, derivative)

    def std_of(self, functionals: Functionals) -> Tensor:
        """Posterior standard deviation of sum_a c_a D^a u, without noise, `(*points.shape)`; row by row, see `std`."""
        unit = replace(functionals, std=functionals.std.new_ones(()))
        found = []
        for _, dense in point_rows(unit, self.factors).pieces(self.columns, piece_width(self.columns)):
            explained = self.triangle.forward(self.columns.std * dense).square().sum(1)
            found.append(torch.stack([explained, dense[:, ~self.columns.pure].square().sum(1)]))
        explained, held = torch.cat(found, dim=1) if found else self.triangle.root.new_zeros(2, 0)
        kernels, null_space = zip(*((f.kernel, f.null_space) for f in self.factors), strict=True)
        with torch.no_grad():
            prior = SeparableCovariance(self.coordinates, kernels, null_space, 0.0).variance(unit)
        total: Tensor = explained + above_round_off(prior - held, prior)
        return total.sqrt().reshape(functionals.shape)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """`n` draws of the coefficients, `(n, *batch, r_1, ..., r_d)`; one draw serves all points and derivatives."""
        mean = self.triangle.solve()
        white = randn((n, *mean.shape), mean, generator)
        draws = self.columns.std * (mean + self.triangle.backward(white))
        return self.columns.scatter(draws).reshape(n, *self.batch, *self.columns.shape)
