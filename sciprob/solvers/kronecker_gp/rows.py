"""The rows of a conditioning problem: functionals of the coefficients, compressed without loss where they factorise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

from sciprob.pde.functionals import Functionals, TensorPoints
from sciprob.solvers.kronecker_gp.columns import Columns, contract, contract_at_points, outer
from sciprob.solvers.kronecker_gp.separable import separate

_ENTRIES = 1 << 24  # numbers of a dense piece of rows held at once
_LOST = 1e-15  # singular values of unit columns below this are round-off


class AxisFunctions(Protocol):
    """Functions along one axis, such as `AxisFactors`."""

    def at(self, x: Tensor, order: int = 0) -> Tensor:
        """Their derivatives of an order at `x (n,)`, `(n, r)`."""
        ...


@dataclass(frozen=True, eq=False)
class SeparableRows:
    r"""Rows (sum_t kron_j A_tj) / std on a tensor grid, reduced to the range of each axis.

    With Q_j an orthonormal basis of the columns of A_1j, A_2j, ..., the rows lie in the range of
    kron_j Q_j: only the projected data matter for the coefficients, the rest of the data for the
    evidence alone. Products whose rows are round-off beside the largest are left out too.

    Attributes:
        factors: A_tj, per term and axis, `(n_j, r_j)`.
        terms: Q_j^T A_tj, `(q_j, r_j)`.
        bases: Q_j, `(n_j, q_j)`.
        index: Kept rows, one line per axis, `(d, count)`.
    """

    factors: list[list[Tensor]]
    terms: list[list[Tensor]]
    bases: list[Tensor]
    index: Tensor

    @property
    def count(self) -> int:
        """Number of rows after the reduction."""
        return self.index.shape[1]

    def pieces(self, columns: Columns, width: int) -> Iterator[tuple[slice, Tensor]]:
        """Dense rows `(k, K)` in order, about `width` at a time, with their position among all rows."""
        for start in range(0, self.count, width):
            part = slice(start, min(start + width, self.count))
            total = None
            for term in self.terms:
                product = _products(term, self.index[:, part], columns)
                total = product if total is None else total + product
            if total is not None:
                yield part, total

    def apply(self, coefficients: Tensor) -> Tensor:
        """All rows times coefficients `(B, *r)`, `(B, *n)`."""
        return torch.stack([contract(coefficients, term) for term in self.factors]).sum(0)

    def project(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened data `(B, *n)` as `(B, count)`, and the squared norm of what lies outside, `(B,)`."""
        inside = contract(values, [q.mT for q in self.bases])
        data = inside[(slice(None), *self.index)]
        held = torch.zeros_like(inside)
        held[(slice(None), *self.index)] = data
        outside = values - contract(held, self.bases)
        return data, outside.flatten(1).square().sum(1)


@dataclass(frozen=True, eq=False)
class PointRows:
    """Rows sum_a c_a(x_n) / std_n prod_j Phi_j^(a_j)(x_nj), one per point.

    Attributes:
        weights: c_a / std, per derivative, `(n,)`.
        factors: Phi_j^(a_j) at the distinct coordinates, per derivative and axis.
        places: Row of each point in those, per axis, `(n,)`.
        shape: Shape of the points.
    """

    weights: list[Tensor]
    factors: list[list[Tensor]]
    places: list[Tensor]
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of points."""
        return len(self.places[0])

    def pieces(self, columns: Columns, width: int) -> Iterator[tuple[slice, Tensor]]:
        """Dense rows `(k, K)` in order, `width` at a time, with their position among all rows."""
        for start in range(0, self.count, width):
            part = slice(start, min(start + width, self.count))
            total = None
            for weight, axes in zip(self.weights, self.factors, strict=True):
                product = weight[part, None] * _products(axes, [place[part] for place in self.places], columns)
                total = product if total is None else total + product
            if total is not None:
                yield part, total

    def apply(self, coefficients: Tensor) -> Tensor:
        """All rows times coefficients `(B, *r)`, `(B, *shape)`."""
        total = coefficients.new_zeros(len(coefficients), self.count)
        for weight, axes in zip(self.weights, self.factors, strict=True):
            rows = [axis[place] for axis, place in zip(axes, self.places, strict=True)]
            total = total + weight * contract_at_points(coefficients, rows)
        return total.reshape(len(coefficients), *self.shape)

    def project(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened data `(B, *shape)` as `(B, n)`; nothing lies outside."""
        flat = values.flatten(1)
        return flat, flat.new_zeros(len(flat))


