"""Kronecker products against dense matrices, and against the library where that is exact and where it is not."""

from __future__ import annotations

import math

import pytest
import torch
from linear_operator.operators import DenseLinearOperator, KroneckerProductLinearOperator
from torch import Tensor

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators.kronecker import KroneckerMap, mode_products, outer_product
from sciprob.operators.store import describe, restore
from sciprob.spaces import GridSpace, Space
from sciprob.testing import OperatorConformance

SIZES = [(5, 7), (7, 5), (3, 4, 5), (6,)]


def factors(rows: tuple[int, ...], columns: tuple[int, ...] | None = None, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    columns = columns or rows
    return [torch.randn(n, r, generator=generator, dtype=torch.float64) for n, r in zip(rows, columns, strict=True)]


def dense(matrices: list[Tensor]) -> Tensor:
    total = torch.ones(1, 1, dtype=torch.float64)
    for matrix in matrices:
        total = torch.kron(total, matrix)
    return total


class TestNonSquareKroneckerConforms(OperatorConformance):
    def make(self):
        return KroneckerMap(factors((5, 7), (3, 6))), self.noise((3, 6))


class TestThreeAxesConform(OperatorConformance):
    def make(self):
        return KroneckerMap(factors((3, 4, 5))), self.noise((3, 4, 5))


@pytest.mark.parametrize("sizes", SIZES)
def test_matrix_vector_products_solves_and_determinants_are_those_of_the_dense_matrix(sizes: tuple[int, ...]) -> None:
    parts = factors(sizes)
    full = dense(parts)
    a = KroneckerMap(parts)
    x = torch.randn((2, 3, *sizes), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat = x.reshape(2, 3, -1)
    torch.testing.assert_close(a(x).reshape(2, 3, -1), flat @ full.mT, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.T(x).reshape(2, 3, -1), flat @ full, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.solve(a(x)), x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(a.solve(x).reshape(2, 3, -1), torch.linalg.solve(full, flat.mT).mT, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        a.T.solve(x).reshape(2, 3, -1), torch.linalg.solve(full.mT, flat.mT).mT, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(a.log_abs_det(), torch.linalg.slogdet(full)[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(a.to_dense(), full, rtol=0, atol=0)
    torch.testing.assert_close(a.row_squares().flatten(), (full @ full.mT).diagonal(), rtol=1e-12, atol=0)


def test_rectangular_factors_have_products_but_no_inverse() -> None:
    parts = factors((5, 7), (3, 6))
    a = KroneckerMap(parts)
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(a(x), parts[0] @ x @ parts[1].mT, rtol=1e-13, atol=1e-13)
    with pytest.raises(UnsupportedProblemError, match="no direct inverse"):
        a.solve(torch.zeros(5, 7, dtype=torch.float64))
    with pytest.raises(UnsupportedProblemError, match="determinant"):
        a.log_abs_det()


def test_library_form_agrees_on_products_and_solves() -> None:
    matrices = [part @ part.mT + torch.eye(len(part)).double() for part in factors((5, 7))]
    a = KroneckerMap(matrices)
    library = a.to_linear_operator()
    assert isinstance(library, KroneckerProductLinearOperator)
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(library @ x.flatten(), a(x).flatten(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(library.solve(x.reshape(-1, 1)).flatten(), a.solve(x).flatten(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(library.logdet(), a.log_abs_det(), rtol=1e-10, atol=0)


def test_determinant_is_exact_where_the_library_clamps_eigenvalues() -> None:
    """diag(1, 1e-6) x diag(1, 1e-6): log det = 4 log 1e-6; the library raises the eigenvalue 1e-12 to 1e-7."""
    small = torch.diag(torch.tensor([1.0, 1e-6], dtype=torch.float64))
    exact = 4 * math.log(1e-6)
    assert float(KroneckerMap([small, small]).log_abs_det()) == pytest.approx(exact, rel=1e-14)
    library = KroneckerProductLinearOperator(DenseLinearOperator(small), DenseLinearOperator(small)).logdet()
    assert float(library) == pytest.approx(2 * math.log(1e-6) + math.log(1e-7), rel=1e-9)
    assert abs(float(library) - exact) > 10


def test_solve_is_direct_where_the_library_iterates_without_saying_so() -> None:
    """One factor of 820 rows, condition 1e6: conjugate gradients stop long before they converge."""
    generator = torch.Generator().manual_seed(3)
    n = 820
    v = torch.nn.functional.normalize(torch.randn(n, generator=generator, dtype=torch.float64), dim=0)
    mirror = torch.eye(n, dtype=torch.float64) - 2 * v[:, None] * v
    large = mirror @ torch.diag(torch.logspace(0, -6, n, dtype=torch.float64)) @ mirror
    small = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
    a = KroneckerMap([(large + large.mT) / 2, small])
    y = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    assert float((a(a.solve(y)) - y).norm() / y.norm()) < 1e-9
    library = a.to_linear_operator().solve(y.reshape(-1, 1)).reshape(n, 2)
    assert float((a(library) - y).norm() / y.norm()) > 0.1


def test_stored_map_comes_back_the_same() -> None:
    space = GridSpace((5, 7), name="u", dims=("x", "t"), lower=(0.0, 0.0), upper=(2.0, 1.0))
    for codomain in (space, None):
        a = KroneckerMap(factors((5, 7), (3, 6)), codomain=codomain)
        kind, settings, tensors = describe(a)
        assert kind == "kronecker"
        again = restore(kind, settings, tensors)
        x = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        assert torch.equal(again(x), a(x))
        assert again.codomain == a.codomain


def test_mode_products_carry_any_leading_axes() -> None:
    parts = factors((5, 7), (3, 6))
    c = torch.randn(4, 2, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(
        mode_products(c, parts), torch.einsum("ia,jb,pqab->pqij", *parts, c), rtol=1e-13, atol=1e-13
    )
    assert mode_products(c[:0], parts).shape == (0, 2, 5, 7)
    vectors = [torch.arange(3.0), torch.arange(4.0), torch.arange(2.0)]
    assert torch.equal(outer_product(vectors), torch.einsum("i,j,k->ijk", *vectors))


def test_bad_factors() -> None:
    with pytest.raises(ShapeError, match=r"one matrix per axis, got tensors of shapes \[\(3,\)\]"):
        KroneckerMap([torch.zeros(3)])
    with pytest.raises(ShapeError, match=r"need a space of shape \(3, 4\), got \(3, 5\) of `xi`"):
        KroneckerMap(factors((3, 4)), domain=Space((3, 5), name="xi"))
