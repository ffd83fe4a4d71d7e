"""Problems on grids: built from their files, with data of a finer grid, and solved where the answer is known."""

import math

import pytest
import torch
from PIL import Image

import sciprob
from sciprob.errors import ConfigError, DataError, SciprobWarning
from sciprob.operators.base import Capability
from sciprob.posteriors import GaussianPosterior
from sciprob.problems.grid_data import transfer
from sciprob.problems.registry import build_problem, load_problem
from sciprob.testing import OperatorConformance

LINE = {"grid.inversion": 24, "grid.data": 48}
PLANE = {"grid.inversion": 16, "grid.data": 24}
SMALL = {
    "advection": LINE,
    "burgers-forward": LINE | {"viscosity": 0.05, "step.inversion": 0.05},
    "burgers-initial": LINE | {"viscosity": 0.05, "step.inversion": 0.05},
    "burgers-viscosity": LINE | {"prior.median": 0.1, "step.inversion": 0.05},
    "allen-cahn": PLANE | {"diffusivity": 0.2, "step.inversion": 0.1},
    "heat-source": PLANE,
    "navier-stokes-forcing": PLANE | {"final_time": 0.5, "viscosity": 0.1},
    "navier-stokes-initial": PLANE | {"final_time": 0.5, "viscosity": 0.1},
    "darcy-grid": PLANE | {"noise.std": 0.02},
}
LINEAR = ("advection", "heat-source")


def small(name, **overrides):
    return load_problem(name, overrides=SMALL[name] | overrides)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class TestBurgersConforms(OperatorConformance):
    def make(self):
        problem = small("burgers-initial")
        return problem.operator, problem.truth


class TestNavierStokesConforms(OperatorConformance):
    def make(self):
        problem = small("navier-stokes-forcing", **{"grid.inversion": 8, "step.inversion": 0.25, "noise.std": 0.3})
        return problem.operator, problem.truth


@pytest.mark.parametrize("name", SMALL)
def test_files_build_complete_problems(name):
    problem = small(name)
    assert problem.truth.shape == problem.parameter.shape
    assert problem.data.shape[-1] == problem.config["sensors"]["count"]
    assert problem.data.dtype == problem.truth.dtype == torch.float64
    assert {Capability.WHITENED_PRIOR, Capability.GAUSSIAN_NOISE, Capability.VJP} <= problem.offers
    assert (Capability.LINEAR in problem.offers) == (name in LINEAR)
    assert problem.info.default_solver == ("gaussian" if name in LINEAR else "laplace")
    assert problem.info.title
    assert problem.info.equation
    again = build_problem({k: v for k, v in problem.config.items() if k != "name"}, name=name)
    assert torch.equal(again.data, problem.data)
    assert torch.equal(again.truth, problem.truth)
    assert again.config == problem.config


@pytest.mark.parametrize("name", SMALL)
def test_data_come_from_a_finer_grid(name):
    """The inversion's model at the truth agrees with the fine one within the noise, but not exactly."""
    problem = load_problem(name)  # full files: this is about their numbers
    prior, operator = problem.simulator.model
    fine = prior.sample(generator=generator(3))
    coarse = fine
    if fine.ndim:
        assert prior.space.size > problem.parameter.size
        coarse = transfer(prior.space, problem.parameter)(fine).reshape(problem.parameter.shape)
    gap = (operator(fine) - problem.operator(coarse)) / problem.likelihood.noise.std
    rms = float(gap.square().mean().sqrt())
    assert 1e-8 < rms < 0.6


def test_advection_in_closed_form():
    """u(x, t) = exp(-D k^2 t) sin(k (x - c t)) for the initial state sin(k x)."""
    problem = small("advection")
    k, c, d = 2 * math.pi * 3, problem.config["velocity"], problem.config["diffusivity"]
    x = problem.operator.codomain.coords["x"]
    t = problem.operator.codomain.coords["time"][:, None]
    initial = (k * problem.parameter.coords["x"]).sin()
    expected = torch.exp(-d * k**2 * t) * (k * (x - c * t)).sin()
    torch.testing.assert_close(problem.operator(initial), expected, rtol=0, atol=1e-12)


