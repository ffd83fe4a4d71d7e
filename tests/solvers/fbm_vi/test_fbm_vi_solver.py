"""The solver: exact bridges, training, resumption, refusals."""

import math

import pytest
import torch

import sciprob
from sciprob.errors import UnsupportedProblemError
from sciprob.sde.drifts import AffineDrift
from sciprob.sde.path_model import PathModel
from sciprob.sde.simulate import simulate_path
from sciprob.solvers.fbm_vi.adam import Climb
from sciprob.solvers.fbm_vi.guide import make_guide
from sciprob.solvers.fbm_vi.solver import FractionalVI

SMALL = FractionalVI(training_steps=20, paths=8, width=4, time_step=0.5, rates=6, sites=1, members=40)


def load(name, **changes):
    return sciprob.load_problem(name, overrides={key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize("hurst", ["0.3", "0.7"])
def test_bridge_is_that_of_kalman(hurst):
    problem = load("fou-bridge", hurst=hurst, steps="20")
    exact = sciprob.solve(problem, "kalman", progress=False)
    found = sciprob.solve(problem, FractionalVI(members=4000), progress=False)
    evidence = exact.meta["diagnostics"]["log_evidence"]
    figures = found.meta["diagnostics"]
    assert figures["elbo"] == pytest.approx(evidence, abs=5e-3)  # of the Markov noise
    assert figures["ess"] == pytest.approx(4000)
    late = exact.std > 0
    ratio = found.std[late] / exact.std[late]
    assert float((ratio - 1).abs().max()) < 4 / math.sqrt(2 * 4000)


@pytest.mark.parametrize("name", ["double-well-fractional", "double-well-volterra"])
def test_training_raises_the_bound_below_the_evidence(name):
    problem = load(
        name, steps="40", final_time="2.0", observations__times="[0.5, 1.5]", observations__values="[-1.0, 1.1]"
    )
    before = sciprob.solve(problem, FractionalVI(training_steps=0, rates=8, members=1000), progress=False)
    after = sciprob.solve(problem, FractionalVI(training_steps=40, rates=8, rate=0.02, members=1000), progress=False)
    first, last = (p.meta["diagnostics"] for p in (before, after))
    assert last["elbo"] > first["elbo"] + 0.05
    assert last["elbo"] < last["log_evidence"]
    # both estimate the same evidence, by different importance weights
    error = math.sqrt(1 / first["ess"] + 1 / last["ess"])
    assert last["log_evidence"] == pytest.approx(first["log_evidence"], abs=4 * error)


@pytest.mark.filterwarnings("ignore:Only")  # paths carry the weight, after so few steps
@pytest.mark.parametrize("name", ["double-well-fractional", "double-well-volterra"])
def test_resumed_is_uninterrupted(name, tmp_path):
    problem = load(name, final_time="2.0", steps="8", observations__times="[0.5, 1.5]")
    whole = sciprob.solve(problem, SMALL, seed=1, progress=False)

    def stop(step, state, info):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, sciprob.errors.SciprobError)):
        sciprob.solve(problem, SMALL, seed=1, progress=False, out=tmp_path / "run", callbacks=(stop,))
    resumed = sciprob.resume(tmp_path / "run", progress=False)
    assert torch.equal(whole.samples, resumed.samples)
    assert torch.equal(whole.log_weights, resumed.log_weights)


def test_the_guide_of_known_numbers_is_made_once(monkeypatch):
    made = []

    def counted(reference, sites):
        made.append(torch.is_grad_enabled())
        return make_guide(reference, sites)

    monkeypatch.setattr("sciprob.solvers.fbm_vi.guided.make_guide", counted)
    problem = load("double-well-fractional", final_time="2.0", steps="8", observations__times="[0.5, 1.5]")
    sciprob.solve(problem, SMALL, progress=False)
    assert sum(made) == 0  # of 20 steps none made it again: the trial before training did


def test_hurst_index_is_learned_where_the_bound_is_the_evidence():
    """For an affine drift the maximum of the bound over H is that of the evidence."""
    known = {"drift__reversion": "0.5", "scale": "1.0"}
    problem = load("fou-noisy", final_time="2.0", steps="40", observations__count="20", **known)
    exact = sciprob.solve(problem, "kalman", progress=False).meta["diagnostics"]
    solver = FractionalVI(training_steps=60, rate=0.03, paths=2, width=2, time_step=0.25, rates=12, members=10)
    found = sciprob.solve(problem, solver, progress=False).meta["diagnostics"]
    assert found["hurst"] == pytest.approx(exact["hurst"], abs=0.02)


def test_a_changing_hurst_index_is_refused():
    with pytest.raises(UnsupportedProblemError, match="use `kalman`"):
        sciprob.solve(sciprob.load_problem("time-varying-hurst"), "fbm-vi", progress=False)


def test_drift_in_the_noise_is_a_convolution(monkeypatch):
    """A constant drift c moves the path by sigma c t^{H + 1/2} / Gamma(H + 3/2), in the gamma normalisation."""
    monkeypatch.setattr("sciprob.sde.simulate._STEPS", 50)
    times, paths = torch.linspace(0, 2, 9, dtype=torch.float64), []
    for level in (0.0, 1.5e9):
        drift = AffineDrift(reversion=1e-9, level=level)
        model = PathModel(horizon=2.0, hurst=0.3, scale=0.7, normalisation="gamma", drift=drift, drift_on="noise")
        generator = torch.Generator().manual_seed(0)
        paths.append(simulate_path(model, model.values(model.start()), times, generator=generator))
    expected = 0.7 * 1.5 * times**0.8 / math.gamma(1.8)
    torch.testing.assert_close(paths[1] - paths[0], expected, rtol=1e-6, atol=1e-7)


def test_adam_finds_a_maximum():
    climb = Climb.at(torch.tensor([3.0, -2.0], dtype=torch.float64))
    target, rate = torch.tensor([1.0, 0.5], dtype=torch.float64), torch.full((2,), 0.1, dtype=torch.float64)
    for _ in range(200):
        climb = climb.ascend(2 * (target - climb.position), rate, 200)
    torch.testing.assert_close(climb.average, target, rtol=0, atol=1e-2)
    assert climb.step == 200
