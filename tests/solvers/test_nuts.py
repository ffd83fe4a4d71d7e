"""The no-U-turn sampler against closed forms and quadrature, and its resumption."""

import math
import subprocess
import sys

import pytest
import torch
from solver_cases import assert_moments, bent_problem, dense_bayes, drive, linear_problem, quadrature, same_state, solve
from torch.distributions import Exponential, Gamma

from sciprob.errors import ConfigError, ConvergenceError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.likelihoods.poisson import PoissonCounts
from sciprob.operators import DenseMap, ForwardOperator
from sciprob.priors.base import Prior
from sciprob.priors.distribution import DistributionPrior
from sciprob.problems.problem import Problem
from sciprob.solvers.base import Status
from sciprob.solvers.baselines.nuts import NUTS
from sciprob.spaces import Space


def test_linear_problem():
    problem = linear_problem(5, 3, std=1.0, correlated=False)
    mean, covariance, _ = dense_bayes(problem)
    posterior, figures = solve(NUTS(warm_up=80, samples=120, block=60), problem)
    assert_moments(posterior, mean, covariance)
    assert figures["divergences"] == 0
    assert 0.6 < figures["acceptance"] <= 1
    assert 1 <= figures["deepest_tree"] <= 10
    assert figures["rhat_max"] < 1.05


def test_bent_posterior_against_quadrature():
    problem = bent_problem()
    mean, covariance, _ = quadrature(problem)
    posterior, _ = solve(NUTS(warm_up=100, samples=200, block=50), problem)
    assert_moments(posterior, mean, covariance)


def count_problem(distribution, counts=2.0):
    """y ~ Poisson(5 exp(-m)) with a positive m: the posterior is one-dimensional."""
    space = Space((1,))
    operator = DenseMap(torch.ones(1, 1, dtype=torch.float64), domain=space)
    likelihood = Likelihood(operator, PoissonCounts(operator.codomain, 5.0))
    return Problem("counts", DistributionPrior(space, distribution), likelihood, torch.tensor([counts]).double())


class NoQuantile(Gamma):
    """A distribution without a known whitening."""


def test_priors_without_whitening_are_sampled_on_their_support():
    one = torch.ones(1, dtype=torch.float64)
    problem = count_problem(NoQuantile(3 * one, 2 * one))
    assert "whitened" not in str(problem.prior.capabilities).lower()
    m = torch.linspace(1e-6, 8, 200001, dtype=torch.float64)[:, None]
    weights = (problem.likelihood.log_prob(m, problem.data) + problem.prior.log_prob(m)).softmax(0)
    mean = weights @ m
    posterior, _ = solve(NUTS(warm_up=100, samples=200, block=50), problem)
    assert_moments(posterior, mean, (weights @ (m - mean).square())[:, None])
    assert (posterior.samples > 0).all()


def test_whitened_distribution_gives_the_same_posterior():
    one = torch.ones(1, dtype=torch.float64)
    problem = count_problem(Exponential(one))
    m = torch.linspace(1e-6, 12, 200001, dtype=torch.float64)[:, None]
    weights = (problem.likelihood.log_prob(m, problem.data) + problem.prior.log_prob(m)).softmax(0)
    mean = weights @ m
    posterior, _ = solve(NUTS(warm_up=100, samples=200, block=50), problem)
    assert_moments(posterior, mean, (weights @ (m - mean).square())[:, None])


def test_resumed_equals_uninterrupted_and_leaves_the_global_generator_alone():
    problem = bent_problem()
    solver = NUTS(chains=2, warm_up=20, samples=15, block=5)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    whole = drive(solver, problem)
    assert torch.equal(torch.get_rng_state(), before)
    assert solver.finished(whole) is Status.COMPLETED
    torch.manual_seed(8)
    for stop in (1, 2, 4):
        same_state(drive(solver, problem, interrupted_after=stop), whole)


def test_early_results_have_no_warm_up():
    problem = bent_problem()
    solver = NUTS(chains=2, warm_up=20, samples=15, block=5, preconditioner="prior")
    with pytest.raises(UnsupportedProblemError, match="no draws yet"):
        solver.result(problem, drive(solver, problem, steps=2))
    early = solver.result(problem, drive(solver, problem, steps=3))
    assert torch.equal(early.by_chain(), drive(solver, problem).draws[:, :5])


class Breaking(ForwardOperator):
    """Fails for m > 1.5, as a solver that does not converge."""

    def __init__(self):
        super().__init__(Space((1,)), Space((1,), name="y"))

    def _apply_batched(self, m):
        if bool((m > 1.5).any()):
            message = "no convergence"
            raise ConvergenceError(message)
        return m


def test_failing_solves_are_rejected_like_divergences():
    problem = linear_problem(1, 1)
    noise = GaussianNoise(Space((1,), name="y"), 1.0)
    prior = type(problem.prior)(torch.zeros(1).double(), DenseMap(torch.ones(1, 1).double()))
    broken = Problem("breaking", prior, Likelihood(Breaking(), noise), torch.ones(1).double())
    posterior, figures = solve(NUTS(chains=2, warm_up=50, samples=50), broken)
    assert (posterior.samples <= 1.5).all()
    assert figures["divergences"] > 0


def test_other_priors_are_refused():
    problem = linear_problem(2, 2)
    with pytest.raises(UnsupportedProblemError, match="whitened prior or a `DistributionPrior`"):
        drive(NUTS(), Problem("bare", Prior(problem.parameter), problem.likelihood, problem.data), steps=1)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="`warm_up` of solver `nuts` should be at least 10"):
        NUTS(warm_up=1)
    with pytest.raises(ConfigError, match="target_acceptance"):
        NUTS(target_acceptance=math.nan)


def test_pyro_is_loaded_by_sampling_only():
    """Except by `sm-gp`, because GPyTorch imports Pyro where it is installed."""
    code = (
        "import sys; from sciprob.solvers import SOLVERS; names = [name for name in SOLVERS if name != 'sm-gp']; "
        "assert [SOLVERS[name].name for name in names] == names; assert 'pyro' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