def test_heat_source_in_closed_form():
    """A source sin(pi x) sin(pi y) heats to (1 - exp(-2 pi^2 D t)) / (2 pi^2 D) times itself."""
    problem = small("heat-source")
    rate = 2 * math.pi**2 * problem.config["diffusivity"]

    def mode(x, y):
        return (math.pi * x).sin() * (math.pi * y).sin()

    x, y = problem.parameter.points().T
    codomain = problem.operator.codomain
    growth = (1 - torch.exp(-rate * codomain.coords["time"])) / rate
    expected = growth[:, None] * mode(codomain.coords["x"], codomain.coords["y"])
    value = problem.operator(mode(x, y).reshape(problem.parameter.shape))
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


def dense_bayes(problem):
    """Posterior covariance and gain by the formulas of the textbook."""
    root = problem.prior.root.to_dense()
    forward, prior = problem.operator.linearise(problem.truth)[1].to_dense(), root @ root.T
    noise = torch.eye(len(forward)).double() * float(problem.likelihood.noise.std) ** 2
    gain = torch.linalg.solve(forward @ prior @ forward.T + noise, forward @ prior).T
    return prior - gain @ forward @ prior, gain


@pytest.mark.parametrize("name", LINEAR)
def test_the_gaussian_solver_is_dense_bayes(name):
    problem = small(name)
    exact = sciprob.solve(problem, "gaussian", progress=False)
    covariance, gain = dense_bayes(problem)
    mean = (gain @ problem.data.flatten()).reshape(problem.parameter.shape)
    torch.testing.assert_close(exact.mean, mean, rtol=0, atol=1e-6 * float(mean.abs().max()))
    std = covariance.diagonal().sqrt().reshape(problem.parameter.shape)
    torch.testing.assert_close(exact.std, std, rtol=1e-2, atol=0)


def test_exact_posterior_covers_truths_of_the_finer_grid():
    """90 % bands of the exact posterior cover 90 % of 200 simulated truths; halved noise or a wrong prior leave it."""
    problem = small("advection")
    covariance, gain = dense_bayes(problem)
    std, inside, g = covariance.diagonal().sqrt(), [], generator(8)
    for _ in range(200):
        truth, data = problem.simulator(g)
        inside.append(float(((truth - gain @ data.flatten()).abs() < 1.6449 * std).double().mean()))
    coverage = sum(inside) / len(inside)
    assert abs(coverage - 0.9) < 3 * math.sqrt(0.09 / (200 * 4))  # about 4 independent points in a truth


def test_viscosity_is_found():
    problem = load_problem("burgers-viscosity", overrides={"grid.inversion": 64, "grid.data": 128})
    posterior = sciprob.solve(problem, "laplace", progress=False)
    deviation = float(posterior.mean - problem.truth) / float(posterior.std)
    assert abs(deviation) < 3
    assert float(posterior.std) < 0.2 * float(problem.truth)  # the prior's is 0.4 of it
    assert float(posterior.quantile(0.001)) > 0


def test_laplace_finds_the_initial_state_and_reports_the_trajectory(tmp_path):
    problem = small("burgers-initial", **{"noise.std": 0.01})
    run = tmp_path / "run"
    posterior = sciprob.solve(problem, "laplace", out=run, progress=False)
    assert posterior.meta["relative_error"] < 0.3
    assert 0.7 < posterior.meta["coverage"]["0.9"] <= 1.0
    assert 0.6 < posterior.meta["residual_rms"] < 1.3
    assert posterior.meta["trajectory_relative_error"] < posterior.meta["relative_error"]  # viscosity forgets
    with Image.open(run / "figures" / "trajectory.gif") as gif:
        assert gif.n_frames == 25
    assert (run / "figures" / "trajectory.png").stat().st_size > 10_000


