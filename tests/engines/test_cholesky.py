"""The sparse Cholesky factorisation against dense algebra."""

import numpy as np
import pytest

from sciprob.engines import simplex
from sciprob.engines.cholesky import SparseCholesky
from sciprob.errors import UnsupportedProblemError
from sciprob.spaces import box_mesh


@pytest.fixture(scope="module")
def matrix():
    mesh = box_mesh((5, 4), (0.0, 0.0), (2.0, 1.0))
    return simplex.mass(mesh.points, mesh.cells) + 0.3 * simplex.stiffness(mesh.points, mesh.cells)


def test_root_solve_and_determinant(matrix):
    factor, dense = SparseCholesky(matrix), matrix.toarray()
    root = factor.root.toarray()
    np.testing.assert_allclose(root @ root.T, dense, rtol=0, atol=1e-14)
    assert (factor.root != 0).nnz < dense.size / 2
    columns = np.random.default_rng(0).standard_normal((len(dense), 3))
    np.testing.assert_allclose(factor.solve(columns), np.linalg.solve(dense, columns), rtol=1e-11)
    assert factor.logdet == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)


def test_indefinite_and_unsymmetric_matrices_are_refused(matrix):
    with pytest.raises(UnsupportedProblemError, match="not symmetric positive definite"):
        SparseCholesky(-matrix)
