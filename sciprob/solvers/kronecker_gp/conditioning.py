"""Conditioning a separable Gaussian process on linear functionals: equations, boundary data, sensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, NonFiniteError, ShapeError
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.priors.kernels import StationaryKernel
from sciprob.solvers.kronecker_gp.columns import Columns
from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.solvers.kronecker_gp.dense_gram import SeparableCovariance, condition_dense
from sciprob.solvers.kronecker_gp.diagonalisation import condition_modes, has_constant_symbol
from sciprob.solvers.kronecker_gp.dirichlet import DirichletBox
from sciprob.solvers.kronecker_gp.factor_form import FactorConditional
from sciprob.solvers.kronecker_gp.factored import FactoredConditional
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.least_squares import Triangle, triangulate
from sciprob.solvers.kronecker_gp.null_space import Polynomials
from sciprob.solvers.kronecker_gp.rows import AnyRows, piece_width, rows_of
from sciprob.spaces.shapes import broadcast_shapes

METHODS = ("auto", "factors", "dense", "diagonalisation", "conjugate-gradients")
LARGEST_RANK = 3000  # whose factorisation takes about ten seconds on one core, 2 (3 rank) rank^2 operations
_UNEXPLAINED = 1e-9  # of the prior variance at a scattered point: more, and the point becomes a node of its axes


def condition(
    kernels: Sequence[StationaryKernel],
    functionals: Sequence[Functionals],
    *,
    method: str = "auto",
    cut: float = 1e-13,
    null_space: int | Sequence[int] = 0,
    null_std: float = 1e4,
) -> Conditional:
    r"""Posterior of u ~ GP(0, prod_j k_j) given sum_a c_a D^a u = values + noise at points.

    Factor form: each axis is a finite sum of functions times white noise (`AxisFactors`), u on a
    tensor grid is their Kronecker product, and the coefficients solve a least-squares problem of
    [rows / std; I] by QR. Exact up to `cut`, whatever the number of points; no differentiation
    matrix and no inverse of a covariance occurs.

    Args:
        kernels: One per coordinate; the variance of u is the product of theirs.
        functionals: Equations, conditions, sensors, with equal coordinates and batch axes. Noise-free data need a
            small positive `std`; 1e-9 of the prior standard deviation of a row is resolved.
        method: `"factors"`; `"dense"`, the Gram matrix itself, for a few thousand rows and without a cut;
            `"diagonalisation"` for a constant-coefficient equation on a box with Dirichlet data on all sides and any
            rank, `"conjugate-gradients"` for variable coefficients there (`condition_modes` says what differs);
            `"auto"`, the factor form up to rank 3000, beyond that modes where they apply.
        cut: Eigenvalues of an axis, and products of them over axes, below this fraction of the largest are dropped.
        null_space: Number of polynomials 1, x, ... per axis (degree + 1) added to the prior; one number for all axes.
        null_std: Prior standard deviation of products of polynomials, in units of that of u.

    Returns:
        The conditioned process, `FactorConditional`, `DenseConditional` or `ModalConditional`; batch axes of the values
        are kept.

    Raises:
        ShapeError: If the functionals do not agree with the kernels or each other.
        ConfigError: If a setting is not usable.
        DataError: If there is no functional, a noise level is not positive, or a tensor is not float64.
        NonFiniteError: If a value or coefficient is not finite.
        UnsupportedProblemError: If a kernel is not smooth enough for the operator.

    Source: Cockayne, Oates, Sullivan, Girolami, "Probabilistic numerical methods for PDE-constrained Bayesian inverse
    problems", 2017, for symmetric collocation; the factor form is ours.
    """
    check_functionals(kernels, functionals)
    if method not in METHODS:
        message = f"`method` should be one of {METHODS}, got {method!r}."
        raise ConfigError(message)
    if method == "dense":
        return condition_dense(separable_covariance(kernels, functionals, null_space, null_std), functionals)
    return condition_factored(kernels, functionals, method, cut, null_space, null_std)


def condition_factored(
    kernels: Sequence[StationaryKernel],
    functionals: Sequence[Functionals],
    method: str,
    cut: float,
    null_space: int | Sequence[int],
    null_std: float,
) -> FactoredConditional:
    """Condition by any method but `"dense"`, without checks; see `condition`."""
    counts = polynomial_counts(null_space, len(kernels))
    if method == "auto":
        method = choose(kernels, functionals, cut, counts, null_std)
    if method == "factors":
        return condition_factors(kernels, functionals, cut, counts, null_std)
    return condition_modes(kernels, functionals, cut, counts, iterative=method == "conjugate-gradients")


def choose(
    kernels: Sequence[StationaryKernel],
    functionals: Sequence[Functionals],
    cut: float,
    counts: list[int],
    null_std: float,
) -> str:
    """The factor form, up to ranks of a few thousand; then modes, if the functionals are a box with Dirichlet sides."""
    if not DirichletBox.recognises(functionals):
        return "factors"
    with torch.no_grad():
        rank = Columns.of(axis_factors(kernels, functionals, cut, counts), cut, null_std).count
    if rank <= LARGEST_RANK:
        return "factors"
    return "diagonalisation" if has_constant_symbol(DirichletBox.of(functionals).equation) else "conjugate-gradients"


def condition_factors(
    kernels: Sequence[StationaryKernel],
    functionals: Sequence[Functionals],
    cut: float,
    null_space: int | Sequence[int],
    null_std: float,
) -> FactorConditional:
    """Condition in factor form; see `condition`."""
    with torch.no_grad():
        factors = axis_factors(kernels, functionals, cut, null_space)
        columns = Columns.of(factors, cut, null_std)
        rows = [rows_of(f, factors) for f in functionals]
        batch, values = whitened(functionals)
        triangle = factorise(rows, values, columns)
        count = sum(math.prod(f.shape) for f in functionals)
        evidence = log_evidence(functionals, triangle, count).reshape(batch)
    chi_square = triangle.rest.reshape(batch) / count
    return FactorConditional(functionals[0].coordinates, evidence, chi_square, count, batch, factors, columns, triangle)


def factorise(rows: Sequence[AnyRows], values: Sequence[Tensor], columns: Columns) -> Triangle:
    """QR of all rows and the prior, with whitened data `(B, *shape)` beside; data out of reach only add to `rest`."""
    projected = [row.project(value) for row, value in zip(rows, values, strict=True)]
    like, width = values[0], piece_width(columns)
    pieces = (
        (dense * columns.std, inside[:, part])
        for row, (inside, _) in zip(rows, projected, strict=True)
        for part, dense in row.pieces(columns, width)
    )
    triangle = triangulate(pieces, columns.count, like, len(like))
    outside = torch.stack([norm for _, norm in projected]).sum(0)
    return Triangle(triangle.root, triangle.projected, triangle.rest + outside)


def log_evidence(functionals: Sequence[Functionals], triangle: Triangle, count: int) -> Tensor:
    """Log N(y | 0, A A^T + Sigma), `(B,)`."""
    noise = sum(f.std.log().expand(f.shape).sum() for f in functionals)
    constant = triangle.log_abs_det() + noise + 0.5 * count * math.log(2 * math.pi)
    return -0.5 * triangle.rest - constant


def whitened(functionals: Sequence[Functionals]) -> tuple[torch.Size, list[Tensor]]:
    """Common batch shape, and values / std of each as `(B, *shape)`."""
    leads = [f.values.shape[: f.values.ndim - len(f.shape)] for f in functionals]
    batch = broadcast_shapes(*leads)
    flat = [(f.values / f.std).expand(*batch, *f.shape).reshape(batch.numel(), *f.shape) for f in functionals]
    return batch, flat


def axis_factors(
    kernels: Sequence[StationaryKernel], functionals: Sequence[Functionals], cut: float, null_space: int | Sequence[int]
) -> tuple[AxisFactors, ...]:
    """Factors at all lines, and at those coordinates of scattered points that the lines do not explain."""
    counts = polynomial_counts(null_space, len(kernels))
    return tuple(
        _one_axis(axis, kernel, functionals, cut, count)
        for axis, (kernel, count) in enumerate(zip(kernels, counts, strict=True))
    )


def separable_covariance(
    kernels: Sequence[StationaryKernel],
    functionals: Sequence[Functionals],
    null_space: int | Sequence[int],
    null_std: float,
) -> SeparableCovariance:
    """The prior covariance, with polynomials over the range of all coordinates."""
    coordinates = functionals[0].coordinates
    polynomials = []
    for axis, count in enumerate(polynomial_counts(null_space, len(kernels))):
        lines = [
            f.points.lines[axis] if isinstance(f.points, TensorPoints) else f.points.points[:, axis]
            for f in functionals
        ]
        every = torch.cat(lines)
        polynomials.append(Polynomials(count, float(every.min()), float(every.max())))
    return SeparableCovariance(coordinates, tuple(kernels), tuple(polynomials), null_std)


def polynomial_counts(null_space: int | Sequence[int], axes: int) -> list[int]:
    """Number of polynomials of each axis.

    Raises:
        ConfigError: If there is not one number >= 0 for each.
    """
    counts = [null_space] * axes if isinstance(null_space, int) else list(null_space)
    if len(counts) != axes or min(counts) < 0:
        message = f"`null_space` should be a number >= 0, or one per coordinate, got {null_space}."
        raise ConfigError(message)
    return counts


def _one_axis(
    axis: int, kernel: StationaryKernel, functionals: Sequence[Functionals], cut: float, null_space: int
) -> AxisFactors:
    orders = sorted({f.orders(name)[axis] for f in functionals for name in f.terms})
    lines = [f.points.lines[axis] for f in functionals if isinstance(f.points, TensorPoints)]
    scattered = [f.points.points[:, axis] for f in functionals if isinstance(f.points, ScatteredPoints)]
    if not lines:
        return AxisFactors.of(kernel, torch.cat(scattered), orders, cut, null_space)
    factors = AxisFactors.of(kernel, torch.cat(lines), orders, cut, null_space)
    if not scattered:
        return factors
    points = torch.cat(scattered)
    missing = torch.stack([factors.missing_variance(points, p) / factors.prior_variance(p) for p in orders]).amax(0)
    unexplained = points[missing > _UNEXPLAINED]
    if len(unexplained) == 0:
        return factors
    return AxisFactors.of(kernel, torch.cat([*lines, unexplained]), orders, cut, null_space)


def check_functionals(kernels: Sequence[StationaryKernel], functionals: Sequence[Functionals]) -> None:
    """Check what can be said before any work is done; see `condition` for what is raised."""
    if not functionals:
        message = "conditioning needs at least one functional: an equation, a boundary condition or sensors; got none."
        raise DataError(message)
    coordinates = functionals[0].coordinates
    if len(kernels) != len(coordinates) or any(f.coordinates != coordinates for f in functionals):
        message = (
            f"functionals should have the same coordinates, one for each of {len(kernels)} kernels, "
            f"got {[f.coordinates for f in functionals]}."
        )
        raise ShapeError(message)
    for f in functionals:
        if not bool((f.std > 0).all()):
            message = (
                f"the std of `{f.name}` should be positive, got {float(f.std.min()):g}; 1e-9 of the prior's will do."
            )
            raise DataError(message)
        tensors = {"values": f.values, "std": f.std, **{f"term {name!r}": c for name, c in f.terms.items()}}
        for label, tensor in tensors.items():
            if tensor.dtype != torch.float64:
                message = (
                    f"the {label} of `{f.name}` should be float64, got {tensor.dtype}; convert it, others hold too "
                    "few digits for derivatives of waves."
                )
                raise DataError(message)
            if not bool(torch.isfinite(tensor).all()):
                place = tuple((~torch.isfinite(tensor)).nonzero()[0].tolist())
                message = f"the {label} of `{f.name}` should be finite, got {tensor[place]} at {place}; check the data."
                raise NonFiniteError(message)
