"""Problems as Pyro models: densities, simulation, and Pyro's own inference."""

import pyro
import pyro.poutine
import pytest
import torch
from torch.distributions import Gamma

from sciprob.errors import UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DenseMap
from sciprob.priors.base import GaussianPrior, Prior
from sciprob.priors.distribution import DistributionPrior
from sciprob.problems.problem import Problem
from sciprob.problems.pyro_model import as_pyro_model


@pytest.fixture
def problem():
    g = torch.Generator().manual_seed(0)
    prior = GaussianPrior(
        torch.ones(3, dtype=torch.float64), DenseMap(torch.randn(3, 3, generator=g, dtype=torch.float64))
    )
    operator = DenseMap(torch.randn(2, 3, generator=g, dtype=torch.float64), domain=prior.space)
    return Problem("linear", prior, Likelihood(operator, GaussianNoise(operator.codomain, 0.5))).simulate(g)


def test_joint_density_of_a_whitened_problem(problem):
    xi = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)
    trace = pyro.poutine.trace(pyro.condition(as_pyro_model(problem), {"xi": xi})).get_trace()
    m = problem.prior.whitening(xi)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(xi).sum() + problem.likelihood.log_prob(m, problem.data)
    torch.testing.assert_close(trace.log_prob_sum(), expected)
    torch.testing.assert_close(trace.nodes["m"]["value"], m)
    assert trace.nodes["y"]["is_observed"]


def test_distribution_priors_are_latent_themselves(problem):
    gamma = Gamma(torch.full((3,), 2.0, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    problem = Problem("gamma", DistributionPrior(problem.parameter, gamma), problem.likelihood, problem.data)
    m = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    whitened = problem.prior._white is not None
    site = "xi" if whitened else "m"
    assert site == "m"
    trace = pyro.poutine.trace(pyro.condition(as_pyro_model(problem), {"m": m})).get_trace()
    expected = gamma.log_prob(m).sum() + problem.likelihood.log_prob(m, problem.data)
    torch.testing.assert_close(trace.log_prob_sum(), expected)


def test_simulates_data(problem):
    model = as_pyro_model(problem)
    pyro.set_rng_seed(0)
    residuals = []
    for _ in range(400):
        nodes = pyro.poutine.trace(model).get_trace(None).nodes
        residuals.append(nodes["y"]["value"] - problem.operator(nodes["m"]["value"]))
    residuals = torch.stack(residuals)
    assert (residuals.std(0) / 0.5 - 1).abs().max() < 0.15
    assert residuals.mean(0).abs().max() < 0.1


def test_pyro_infers_with_it(problem):
    pyro.set_rng_seed(1)
    kernel = pyro.infer.NUTS(as_pyro_model(problem))
    mcmc = pyro.infer.MCMC(kernel, num_samples=300, warmup_steps=100, disable_progbar=True)
    mcmc.run()
    draws = problem.prior.whitening(mcmc.get_samples()["xi"])
    g, c = problem.operator.matrix, problem.prior.root.matrix @ problem.prior.root.matrix.T
    s = g @ c @ g.T + 0.25 * torch.eye(2, dtype=torch.float64)
    gain = torch.linalg.solve(s, g @ c).T
    mean = problem.prior.mean + gain @ (problem.data - g @ problem.prior.mean)
    std = (c - gain @ g @ c).diagonal().sqrt()
    assert ((draws.mean(0) - mean) / std).abs().max() < 0.25


def test_other_priors_are_refused(problem):
    with pytest.raises(UnsupportedProblemError, match="Pyro model"):
        as_pyro_model(Problem("bare", Prior(problem.parameter), problem.likelihood, problem.data))
