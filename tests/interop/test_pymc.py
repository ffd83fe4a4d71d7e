import numpy as np
import pytest
import torch

import sciprob
from sciprob.errors import UnsupportedProblemError
from sciprob.interop import LogDensity, to_pymc
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import DenseMap
from sciprob.priors import GaussianPrior
from sciprob.spaces import Space

# PyMC and what it imports warn of their own affairs
pytestmark = pytest.mark.filterwarnings("ignore")
pymc = pytest.importorskip("pymc")


@pytest.fixture(scope="module")
def problem():
    """Three numbers behind five data; linear and Gaussian."""
    g = torch.Generator().manual_seed(2)
    space, data = Space((3,), name="m"), Space((5,), name="y")
    root = DenseMap(torch.randn(3, 3, generator=g, dtype=torch.float64), codomain=space)
    matrix = DenseMap(torch.randn(5, 3, generator=g, dtype=torch.float64), domain=space, codomain=data)
    prior = GaussianPrior(torch.ones(3, dtype=torch.float64), root)
    return sciprob.Problem("linear", prior, Likelihood(matrix, GaussianNoise(data, 0.7))).simulate(g)


def closed_form(problem):
    """Mean and covariance of xi given y."""
    root, matrix = problem.prior.root.to_dense().numpy(), problem.operator.to_dense().numpy()
    white = matrix @ root / 0.7
    covariance = np.linalg.inv(np.eye(3) + white.T @ white)
    residual = (problem.observed.numpy() - matrix @ np.ones(3)) / 0.7
    return covariance @ white.T @ residual, covariance


def test_density_and_gradient_are_those_of_the_posterior(problem):
    model = to_pymc(problem)
    mean, covariance = closed_form(problem)
    log_density, gradient = model.compile_logp(), model.compile_dlogp()
    points = np.random.default_rng(0).standard_normal((4, 3))
    values = np.array([float(log_density({"xi": xi})) for xi in points])
    exact = -0.5 * np.einsum("ki,ij,kj->k", points - mean, np.linalg.inv(covariance), points - mean)
    np.testing.assert_allclose(np.diff(values), np.diff(exact), rtol=1e-9)
    for xi in points:
        np.testing.assert_allclose(gradient({"xi": xi}), -np.linalg.solve(covariance, xi - mean), rtol=1e-9)


def test_nuts_of_pymc_samples_the_closed_form(problem):
    with to_pymc(problem):
        trace = pymc.sample(400, tune=300, chains=2, cores=1, random_seed=3, progressbar=False)
    xi = trace.posterior["xi"].values.reshape(-1, 3)
    mean, covariance = closed_form(problem)
    std = np.sqrt(np.diag(covariance))
    # 800 draws of a standard normal in three dimensions: at least 400 effective ones
    assert np.abs((xi.mean(0) - mean) / std).max() < 4 / np.sqrt(400)
    assert np.abs(xi.var(0) / std**2 - 1).max() < 4 * np.sqrt(2 / 400)
    m = LogDensity(problem).unknown(xi).mean(0)
    exact = sciprob.solve(problem, "gaussian", progress=False)
    assert float(((m - exact.mean) / exact.std).abs().max()) < 4 / np.sqrt(400)


def test_priors_without_whitening_are_refused():
    problem = sciprob.load_problem("tomography-sparse", {"pixels": 64})
    with pytest.raises(UnsupportedProblemError, match="whitened prior"):
        to_pymc(problem)
