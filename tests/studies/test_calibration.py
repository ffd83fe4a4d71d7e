import pytest
import torch

from sciprob import Problem, load_problem
from sciprob.errors import ConfigError
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import DenseMap
from sciprob.priors import GaussianPrior
from sciprob.solvers.setup import make_solver
from sciprob.spaces import Space
from sciprob.studies import Calibration, calibrate


def linear_problem(assumed: float = 0.5, true: float = 0.5) -> Problem:
    """Five numbers seen through a matrix; data with one noise level, the model believes another."""
    generator = torch.Generator().manual_seed(0)
    space = Space((5,), name="m")
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64) / 2
    matrix = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    prior = GaussianPrior(torch.ones(5, dtype=torch.float64), DenseMap(root, codomain=space))
    operator = DenseMap(matrix, domain=space, codomain=Space((7,), name="y"))

    def simulator(generator: torch.Generator):
        truth = prior.sample(generator=generator)
        return truth, Likelihood(operator, GaussianNoise(operator.codomain, true)).sample(truth, generator=generator)

    return Problem(
        "linear", prior, Likelihood(operator, GaussianNoise(operator.codomain, assumed)), simulator=simulator
    )


@pytest.mark.parametrize("solver", ["gaussian", "laplace"])
def test_exact_solvers_are_found_calibrated(solver):
    result = calibrate(linear_problem(), solver, simulations=200, progress=False)
    assert result.verdict.startswith("calibrated")
    assert abs(result.coverage(0.9) - 0.9) < 4 * (0.09 / 1000) ** 0.5
    assert set(result.ranks) == {*(f"entry {i}" for i in range(5)), "mean", "norm", "log-likelihood",
                                 "distance to a random point"}  # fmt: skip


@pytest.mark.parametrize(("true", "word"), [(1.0, "over-confident"), (0.2, "under-confident")])
def test_a_wrong_noise_level_is_flagged(true, word):
    result = calibrate(linear_problem(true=true), "gaussian", simulations=200, truths="simulator", progress=False)
    assert result.verdict.startswith(word)
    # the own model of the inversion cannot see it
    assert calibrate(linear_problem(true=true), "gaussian", simulations=50, progress=False).verdict.startswith("calib")


def test_chains_that_are_too_short_are_named_as_the_cause():
    sticky = make_solver("pcn", {"chains": 1, "samples": 60, "burn_in": 0, "thin": 1, "preconditioner": "prior"})
    result = calibrate(linear_problem(), sticky, simulations=30, draws=49, progress=False)
    assert not result.verdict.startswith("calibrated")
    assert result.short > 20
    assert f"in {result.short} of 30 simulations the chains had fewer effective draws than the 49" in result.verdict
    exact = calibrate(linear_problem(), "gaussian", simulations=30, progress=False)
    assert exact.table()["simulations_with_short_chains"] == 0


@pytest.mark.parametrize("draws", [9, 19, 99])
def test_coverage_of_uniform_ranks_is_the_level(draws):
    ranks = {"entry 0": torch.arange(draws + 1)}
    assert Calibration("p", "s", draws, ranks, {}, 0.0).coverage(0.9) == pytest.approx(0.9)


def test_workers_give_the_ranks_of_one_process():
    problem = load_problem("tomography-phantom", {"pixels": 12, "scan.views": 5, "scan.bins": 18})
    here = calibrate(problem, "gaussian", simulations=12, draws=19, progress=False)
    there = calibrate(problem, "gaussian", simulations=12, draws=19, workers=2, progress=False)
    assert all(torch.equal(here.ranks[name], there.ranks[name]) for name in here.ranks)
    table = here.table()
    assert table["simulations"] == 12
    assert len(table["ranks"]["mean"]) == 12


def test_mistakes_are_refused_before_any_work():
    with pytest.raises(ConfigError, match="at least 10"):
        calibrate(linear_problem(), "gaussian", simulations=5)
    with pytest.raises(ConfigError, match="built in Python"):
        calibrate(linear_problem(), "gaussian", workers=2)
