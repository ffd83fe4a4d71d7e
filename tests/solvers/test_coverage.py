"""90 % bands hold the truth in 90 % of simulated experiments, and the test notices noise that is misjudged."""

import dataclasses

import pytest
import torch
from scipy.stats import binom
from solver_cases import linear_problem, solve

from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.solvers.baselines.gaussian import Gaussian
from sciprob.solvers.baselines.laplace import Laplace

EXPERIMENTS = 200


def hits(solver, std_factor):
    """Experiments in which the 90 % band of one unknown, a different one each time, holds the truth."""
    problem = linear_problem(6, 12, std=0.5, correlated=False)
    assumed = Likelihood(problem.operator, GaussianNoise(problem.operator.codomain, 0.5 * std_factor))
    generator = torch.Generator().manual_seed(11)
    count = 0
    for i in range(EXPERIMENTS):
        experiment = problem.simulate(generator)
        posterior, _ = solve(solver, dataclasses.replace(experiment, likelihood=assumed))
        low, high = posterior.quantile(0.05), posterior.quantile(0.95)
        count += int(low[i % 6] <= experiment.truth[i % 6] <= high[i % 6])
    return count


@pytest.mark.parametrize("solver", [Gaussian(), Laplace()], ids=["gaussian", "laplace"])
def test_bands_cover_as_they_say(solver):
    low, high = binom.interval(0.99, EXPERIMENTS, 0.9)
    assert low <= hits(solver, 1.0) <= high


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_misjudged_noise_is_noticed(factor):
    low, high = binom.interval(0.99, EXPERIMENTS, 0.9)
    count = hits(Gaussian(), factor)
    assert count < low if factor < 1 else count > high
