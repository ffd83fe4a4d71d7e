"""Symmetric collocation with a dense Gram matrix: exact, without a cut, for a few thousand rows in any dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.pde.functionals import AnyPoints, Functionals
from sciprob.priors.kernels import StationaryKernel, covariance
from sciprob.random import randn
from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.solvers.kronecker_gp.factors import polynomial_columns
from sciprob.solvers.kronecker_gp.null_space import Polynomials
from sciprob.spaces.shapes import broadcast_shapes


@dataclass(frozen=True, eq=False)
class SeparableCovariance:
    r"""Covariance of u: prod_j (k_j + a_j^2 b_j b_j^T) + (null_std^2 - 1) prod_j a_j^2 b_j b_j^T, b_j the polynomials.

    Attributes:
        coordinates: Names of the coordinates.
        kernels: One per coordinate.
        null_space: Polynomials of each axis.
        null_std: Prior standard deviation of products of polynomials, in units of that of u.
    """

    coordinates: tuple[str, ...]
    kernels: tuple[StationaryKernel, ...]
    null_space: tuple[Polynomials, ...]
    null_std: float

    def between(self, f: Functionals, g: Functionals) -> Tensor:
        """Covariance of two sets of functionals, `(n, m)`, differentiable in the kernels' parameters."""
        xs, ys = _columns(f.points, self.coordinates), _columns(g.points, self.coordinates)
        total = xs[0].new_zeros(len(xs[0]), len(ys[0]))
        for a, c in f.terms.items():
            for b, e in g.terms.items():
                block = self._derivative(xs, ys, f.orders(a), g.orders(b))
                left, right = (w.expand(h.shape).reshape(-1) for w, h in ((c, f), (e, g)))
                total = total + left[:, None] * block * right
        return total

    def variance(self, f: Functionals) -> Tensor:
        """Prior variances of functionals, `(n,)`; block by block, without the whole matrix."""
        columns = torch.stack(_columns(f.points, self.coordinates))
        zero = torch.zeros(1, dtype=columns.dtype, device=columns.device)
        total = columns.new_zeros(columns.shape[1])
        for a, c in f.terms.items():
            for b, e in f.terms.items():
                orders = list(zip(f.orders(a), f.orders(b), strict=True))
                process, pure = columns.new_ones(()), columns.new_ones(())
                for x, kernel, poly, (p, q) in zip(columns, self.kernels, self.null_space, orders, strict=True):
                    left, right = (polynomial_columns(poly, kernel, x, (o,))[0] for o in (p, q))
                    b_b = (left * right).sum(1)
                    process = process * (covariance(kernel, zero, zero, p, q)[0, 0] + b_b)
                    pure = pure * b_b
                weight = (c * e).expand(f.shape).reshape(-1)
                total = total + weight * (process + (self.null_std**2 - 1) * pure)
        return total

    def _derivative(self, xs: Sequence[Tensor], ys: Sequence[Tensor], p: tuple[int, ...], q: tuple[int, ...]) -> Tensor:
        process, pure = xs[0].new_ones(()), xs[0].new_ones(())
        for j, (kernel, poly) in enumerate(zip(self.kernels, self.null_space, strict=True)):
            left = polynomial_columns(poly, kernel, xs[j], (p[j],))[0]
            right = polynomial_columns(poly, kernel, ys[j], (q[j],))[0]
            process = process * (covariance(kernel, xs[j], ys[j], p[j], q[j]) + left @ right.mT)
            pure = pure * (left @ right.mT)
        return process + (self.null_std**2 - 1) * pure