AnyRows = SeparableRows | PointRows


def rows_of(functionals: Functionals, factors: Sequence[AxisFunctions], most_terms: int = 8) -> AnyRows:
    """The rows of functionals, divided by their noise.

    The functions of the axes may be differentiable; bases and the choice of rows are constants.

    On a tensor grid, coefficients that are short sums of products (constants, functions of one
    coordinate, ...) give `SeparableRows`; others, and scattered points, one row per point.
    """
    if isinstance(functionals.points, TensorPoints):
        terms = _separable_terms(functionals, factors, most_terms)
        if terms is not None:
            return _compress(terms)
    return point_rows(functionals, factors)


def _separable_terms(
    functionals: Functionals, factors: Sequence[AxisFunctions], most: int
) -> list[list[Tensor]] | None:
    assert isinstance(functionals.points, TensorPoints)
    terms: list[list[Tensor]] = []
    for derivative, coefficient in functionals.terms.items():
        expansion = separate(coefficient / functionals.std, functionals.shape, most - len(terms))
        if expansion is None:
            return None
        orders = functionals.orders(derivative)
        lines = functionals.points.lines
        values = [f.at(x, p) for f, x, p in zip(factors, lines, orders, strict=True)]
        terms += [[a[:, None] * v for a, v in zip(term, values, strict=True)] for term in expansion]
    return terms


def _compress(terms: list[list[Tensor]]) -> SeparableRows:
    bases = []
    for axis in range(len(terms[0])):
        blocks = [term[axis].detach() for term in terms]
        # Blocks differ by orders of magnitude (u'' by m^2 from u), and each is multiplied by the other axes' blocks.
        together = torch.cat([block / block.norm().clamp_min(torch.finfo(block.dtype).tiny) for block in blocks], dim=1)
        u, s, _ = torch.linalg.svd(together, full_matrices=False)
        bases.append(u[:, s > _LOST * s.amax()])
    reduced = [[q.mT @ a for q, a in zip(bases, term, strict=True)] for term in terms]
    rows = [[a.detach().norm(dim=1) for a in term] for term in reduced]
    norms = torch.stack([reduce(torch.multiply, outer(term)) for term in rows]).sum(0)
    index = (norms > _LOST * norms.amax()).nonzero().T
    return SeparableRows(terms, reduced, bases, index)


def point_rows(functionals: Functionals, factors: Sequence[AxisFunctions]) -> PointRows:
    """One row per point, whether the coefficients factorise or not."""
    points, shape = functionals.points, functionals.shape
    names = functionals.coordinates
    distinct = [torch.unique(c, return_inverse=True) for c in points.columns(names).values()]
    weights, values = [], []
    for derivative, coefficient in functionals.terms.items():
        weights.append((coefficient / functionals.std).expand(shape).flatten())
        orders = functionals.orders(derivative)
        values.append([f.at(x, p) for f, (x, _), p in zip(factors, distinct, orders, strict=True)])
    return PointRows(weights, values, [place for _, place in distinct], shape)


def _products(matrices: Sequence[Tensor], places: Sequence[Tensor] | Tensor, columns: Columns) -> Tensor:
    """prod_j matrices_j[places_j[n], index_j[k]], `(n, K)`."""
    product = matrices[0][places[0]][:, columns.index[0]]
    for j in range(1, len(matrices)):
        product = product * matrices[j][places[j]][:, columns.index[j]]
    return product


def all_products(shape: tuple[int, ...], like: Tensor) -> Columns:
    """Columns for every product of functions of the axes, without prior."""
    index = torch.ones(shape, device=like.device).nonzero().T
    std = like.new_ones(index.shape[1])
    return Columns(shape, index, std, std < 0)


def piece_width(columns: Columns) -> int:
    """Rows at a time that keep memory bounded, yet enough to make a QR factorisation efficient."""
    return max(2 * columns.count, _ENTRIES // max(columns.count, 1))
