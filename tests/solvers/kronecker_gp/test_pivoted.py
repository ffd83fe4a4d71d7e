"""Eigenpairs by pivoted Cholesky factors against dense eigendecompositions."""

from __future__ import annotations

import torch
from process_cases import gaussian, line, matern

from sciprob.priors.kernels import covariance
from sciprob.solvers.kronecker_gp.pivoted import leading_eigenpairs, pivoted_cholesky


def correlation(kernel, n=60):
    x = line(0, 1, n)
    matrix = covariance(kernel, x, x).detach()
    return matrix / matrix[0, 0]


def test_smooth_kernels_have_the_dense_eigenpairs_from_few_columns():
    matrix = correlation(gaussian(2.0))
    values, vectors = leading_eigenpairs(matrix, 1e-10)
    dense = torch.linalg.eigvalsh(matrix).flip(0)
    assert len(values) == int((dense > 1e-10 * dense[0]).sum()) < 20
    torch.testing.assert_close(values, dense[: len(values)], rtol=1e-4, atol=0)
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(len(values), dtype=torch.float64))
    torch.testing.assert_close((vectors * values) @ vectors.mT, matrix, rtol=0, atol=1e-8)


def test_rough_kernels_are_decomposed_densely():
    matrix = correlation(matern())
    assert pivoted_cholesky(matrix, 1e-14, 20) is None
    values, vectors = leading_eigenpairs(matrix, 1e-13)
    assert len(values) == 60
    torch.testing.assert_close((vectors * values) @ vectors.mT, matrix, rtol=0, atol=1e-13)


def test_the_factor_stops_at_the_tolerance():
    matrix = correlation(gaussian(2.0))
    factor = pivoted_cholesky(matrix, 1e-6, 40)
    rest = matrix - factor @ factor.mT
    assert 0 < float(rest.diagonal().max()) <= 1e-6
    assert float(torch.linalg.eigvalsh(rest)[0]) > -1e-14
    assert pivoted_cholesky(torch.ones(5, 5, dtype=torch.float64), 1e-12, 3).shape == (5, 1)