@dataclass(frozen=True, eq=False)
class DenseConditional(Conditional):
    """The conditioned process from the Cholesky factor of the Gram matrix of all functionals.

    Rows are divided by their prior standard deviations, so that blocks of different units meet at order one.

    Attributes:
        covariance: Prior covariance of u.
        functionals: What was observed.
        scales: Prior standard deviation of each row, noise included, `(n,)`.
        root: Lower Cholesky factor of the scaled Gram matrix with noise, `(n, n)`.
        weights: Scaled Gram matrix inverse times scaled data, `(B, n)`.
    """

    covariance: SeparableCovariance
    functionals: tuple[Functionals, ...]
    scales: Tensor
    root: Tensor
    weights: Tensor

    @property
    def rank(self) -> int:
        """Number of rows."""
        return len(self.root)

    def mean(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior mean of a derivative of u, `(*batch, *points.shape)`."""
        cross = self._cross(self._field(points, derivative))
        return (self.weights @ cross.mT).reshape(*self.batch, *points.shape)

    def std(self, points: AnyPoints, derivative: str = "") -> Tensor:
        """Posterior standard deviation of a derivative of u, `(*points.shape)`, to the square root of round-off."""
        field = self._field(points, derivative)
        with torch.no_grad():
            explained = self._whitened(self._cross(field)).square().sum(0)
            variance = self.covariance.variance(field) - explained
        return variance.clamp_min(0).sqrt().reshape(points.shape)

    def sample(self, points: AnyPoints, n: int, generator: torch.Generator, derivative: str = "") -> Tensor:
        """`n` draws of a derivative of u at points, `(n, *batch, *points.shape)`; O(points^3)."""
        field = self._field(points, derivative)
        with torch.no_grad():
            explained = self._whitened(self._cross(field))
            posterior = self.covariance.between(field, field) - explained.mT @ explained
            values, vectors = torch.linalg.eigh((posterior + posterior.mT) / 2)
            root = vectors * values.clamp_min(0).sqrt()
        mean = self.mean(points, derivative)
        white = randn((n, *self.batch, len(root)), root, generator)
        deviation: Tensor = white @ root.mT
        return mean + deviation.reshape(n, *self.batch, *points.shape)

    def covariance_action(self, points: AnyPoints, vector: Tensor, derivative: str = "") -> Tensor:
        """Posterior covariance of a derivative at points, times `(*k, *points.shape)`."""
        field = self._field(points, derivative)
        with torch.no_grad():
            explained = self._whitened(self._cross(field))
            posterior = self.covariance.between(field, field) - explained.mT @ explained
        lead = vector.shape[: vector.ndim - len(points.shape)]
        action: Tensor = vector.reshape(*lead, len(posterior)) @ posterior
        return action.reshape(vector.shape)

    def _cross(self, field: Functionals) -> Tensor:
        with torch.no_grad():
            blocks = [self.covariance.between(field, f) for f in self.functionals]
            return torch.cat(blocks, dim=1) / self.scales

    def _whitened(self, cross: Tensor) -> Tensor:
        whitened: Tensor = torch.linalg.solve_triangular(self.root, cross.mT, upper=False)
        return whitened

    def _field(self, points: AnyPoints, derivative: str) -> Functionals:
        """A derivative of u at points, as functionals without data."""
        self._orders(derivative)
        one = self.root.new_ones(())
        name = "" if derivative == "value" else derivative
        return Functionals("field", self.coordinates, points, {name: one}, self.root.new_zeros(points.shape), one)


def condition_dense(covariance: SeparableCovariance, functionals: Sequence[Functionals]) -> DenseConditional:
    """Condition by one Cholesky factorisation, O(n^3) for n rows.

    Raises:
        ConvergenceError: If the Gram matrix is not positive definite in float64.
    """
    with torch.no_grad():
        scales, root, white, batch = _factorise(covariance, functionals)
        weights = torch.linalg.solve_triangular(root.mT, white, upper=True).mT
        square = white.square().sum(0).reshape(batch)
    count = len(scales)
    evidence = -0.5 * square - root.diagonal().log().sum() - scales.log().sum() - 0.5 * count * math.log(2 * math.pi)
    return DenseConditional(
        covariance.coordinates,
        evidence,
        square / count,
        count,
        batch,
        covariance,
        tuple(functionals),
        scales,
        root,
        weights,
    )


def dense_log_evidence(covariance: SeparableCovariance, functionals: Sequence[Functionals]) -> Tensor:
    """Log N(y | 0, G + Sigma), `(*batch,)`, differentiable in the kernels' parameters.

    The derivative is that of a Cholesky factorisation, (alpha^T dG alpha - tr G^{-1} dG) / 2 with alpha = G^{-1} y; no
    eigenvectors are differentiated.

    Raises:
        ConvergenceError: If the Gram matrix is not positive definite in float64.
    """
    scales, root, white, batch = _factorise(covariance, functionals)
    square = white.square().sum(0).reshape(batch)
    constant = root.diagonal().log().sum() + scales.log().sum() + 0.5 * len(scales) * math.log(2 * math.pi)
    return -0.5 * square - constant


def _factorise(
    covariance: SeparableCovariance, functionals: Sequence[Functionals]
) -> tuple[Tensor, Tensor, Tensor, torch.Size]:
    """Scales, Cholesky factor, whitened data `(n, B)` and batch shape."""
    gram = torch.cat([torch.cat([covariance.between(f, g) for g in functionals], dim=1) for f in functionals])
    noise = torch.cat([f.std.square().expand(f.shape).reshape(-1) for f in functionals])
    gram = gram + torch.diag(noise)
    scales = gram.diagonal().detach().sqrt()
    root, failed = torch.linalg.cholesky_ex(gram / (scales[:, None] * scales))
    if int(failed):
        message = (
            f"the Gram matrix of {len(scales)} rows is not positive definite in float64 (row {int(failed)}); raise the "
            "std of noise-free data to 1e-6 of their prior scale or use method='factors'."
        )
        raise ConvergenceError(message)
    leads = [f.values.shape[: f.values.ndim - len(f.shape)] for f in functionals]
    batch = broadcast_shapes(*leads)
    data = [f.values.expand(*batch, *f.shape).reshape(batch.numel(), -1) for f in functionals]
    white = torch.linalg.solve_triangular(root, (torch.cat(data, dim=1) / scales).mT, upper=False)
    return scales, root, white, batch


def _columns(points: AnyPoints, coordinates: tuple[str, ...]) -> list[Tensor]:
    return list(points.columns(coordinates).values())
