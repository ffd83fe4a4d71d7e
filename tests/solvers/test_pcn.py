"""Function-space chains against closed forms and quadrature."""

import math

import pytest
import torch
from solver_cases import assert_moments, bent_problem, dense_bayes, drive, linear_problem, quadrature, same_state, solve

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.level import InverseGamma
from sciprob.operators import Capability, DenseMap
from sciprob.problems.problem import Problem
from sciprob.solvers.base import Status
from sciprob.solvers.baselines.pcn import PCN


@pytest.mark.parametrize("preconditioner", ["laplace", "prior"])
def test_linear_problem(preconditioner):
    problem = linear_problem(8, 5, std=1.0)
    mean, covariance, _ = dense_bayes(problem)
    solver = PCN(chains=20, samples=100, thin=3 if preconditioner == "laplace" else 60, preconditioner=preconditioner)
    posterior, figures = solve(solver, problem)
    assert_moments(posterior, mean, covariance)
    assert figures["acceptance"] > 0.15
    assert figures["draws_per_chain"] == 100


@pytest.mark.parametrize("preconditioner", ["laplace", "prior"])
def test_bent_posterior_against_quadrature(preconditioner):
    problem = bent_problem()
    mean, covariance, _ = quadrature(problem)
    posterior, _ = solve(PCN(chains=30, samples=150, thin=5, preconditioner=preconditioner), problem)
    assert_moments(posterior, mean, covariance)


@pytest.mark.parametrize("preconditioner", ["laplace", "prior"])
def test_without_data_the_prior_is_kept(preconditioner):
    problem = linear_problem(6, 3)
    blind = DenseMap(torch.zeros(3, 6, dtype=torch.float64))
    problem = Problem("blind", problem.prior, Likelihood(blind, problem.likelihood.noise), data=problem.data)
    root = problem.prior.root.to_dense()
    solver = PCN(chains=20, samples=300, thin=2, preconditioner=preconditioner, beta=0.7, burn_in=0)  # untuned
    posterior, figures = solve(solver, problem)
    assert figures["acceptance"] == 1
    assert_moments(posterior, problem.prior.mean, root @ root.T)


def test_wrong_reference_is_corrected():
    """The acceptance ratio, not the reference, decides: a centre far off gives the same posterior."""
    problem = linear_problem(4, 3, std=1.0)
    mean, covariance, _ = dense_bayes(problem)
    solver = PCN(newton_steps=1, chains=20, samples=200, thin=5, eigenvalue_tolerance=0.5, inflation=1.5)
    posterior, _ = solve(solver, problem)
    assert_moments(posterior, mean, covariance)


def test_unknown_noise_level_is_integrated_out():
    """With a large, wrong nominal level the bands adapt to the Student t posterior."""
    problem = linear_problem(2, 30, std=0.6, correlated=False)
    nominal = linear_problem(2, 30, std=0.2, correlated=False, level=InverseGamma(2.0, 2.0)).observe(problem.data)
    posterior, _ = solve(PCN(chains=20, samples=150, thin=4), nominal)
    mean, covariance, _ = quadrature(nominal, half_width=7.0, points=1401)
    assert_moments(posterior, mean, covariance)


def test_resumed_equals_uninterrupted():
    problem = bent_problem()
    solver = PCN(samples=30, thin=3, burn_in=40, block=20)
    whole = drive(solver, problem)
    assert solver.finished(whole) is Status.COMPLETED
    steps = whole.reference.newton + 1 + math.ceil(solver.iterations / 20)
    for stop in (1, whole.reference.newton, whole.reference.newton + 2, steps - 2):
        same_state(drive(solver, problem, interrupted_after=stop), whole)


def test_early_results_have_no_burn_in():
    problem = bent_problem()
    solver = PCN(samples=30, thin=5, burn_in=40, block=20, preconditioner="prior")
    with pytest.raises(UnsupportedProblemError, match="no draws yet"):
        solver.result(problem, drive(solver, problem, steps=2))
    state = drive(solver, problem, steps=4)
    early = solver.result(problem, state)
    assert early.by_chain().shape == (4, 8, 2)
    assert torch.equal(early.by_chain(), drive(solver, problem).draws[:, :8])


def test_beta_is_frozen_after_burn_in():
    problem = bent_problem(std=0.05)
    solver = PCN(samples=40, thin=5, burn_in=100, block=50)
    during, frozen = drive(solver, problem, steps=8), drive(solver, problem)
    first = frozen.reference.newton + 3
    middle = [drive(solver, problem, steps=k).step for k in range(first, first + 3)]
    assert set(middle) == {frozen.step}
    assert during.step != solver.beta


class Tangentless(DenseMap):
    @property
    def capabilities(self):
        return frozenset({Capability.LINEAR})


def test_derivatives_are_needed_for_the_laplace_preconditioner_only():
    problem = linear_problem(4, 3)
    operator = Tangentless(problem.operator.matrix)
    problem = Problem("tangentless", problem.prior, Likelihood(operator, problem.likelihood.noise), problem.data)
    with pytest.raises(UnsupportedProblemError, match='preconditioner="prior"'):
        drive(PCN(), problem, steps=1)
    drive(PCN(preconditioner="prior"), problem, steps=1)


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="`beta` of solver `pcn` should lie between 0 and 1"):
        PCN(beta=0.0)
    with pytest.raises(ConfigError, match="laplace, prior"):
        PCN(preconditioner="none")
