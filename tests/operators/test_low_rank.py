"""Low-rank updates of a prior root against dense linear algebra."""

import pytest
import torch

from sciprob.errors import ShapeError
from sciprob.operators import DenseMap
from sciprob.operators.low_rank import LowRankRoot
from sciprob.operators.store import describe, restore, storable


@storable("test-dense-root")
class StorableDense(DenseMap):
    def describe(self):
        return {}, {"matrix": self.matrix}

    @classmethod
    def restore(cls, settings, tensors):
        return cls(tensors["matrix"])


@pytest.fixture
def root():
    generator = torch.Generator().manual_seed(0)
    prior = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(torch.randn(5, 3, generator=generator, dtype=torch.float64))[0].T
    return LowRankRoot(StorableDense(prior), vectors, torch.tensor([50.0, 2.0, 0.1], dtype=torch.float64))


def test_covariance_variance_inverse_and_determinant(root):
    dense, prior = root.to_dense(), root.prior_root.matrix
    data = root.vectors.T @ torch.diag(root.eigenvalues) @ root.vectors
    covariance = prior @ torch.linalg.inv(torch.eye(5, dtype=torch.float64) + data) @ prior.T
    torch.testing.assert_close(dense @ dense.T, covariance, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(root.variance((prior @ prior.T).diagonal()), covariance.diagonal())
    torch.testing.assert_close(root.T.to_dense(), dense.T)
    torch.testing.assert_close(root.log_abs_det(), torch.linalg.slogdet(dense)[1])
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(root.solve(root(x)), x)


def test_is_stored_with_its_prior_root(root):
    kind, settings, tensors = describe(root)
    again = restore(kind, settings, tensors)
    torch.testing.assert_close(again.to_dense(), root.to_dense(), rtol=0, atol=0)


def test_nests(root):
    """A posterior root can be the prior root of the next data."""
    twice = LowRankRoot(root, root.vectors, root.eigenvalues)
    torch.testing.assert_close(restore(*describe(twice)).to_dense(), twice.to_dense(), rtol=0, atol=0)


def test_mismatched_shapes_are_refused(root):
    with pytest.raises(ShapeError, match="eigenvalues"):
        LowRankRoot(root.prior_root, root.vectors, root.eigenvalues[:2])
    with pytest.raises(ShapeError, match="vectors"):
        LowRankRoot(root.prior_root, root.vectors[:, :4], root.eigenvalues)
