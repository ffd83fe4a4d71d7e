"""Exact conditioning against dense Bayes, in both methods."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from solver_cases import dense_bayes, drive, linear_problem, same_state, solve

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.likelihoods.level import InverseGamma
from sciprob.solvers.base import Status
from sciprob.solvers.baselines.gaussian import Gaussian

SHAPES = [(12, 8, None), (8, 12, None), (6, 9, 20)]


@pytest.mark.parametrize(("unknowns", "measurements", "white"), SHAPES)
def test_direct_method_is_dense_bayes(unknowns, measurements, white):
    problem = linear_problem(unknowns, measurements, white)
    mean, covariance, evidence = dense_bayes(problem)
    posterior, figures = solve(Gaussian(), problem)
    root = posterior.root.to_dense()
    assert (posterior.mean - mean).abs().max() < 1e-10
    assert (root @ root.T - covariance).abs().max() < 1e-10
    assert (posterior.std - covariance.diagonal().sqrt()).abs().max() < 1e-9
    assert abs(figures["log_evidence"] - evidence) < 1e-9
    assert figures["method"] == "direct"


@pytest.mark.parametrize(("unknowns", "measurements", "white"), SHAPES)
def test_conjugate_gradients_agree(unknowns, measurements, white):
    """The mean to its tolerance, the draws' covariance within its sampling error."""
    problem = linear_problem(unknowns, measurements, white)
    mean, covariance, _ = dense_bayes(problem)
    solver = Gaussian(method="draws", samples=4000, block=1000, tolerance=1e-13, draw_tolerance=1e-8)
    posterior, figures = solve(solver, problem)
    assert (posterior.mean - mean).abs().max() < 1e-8
    assert figures["method"] == "draws"
    deviations = posterior.draws - posterior.mean
    empirical = deviations.T @ deviations / len(deviations)
    scale = covariance.diagonal().sqrt()
    error = (empirical - covariance) / (scale[:, None] * scale)
    # a correlation estimated from n pairs has variance (1 + rho^2) / n
    assert error.abs().max() < 4.5 * math.sqrt(2 / 4000)
    assert deviations.mean(0).div(scale).abs().max() < 4.5 / math.sqrt(4000)


def test_badly_scaled_problem_keeps_its_digits():
    """Signal to noise of 1e6: a Gram matrix would lose half of the digits."""
    problem = linear_problem(10, 10, std=1e-6, correlated=False)
    mean, covariance, _ = dense_bayes(problem)
    posterior, _ = solve(Gaussian(), problem)
    assert (posterior.mean - mean).abs().max() < 1e-7
    root = posterior.root.to_dense()
    error = root @ root.T - torch.linalg.inv(torch.linalg.inv(covariance))
    assert error.abs().max() < 1e-6 * covariance.abs().max() + 1e-12


@pytest.mark.parametrize("method", ["direct", "draws"])
def test_unknown_level_is_found(method):
    """True std is 3 times the nominal one, so s^2 = 9."""
    problem = linear_problem(6, 60, std=0.6, correlated=False)
    level = InverseGamma(2.0, 2.0)
    nominal = linear_problem(6, 60, std=0.2, correlated=False, level=level).observe(problem.data)
    solver = Gaussian(method=method, samples=8, block=8, tolerance=1e-12)
    _, figures = solve(solver, nominal)
    assert abs(figures["noise_level"] / 9 - 1) < 4 * math.sqrt(2 / 60)
    best = best_level(nominal)
    tolerance = 1e-4 if method == "direct" else 6e-2  # gamma from a few draws
    assert abs(figures["noise_level"] / best - 1) < tolerance


def best_level(problem):
    """The most probable s^2 from dense evidences."""
    prior = problem.likelihood.noise.level

    def loss(t):
        return -float(dense_bayes(problem, math.exp(t))[2] + prior.log_prob(torch.tensor(math.exp(t))))

    return math.exp(minimize_scalar(loss, bounds=(0.0, 4.0), method="bounded", options={"xatol": 1e-7}).x)


def test_resumed_draws_are_the_same():
    problem = linear_problem(20, 15)
    solver = Gaussian(method="draws", samples=20, block=4)
    whole = drive(solver, problem)
    for stop in (1, 3):
        same_state(drive(solver, problem, interrupted_after=stop), whole)


def test_early_results():
    problem = linear_problem()
    solver = Gaussian(method="draws", samples=20, block=4)
    state = drive(solver, problem, steps=2)
    assert solver.finished(state) is None
    assert len(solver.result(problem, state).draws) == 4
    with pytest.raises(UnsupportedProblemError, match="resume"):
        solver.result(problem, drive(solver, problem, steps=1))
    assert solver.finished(drive(solver, problem)) is Status.CONVERGED


def test_settings_are_checked():
    with pytest.raises(ConfigError, match=r"method.*auto, direct, draws"):
        Gaussian(method="fast")
    with pytest.raises(ConfigError, match="`samples` of solver `gaussian`"):
        Gaussian(samples=1)
