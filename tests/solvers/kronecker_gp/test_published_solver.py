"""The published trainer behind `sm-gp`: the same steps as the model's own, through the driver, and resumed."""

import signal

import gp_problems as cases
import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.pde.functionals import Functionals, ScatteredPoints
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.solvers.kronecker_gp.published import PublishedModel
from sciprob.solvers.kronecker_gp.published_posterior import published_posterior
from sciprob.solvers.kronecker_gp.solver import SpectralMixtureGP

METHOD = SpectralMixtureGP(trainer="published", adam_steps=35, largest_frequency=15.0)


def by_hand(problem, steps=35):
    model = PublishedModel(problem.operator.collocation, 15.0)
    state = model.init()
    for _ in range(steps):
        state, _ = model.step(state)
    return published_posterior(model, state).mean


def test_the_driver_makes_the_steps_of_the_model():
    problem = cases.problem(points=(40,))
    posterior = sciprob.solve(problem, METHOD, progress=False)
    assert torch.equal(posterior.mean, by_hand(problem))
    assert bool((posterior.std > 0).all())
    assert posterior.meta["diagnostics"]["adam_steps"] == 35
    assert posterior.meta["status"] == "completed"


def test_a_stopped_run_resumes_to_the_same_numbers(tmp_path):
    problem = cases.problem(points=(40,))

    def stop(step, state, info):
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    sciprob.solve(problem, METHOD, out=tmp_path / "run", progress=False, callbacks=[stop])
    resumed = sciprob.resume(tmp_path / "run", problem=problem, progress=False)
    assert torch.equal(resumed.mean, by_hand(problem))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ConfigError, match="`trainer` of solver `sm-gp` should be one of"):
        SpectralMixtureGP(trainer="adam")
    c = cases.collocation(points=(40,))
    one = torch.ones((), dtype=torch.float64)
    sensor = Functionals("sensors", ("x",), ScatteredPoints(0.5 * one.reshape(1, 1)), {"": one}, one.reshape(1), one)
    measured = collocation_problem("test", type(c)(**{**vars(c), "sensors": (sensor,)}))
    with pytest.raises(UnsupportedProblemError, match="no place for sensors"):
        sciprob.solve(measured, METHOD, progress=False)