def test_residuals_of_the_report():
    """The truth as a narrow posterior leaves residuals of size one, and covers itself."""
    problem = small("heat-source")
    narrow = GaussianPosterior(problem.parameter, mean=problem.truth, root=1e-6 * problem.prior.root)
    numbers = problem.report(problem, narrow, None)
    assert numbers["measurements"] == problem.data.numel()
    assert 0.8 < numbers["residual_rms"] < 1.3
    assert abs(numbers["largest_residual"]) >= numbers["residual_rms"]
    assert numbers["trajectory_relative_error"] < 1e-4


def csv(tmp_path, rows, columns="x,time,value,std"):
    path = tmp_path / "sensors.csv"
    path.write_text("\n".join([columns, *rows]) + "\n")
    return path


def test_measurements_of_a_file(tmp_path):
    """The problem's own data through a file, in another order: the same likelihood, and no truth."""
    problem = small("burgers-initial")
    codomain = problem.operator.codomain
    rows = [
        f"{x!r},{t!r},{problem.data[i, j].item()!r},0.03"
        for j, x in enumerate(codomain.coords["x"].tolist())
        for i, t in enumerate(codomain.coords["time"].tolist())
    ]
    measured = load_problem("burgers-initial", data=csv(tmp_path, rows), overrides=SMALL["burgers-initial"])
    assert measured.truth is None
    m = problem.prior.sample((2,), generator=generator(9))
    values = (p.likelihood.log_prob(m, p.data) for p in (measured, problem))
    torch.testing.assert_close(next(values), next(values), rtol=1e-6, atol=0)
    assert measured.simulate(generator(1)).truth is not None


def test_bad_measurements_name_row_and_interval(tmp_path):
    with pytest.raises(DataError, match=r"row 3 of `sensors.csv` has time = 0.6, outside the interval \[0, 0.5\]"):
        load_problem("burgers-initial", data=csv(tmp_path, ["0.1,0.1,1,0.1", "0.2,0.6,1,0.1"]))
    with pytest.raises(DataError, match="has no column `time`"):
        load_problem("burgers-initial", data=csv(tmp_path, ["0.1,1,0.1"], "x,value,std"))
    with pytest.raises(DataError, match=r"row 2 of `sensors.csv` has x = 1.7, outside"):
        load_problem("heat-source", data=csv(tmp_path, ["1.7,0.1,0.1,1,0.1"], "x,y,time,value,std"))


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        (
            "burgers-initial",
            {"sensors.until": 0.7},
            r"in the interval \(0, 0.5\] of `final_time`, got sensors.until = 0.7",
        ),
        ("burgers-initial", {"sensors.snapshots": 0}, "`snapshots` should be at least 1"),
        ("burgers-initial", {"sensors.count": 0}, "`count` should be at least 1"),
        ("burgers-initial", {"grid.data": 16}, "4 <= grid.inversion <= grid.data"),
        ("burgers-initial", {"step.data": 0.1}, "0 < step.data <= step.inversion"),
        ("burgers-initial", {"viscosity": -0.1}, "`viscosity` should not be negative, got -0.1"),
        ("burgers-initial", {"prior.lenght": 0.1}, "did you mean `length`"),
        ("burgers-viscosity", {"prior.median": 0.0}, "`median` and `spread` should be positive"),
        ("burgers-viscosity", {"initial_state": "sin(q)"}, "q"),
        ("navier-stokes-initial", {"noise.std": 0.0}, "`std` of the noise should be positive"),
    ],
)
def test_wrong_settings_are_refused(name, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence):
        load_problem(name, overrides=overrides)


def test_a_grid_too_coarse_for_the_viscosity_is_said():
    with pytest.warns(SciprobWarning, match=r"with 32 points .* misses the data by 1\.\d noise std .* the 64 of"):
        load_problem("navier-stokes-initial", overrides={"viscosity": 2e-4})
