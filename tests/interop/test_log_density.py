import numpy as np
import pytest
import torch

import sciprob
from sciprob.errors import DataError, ShapeError
from sciprob.interop import LogDensity
from sciprob.operators.linear import LinearMap


@pytest.fixture(scope="module")
def problem():
    return sciprob.load_problem("tomography-phantom", {"pixels": 8, "scan.views": 5, "scan.bins": 12})


def white_gaussian(density: LogDensity) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of xi given y, by dense algebra."""
    problem = density.problem
    operator = problem.operator @ density.whitening
    origin = torch.zeros(density.whitening.domain.shape, dtype=torch.float64)
    clean, jacobian = operator.linearise(origin)
    assert isinstance(jacobian, LinearMap)
    columns = jacobian.to_dense().T.reshape(-1, *operator.codomain.shape)
    noise = problem.likelihood.noise
    white = noise.whiten(clean, columns).flatten(1).T
    covariance = torch.linalg.inv(torch.eye(len(white.T), dtype=torch.float64) + white.T @ white)
    mean = covariance @ white.T @ noise.whiten(clean, problem.observed - clean).flatten()
    return mean.numpy(), covariance.numpy()


def test_it_is_the_log_density_of_the_posterior_up_to_a_constant(problem):
    density = LogDensity(problem)
    mean, covariance = white_gaussian(density)
    xi = density.start(5, torch.Generator().manual_seed(0))
    exact = -0.5 * np.einsum("ki,ij,kj->k", xi - mean, np.linalg.inv(covariance), xi - mean)
    np.testing.assert_allclose(np.diff(density(xi)), np.diff(exact), rtol=1e-8)
    values, gradient = density.value_and_gradient(xi)
    np.testing.assert_allclose(values, density(xi))
    np.testing.assert_allclose(gradient, -np.linalg.solve(covariance, (xi - mean).T).T, rtol=1e-6, atol=1e-6)


def test_one_row_gives_a_number_and_the_unknown_has_its_space(problem):
    density = LogDensity(problem)
    xi = np.zeros(density.dimension)
    assert isinstance(density(xi), float)
    assert density.unknown(np.stack([xi, xi])).shape == (2, *problem.parameter.shape)


def test_emcee_samples_the_exact_posterior():
    emcee = pytest.importorskip("emcee")
    problem = sciprob.load_problem("burgers-viscosity")
    density = LogDensity(problem)
    assert density.dimension == 1
    sampler = emcee.EnsembleSampler(16, 1, density, vectorize=True)
    sampler.random_state = np.random.RandomState(0).get_state()
    sampler.run_mcmc(0.3 * density.start(16, torch.Generator().manual_seed(1)), 150)
    xi = sampler.get_chain(discard=50, flat=True)[:, 0]
    grid = np.linspace(-4, 4, 801)
    weights = np.exp(density(grid[:, None]) - density(grid[:, None]).max())
    weights /= weights.sum()
    mean = float(weights @ grid)
    std = float(np.sqrt(weights @ (grid - mean) ** 2))
    assert xi.mean() == pytest.approx(mean, abs=0.25 * std)
    assert xi.std() == pytest.approx(std, rel=0.2)


def test_mistakes_are_named(problem):
    with pytest.raises(ShapeError, match="white coordinates"):
        LogDensity(problem)(np.zeros(3))
    with pytest.raises(DataError):
        LogDensity(sciprob.Problem(problem.name, problem.prior, problem.likelihood))
