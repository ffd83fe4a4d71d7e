"""The member-by-member solvers through `solve` and `resume`: same numbers after a kill, calls counted, refusals."""

import pytest
import torch
from diffusion_twins import normal, small_twin

import sciprob
from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DenseMap
from sciprob.problems.problem import Problem
from sciprob.solvers import SOLVERS
from sciprob.spaces import Space

SETTINGS = {
    "dps": {"samples": 3, "steps": 12, "block": 4, "scale": 0.1},
    "pigdm": {"samples": 3, "steps": 12, "block": 4},
    "daps": {"samples": 3, "steps": 6, "block": 2, "flow_calls": 2},
    "split-gibbs": {"chains": 2, "samples": 4, "burn_in": 2, "prior_calls": 3, "block": 2},
    "red-diff": {"samples": 3, "steps": 12, "block": 4},
}


@pytest.mark.parametrize("name", ["pigdm", "split-gibbs"])  # all states are resumed in the tests of each solver
def test_killed_and_resumed_runs_give_the_same_members(name, tmp_path):
    problem, solver = small_twin(), SOLVERS[name](**SETTINGS[name])
    whole = sciprob.solve(problem, solver, progress=False, device="cpu")

    def kill(step, state, info):
        if step == 2:
            raise RuntimeError(name)

    with pytest.raises(RuntimeError, match=name):
        sciprob.solve(problem, solver, progress=False, device="cpu", out=tmp_path / "run", callbacks=[kill])
    resumed = sciprob.resume(tmp_path / "run", problem=problem, progress=False)
    assert torch.equal(whole.samples, resumed.samples)
    assert whole.meta["network_calls"] == resumed.meta["network_calls"] > 0


@pytest.mark.parametrize("name", SETTINGS)
def test_a_prior_of_another_size_is_refused(name):
    problem = small_twin()
    space = Space((2,), name="y")
    operator = DenseMap(normal(0, 2, 4), domain=Space((4,), name="m"), codomain=space)
    wrong = Problem("wrong", problem.prior, Likelihood(operator, GaussianNoise(space, 0.3)), data=problem.data)
    with pytest.raises((ShapeError, UnsupportedProblemError), match="shape"):
        sciprob.solve(wrong, SOLVERS[name](**SETTINGS[name]), progress=False, device="cpu")
