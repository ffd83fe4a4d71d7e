import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.sparse.linalg import lsqr

import sciprob
from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.interop import from_matrix_free, to_pylops, to_scipy
from sciprob.operators.xray import XrayTransform
from sciprob.spaces import Space
from sciprob.testing import OperatorConformance


@pytest.fixture(scope="module")
def radon() -> XrayTransform:
    return sciprob.load_problem("tomography-phantom", {"pixels": 16, "scan.views": 9, "scan.bins": 24}).operator


def test_scipy_products_are_those_of_the_map_and_of_its_adjoint(radon):
    view, dense = to_scipy(radon), radon.to_dense().numpy()
    rng = np.random.default_rng(0)
    x, X, y, Y = rng.normal(size=256), rng.normal(size=(256, 3)), rng.normal(size=216), rng.normal(size=(216, 2))
    np.testing.assert_allclose(view @ x, dense @ x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(view @ X, dense @ X, rtol=0, atol=1e-12)
    np.testing.assert_allclose(view.H @ y, dense.T @ y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(view.T @ Y, dense.T @ Y, rtol=0, atol=1e-12)


def test_an_iterative_solver_of_scipy_finds_the_regularised_least_squares_solution(radon):
    dense = radon.to_dense().numpy()
    y = dense @ np.random.default_rng(1).normal(size=256)
    found = lsqr(to_scipy(radon), y, damp=0.3, atol=1e-13, btol=1e-13, iter_lim=2000)[0]
    exact = np.linalg.solve(dense.T @ dense + 0.09 * np.eye(256), dense.T @ y)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9)


def test_float32_views_compute_in_float32(radon):
    view = to_scipy(radon, dtype=torch.float32)
    assert view.dtype == np.float32
    assert (view @ np.ones(256)).dtype == np.float32


def test_pylops_keeps_the_axes_and_passes_its_own_dot_test(radon):
    pylops = pytest.importorskip("pylops")
    view = to_pylops(radon)
    assert view.dims == (16, 16)
    assert view.dimsd == radon.codomain.shape
    assert pylops.utils.dottest(view, rtol=1e-12, backend="numpy")
    image = np.random.default_rng(2).normal(size=(16, 16))
    np.testing.assert_allclose(view @ image, radon(torch.tensor(image)).numpy(), rtol=0, atol=1e-12)


def test_a_pylops_operator_becomes_a_map_that_solvers_accept():
    pylops = pytest.importorskip("pylops")
    blur = pylops.signalprocessing.Convolve2D(dims=(8, 8), h=np.outer([1, 2, 1], [1, 3, 1]) / 20.0, offset=(1, 1))
    linear_map = from_matrix_free(blur)
    assert linear_map.domain.shape == linear_map.codomain.shape == (8, 8)
    image = np.random.default_rng(3).normal(size=(2, 8, 8))
    mapped = linear_map(torch.tensor(image))
    np.testing.assert_allclose(mapped[1].numpy(), blur @ image[1], rtol=0, atol=1e-13)


class TestSparseMatrix(OperatorConformance):
    def make(self):
        matrix = sparse.random(7, 12, density=0.4, random_state=np.random.default_rng(4), format="csr")
        return from_matrix_free(matrix, Space((3, 4), name="m")), self.noise((3, 4))


def test_there_and_back_is_the_same_map(radon):
    again = from_matrix_free(to_scipy(radon), radon.domain, radon.codomain)
    torch.testing.assert_close(again.to_dense(), radon.to_dense(), rtol=0, atol=1e-13)


def test_wrong_sizes_and_complex_operators_are_refused():
    with pytest.raises(ShapeError, match="`domain` should have 4 entries"):
        from_matrix_free(np.eye(4), Space((3,)))
    with pytest.raises(UnsupportedProblemError, match="real"):
        from_matrix_free(1j * np.eye(4))
