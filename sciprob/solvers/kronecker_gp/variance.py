"""Marginal variances of a conditioned process, one axis at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from sciprob.pde.functionals import AnyPoints, TensorPoints
from sciprob.solvers.kronecker_gp.columns import Columns, contract, contract_at_points, outer
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.least_squares import Triangle

_ENTRIES = 1 << 24  # numbers held at once
_RESOLUTION = 1e-10  # of the prior variance: what the cut and round-off leave of a variance that is resolved


def variance(columns: Columns, triangle: Triangle, rows: list[Tensor], tensor: bool) -> Tensor:
    r"""sum_k (sum_i prod_j rows_j[x_j, i_j] W_ik)^2 with W = R^{-1}, the variance of the resolved part.

    The modes W_k are evaluated like means, each axis in turn: for N^2 points and r^2 coefficients
    O(N r^4 + N^2 r^3) operations instead of O(N^2 r^4), and no covariance is ever formed.
    """
    modes = columns.std * triangle.inverse().mT
    shape = tuple(len(row) for row in rows) if tensor else (len(rows[0]),)
    total = modes.new_zeros(shape)
    step = max(1, _ENTRIES // max(1, total.numel(), columns.index.shape[1]))
    step = max(step, min(16, len(modes))) if tensor else max(step, 1)
    for start in range(0, len(modes), step):
        full = columns.scatter(modes[start : start + step])
        values = contract(full, rows) if tensor else contract_at_points(full, rows)
        total += values.square_().sum(0)
    return total


def missing_variance(
    factors: Sequence[AxisFactors], columns: Columns, points: AnyPoints, orders: tuple[int, ...]
) -> Tensor:
    """Prior variance at points that the products of factors do not hold, zero where it is round-off.

    It is independent of everything that is observed, so it adds to the posterior variance.
    """
    tensor = isinstance(points, TensorPoints)
    lines = points.lines if isinstance(points, TensorPoints) else points.points.unbind(1)
    squares = [f.at(x, p).square() for f, x, p in zip(factors, lines, orders, strict=True)]
    process = [f.prior_variance(p) for f, p in zip(factors, orders, strict=True)]
    pure = [s[:, len(f.eigenvalues) :].sum(1) for f, s in zip(factors, squares, strict=True)]
    along = outer if tensor else list
    total = reduce(torch.multiply, along([k + b for k, b in zip(process, pure, strict=True)]))
    total = total - reduce(torch.multiply, along(pure))  # products of polynomials are always held
    held = columns.scatter((~columns.pure).to(total))
    explained = contract(held, squares) if tensor else contract_at_points(held, squares)
    missing = total - explained
    return above_round_off(missing, total)


def above_round_off(missing: Tensor, total: Tensor) -> Tensor:
    """A missing part of a variance, or zero where it is no more than what the cut and round-off leave."""
    return torch.where(missing > _RESOLUTION * total, missing, torch.zeros_like(missing))
