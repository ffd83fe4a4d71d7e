"""All solvers agree where the answer is known, and where it is not."""

import importlib.util

import pytest
import torch

import sciprob
from sciprob.problems.registry import load_problem
from sciprob.solvers import NUTS, PCN

pytestmark = [
    pytest.mark.fem,
    pytest.mark.skipif(importlib.util.find_spec("dolfinx_solver") is None, reason="FEniCSx is not installed"),
]


@pytest.fixture(scope="module")
def poisson():
    return load_problem("poisson-source")


@pytest.fixture(scope="module")
def exact(poisson):
    return sciprob.solve(poisson, "gaussian", progress=False)


def in_std(posterior, exact):
    """Mean absolute difference of the means, in exact posterior standard deviations."""
    return float(((posterior.mean - exact.mean) / exact.std).abs().mean())


def test_gaussian_is_dense_bayes(poisson, exact):
    operator, prior = poisson.operator.to_dense(), poisson.prior.covariance.to_dense()
    noise = torch.diag(poisson.likelihood.noise.std.expand(poisson.observed.shape).square())
    gain = torch.linalg.solve(operator @ prior @ operator.T + noise, operator @ prior).T
    mean = poisson.prior.mean + gain @ (poisson.observed - operator @ poisson.prior.mean)
    covariance = prior - gain @ operator @ prior
    torch.testing.assert_close(exact.mean, mean, rtol=0, atol=1e-8 * float(mean.abs().max()))
    torch.testing.assert_close(exact.covariance(), covariance, rtol=0, atol=1e-8 * float(covariance.abs().max()))


def test_laplace_is_exact_on_a_linear_problem(poisson, exact):
    laplace = sciprob.solve(poisson, "laplace", progress=False)
    assert in_std(laplace, exact) < 1e-3
    torch.testing.assert_close(laplace.std, exact.std, rtol=5e-3, atol=0)


def test_pcn_agrees_within_monte_carlo_error(poisson, exact):
    agrees(sciprob.solve(poisson, PCN(samples=150, thin=5, burn_in=200), seed=1, progress=False), exact)


def test_nuts_agrees_within_monte_carlo_error(poisson, exact):
    agrees(sciprob.solve(poisson, NUTS(chains=2, warm_up=50, samples=100), seed=1, progress=False), exact)


def agrees(posterior, exact):
    draws = posterior.meta["diagnostics"]["ess_bulk_min"]
    assert draws > 25
    # |N(0, 1/n)| has mean sqrt(2/(pi n)); twice that leaves room for the correlation of neighbours
    assert in_std(posterior, exact) < 2 * (2 / (torch.pi * draws)) ** 0.5
    assert float((posterior.std / exact.std).mean()) == pytest.approx(1.0, abs=0.1)


def test_pcn_confirms_laplace_on_darcy():
    problem = load_problem("darcy-sensors")
    laplace = sciprob.solve(problem, "laplace", progress=False)
    sampled = sciprob.solve(problem, PCN(samples=300, thin=10, burn_in=500), seed=1, progress=False)
    assert sampled.meta["diagnostics"]["rhat_max"] < 1.2
    assert float(((sampled.mean - laplace.mean) / sampled.std).abs().mean()) < 0.2
    assert float((sampled.std / laplace.std).mean()) == pytest.approx(1.0, abs=0.15)
