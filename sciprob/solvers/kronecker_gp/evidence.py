"""The log evidence as a differentiable function of the kernels' parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.pde.functionals import Functionals
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.columns import Columns
from sciprob.solvers.kronecker_gp.conditioning import (
    axis_factors,
    check_functionals,
    factorise,
    separable_covariance,
    whitened,
)
from sciprob.solvers.kronecker_gp.conditioning import log_evidence as value_of
from sciprob.solvers.kronecker_gp.dense_gram import dense_log_evidence
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.least_squares import Triangle
from sciprob.solvers.kronecker_gp.rows import AnyRows, piece_width, rows_of


def log_evidence(
    kernels: Sequence[StationaryKernel],
    functionals: Sequence[Functionals],
    *,
    method: str = "factors",
    cut: float = 1e-13,
    null_space: int | Sequence[int] = 0,
    null_std: float = 1e4,
) -> Tensor:
    r"""Log N(y | 0, A A^T + Sigma), `(*batch,)`, with first derivatives in the kernels' parameters.

    In factor form, with whitened rows A, posterior mean m, residual e = y - A m and
    P = (A^T A + I)^{-1}, the differential is e^T dA m - tr(A P)^T dA: one more triangular solve, at
    the accuracy of the QR factorisation. Second derivatives are not available.

    The cut is part of the model: noise below the root of the cut, relative to the prior of a row,
    makes the evidence depend on where the spectrum of the kernels was cut.

    Args:
        kernels: One per coordinate.
        functionals: As in `condition`.
        method: `"factors"`, or `"dense"` for at most a few thousand rows.
        cut: As in `condition`.
        null_space: As in `condition`.
        null_std: As in `condition`.

    Raises:
        ConfigError: If `method` is neither.
        ConvergenceError: If `method` is `"dense"` and the Gram matrix is not positive definite in float64.
    """
    check_functionals(kernels, functionals)
    if method == "dense":
        return dense_log_evidence(separable_covariance(kernels, functionals, null_space, null_std), functionals)
    if method != "factors":
        message = f"the evidence is computed by method='factors' or 'dense', got {method!r}."
        raise ConfigError(message)
    with torch.no_grad():
        factors = axis_factors(kernels, functionals, cut, null_space)
    leaves = [_Leaves(f) for f in factors]
    columns = Columns.of(factors, cut, null_std)
    rows = [rows_of(f, leaves) for f in functionals]
    with torch.no_grad():
        batch, values = whitened(functionals)
        triangle = factorise(rows, values, columns)
        count = sum(f.values[(0,) * (f.values.ndim - len(f.shape))].numel() for f in functionals)
        evidence = value_of(functionals, triangle, count)
    trainable = any(p.requires_grad for kernel in kernels for p in kernel.parameters())
    if not (trainable and torch.is_grad_enabled()):
        return evidence.reshape(batch)
    variables = [value for leaf in leaves for value in leaf.values]
    common = _log_determinant_gradient(rows, columns, triangle, variables)
    own = _misfit_gradients(rows, values, columns, triangle, variables)
    gradients = [[g - c for g, c in zip(gradient, common, strict=True)] for gradient in own]
    images = [phi for leaf in leaves for phi in leaf.images()]
    return (evidence + _zero_with_derivative(gradients, images)).reshape(batch)


class _Leaves:
    """Functions of an axis as independent variables: rows are differentiated in them, they in the parameters."""

    def __init__(self, factors: AxisFactors) -> None:
        self.factors = factors
        self.places: list[tuple[Tensor, int]] = []
        self.values: list[Tensor] = []

    def at(self, x: Tensor, order: int = 0) -> Tensor:
        """The functions at x, a new leaf."""
        value = self.factors.at(x, order).detach().requires_grad_()
        self.places.append((x, order))
        self.values.append(value)
        return value

    def images(self) -> list[Tensor]:
        """All leaves again, differentiable in the parameters."""
        differentiable = self.factors.differentiable()
        return [differentiable(x, order) for x, order in self.places]


def _zero_with_derivative(gradients: Sequence[list[Tensor]], images: list[Tensor]) -> Tensor:
    """Zero, `(len(gradients),)`, with the derivatives sum <gradient, d image>."""
    totals = []
    for gradient in gradients:
        value = sum((g * phi).sum() for g, phi in zip(gradient, images, strict=True))
        totals.append(torch.as_tensor(value))
    stacked = torch.stack(totals) if totals else images[0].new_zeros(0)
    return stacked - stacked.detach()


def _log_determinant_gradient(
    rows: Sequence[AnyRows], columns: Columns, triangle: Triangle, variables: list[Tensor]
) -> list[Tensor]:
    """Derivative of log |det R| in the leaves: A P, row by row."""
    total = [torch.zeros_like(v) for v in variables]
    for row in rows:
        for _, dense in row.pieces(columns, piece_width(columns)):
            with torch.no_grad():
                scaled = dense * columns.std
                white = torch.linalg.solve_triangular(triangle.root.mT, scaled.mT, upper=False).mT
                weight = columns.std * triangle.backward(white)
            total = _plus(
                total, torch.autograd.grad((weight * dense).sum(), variables, retain_graph=True, allow_unused=True)
            )
    return total


def _misfit_gradients(
    rows: Sequence[AnyRows], values: Sequence[Tensor], columns: Columns, triangle: Triangle, variables: list[Tensor]
) -> list[list[Tensor]]:
    """Derivative of -rest / 2 in the leaves, for each right-hand side: e^T dA m."""
    coefficients = columns.scatter(columns.std * triangle.solve())
    gradients = []
    for b in range(len(coefficients)):
        total = [torch.zeros_like(v) for v in variables]
        for row, value in zip(rows, values, strict=True):
            predicted = row.apply(coefficients[b : b + 1])
            error = value[b : b + 1] - predicted.detach()
            grads = torch.autograd.grad((error * predicted).sum(), variables, retain_graph=True, allow_unused=True)
            total = _plus(total, grads)
        gradients.append(total)
    return gradients


def _plus(total: list[Tensor], more: Sequence[Tensor | None]) -> list[Tensor]:
    return [t if g is None else t + g for t, g in zip(total, more, strict=True)]
