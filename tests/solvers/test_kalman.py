"""The exact path solver: agreement with other solvers, estimates, routes, saving, errors, calibration."""

import math

import pytest
import torch

import sciprob
from sciprob.errors import SciprobWarning, UnsupportedProblemError
from sciprob.posteriors import PathPosterior
from sciprob.problems.registry import load_problem
from sciprob.sde import AffineSDE, hurst_likelihood, sample_fgn, sample_gaussian
from sciprob.sde.evidence import PathEvidence
from sciprob.sde.level_shift import level_shift
from sciprob.sde.path_model import PathModel
from sciprob.sde.quantities import Unknown
from sciprob.solvers import SOLVERS
from sciprob.solvers.kalman import Kalman


def solve(problem, solver="kalman", **options):
    return sciprob.solve(problem, solver, progress=False, device="cpu", **options)


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def write_series(path, values, times=None):
    times = range(len(values)) if times is None else times
    rows = [f"{t},{v:.17g}" for t, v in zip(times, torch.as_tensor(values).tolist(), strict=True)]
    path.write_text("\n".join(["time,value", *rows]))
    return path


def series_problem(tmp_path, values, observed, **settings):
    file = write_series(tmp_path / "series.csv", values)
    table = {"kind": "fractional-series", "observed": observed, **settings}
    return sciprob.problems.registry.build_problem(table, name="series", data=file)


def test_is_registered():
    assert SOLVERS["kalman"] is Kalman


@pytest.mark.parametrize("settings", [{}, {"hurst": 0.3, "drift.reversion": 0.0}])
def test_bridge_agrees_with_the_general_gaussian_solver(settings):
    problem = load_problem("fou-bridge", {**settings, "steps": 40})
    ours, other = solve(problem), solve(problem, "gaussian")
    torch.testing.assert_close(ours.mean, other.mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(ours.std, other.std, rtol=0, atol=1e-7)
    evidence = other.meta["diagnostics"]["log_evidence"]
    assert ours.meta["diagnostics"]["log_evidence"] == pytest.approx(evidence, abs=1e-8)


def test_bridge_is_the_closed_form():
    """One observation at the end: evidence and mid-path deviation by hand, type I, gamma normalisation, no drift."""
    h, std = 0.3, 0.1
    problem = load_problem("fou-bridge", {"hurst": h, "drift.reversion": 0.0, "steps": 4})
    posterior = solve(problem)
    factor = 1 / (math.gamma(2 * h + 1) * math.sin(math.pi * h))
    end, middle = factor * 2 ** (2 * h), factor
    evidence = -math.log(2 * math.pi * (end + std**2)) / 2
    assert posterior.meta["diagnostics"]["log_evidence"] == pytest.approx(evidence, abs=1e-12)
    expected = math.sqrt(middle - (end / 2) ** 2 / (end + std**2))
    assert float(posterior.at(real(1.0)).std) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(0.928, abs=2e-3)  # the published table's true fractional Brownian motion


def test_markov_method_is_close_to_the_dense_one():
    problem = load_problem("fou-bridge", {"steps": 20})
    dense, markov = solve(problem), solve(problem, Kalman(method="markov"))
    assert float((markov.std[1:] / dense.std[1:] - 1).abs().max()) < 0.02
    draws = markov.sample((2000,), generator=torch.Generator().manual_seed(0))
    assert float((draws.std(0)[1:] / markov.std[1:] - 1).abs().max()) < 4 / math.sqrt(4000)


def test_draws_have_the_posterior_law():
    known = {"hurst": 0.3, "scale": 1.0, "drift.reversion": 0.5}
    problem = load_problem("fou-noisy", {"observations.count": 10, "steps": 20, **known})
    posterior = solve(problem)
    draws = posterior.sample((4000,), generator=torch.Generator().manual_seed(0))
    spread = posterior.std.clamp_min(1e-12)
    assert float(((draws.mean(0) - posterior.mean) / spread).abs().max()) < 4 / math.sqrt(4000)
    observed = posterior.push(problem.operator)
    torch.testing.assert_close(observed.std, posterior.std[problem.operator.index], rtol=1e-6, atol=1e-9)


def test_posterior_is_saved_and_reloaded(tmp_path):
    problem = load_problem("fou-noisy", {"observations.count": 12, "steps": 12, "drift.reversion": 0.0})
    for method in ("dense", "markov"):
        posterior = solve(problem, Kalman(method=method))
        loaded = sciprob.load_posterior(posterior.save(tmp_path / method))
        assert isinstance(loaded, PathPosterior)
        times = real(0.123, 4.5)
        torch.testing.assert_close(loaded.at(times).mean, posterior.at(times).mean, rtol=0, atol=0)
        seed = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
        draws = [p.sample((3,), generator=g) for p, g in zip((loaded, posterior), seed, strict=True)]
        assert torch.equal(*draws)
    tree = posterior.to_xarray(problem=problem)
    assert tree["posterior"]["x"].dims == ("chain", "draw", "time")


@pytest.mark.parametrize("observed", ["increments", "levels"])
def test_series_has_the_estimate_of_the_exact_likelihood(tmp_path, observed):
    noise = sample_fgn(200, 0.75, generator=torch.Generator().manual_seed(5), normalisation="unit")
    values = noise + 3 if observed == "increments" else torch.cat([real(0.0), noise.cumsum(0)])
    reference = hurst_likelihood(values, observed=observed, mean="unknown" if observed == "increments" else "zero")
    problem = series_problem(tmp_path, values, observed)
    figures = solve(problem).meta["diagnostics"]
    assert figures["likelihood"] == "toeplitz"
    assert figures["hurst"] == pytest.approx(float(reference.hurst), abs=1e-4)
    assert figures["hurst_std_error"] == pytest.approx(float(reference.std_error), rel=0.02)
    assert figures["scale"] == pytest.approx(float(reference.scale), rel=1e-3)


def test_series_and_dense_evidence_agree_up_to_the_flat_prior():
    """Differences of the log likelihood between parameters, by the Toeplitz and the dense route."""
    y = sample_fgn(60, 0.3, generator=torch.Generator().manual_seed(0), normalisation="unit")
    times, std = torch.arange(60, dtype=torch.float64), torch.full((60,), 0.1, dtype=torch.float64)
    raw = real(-0.5, 0.1), real(0.8, -0.2)
    for observed, values in (("increments", y), ("levels", y.cumsum(0))):
        model = PathModel(
            59.0, hurst=Unknown(0.5), scale=Unknown(1.0), initial_std=1e3, observed=observed, normalisation="unit"
        )
        evidence = PathEvidence(model, times, values, std)
        assert evidence.is_series
        change = [
            evidence.log_likelihood(raw[1], r) - evidence.log_likelihood(raw[0], r) for r in ("toeplitz", "dense")
        ]
        assert float(change[0]) == pytest.approx(float(change[1]), abs=2e-4)


def test_unknown_errors_are_estimated(tmp_path):
    generator = torch.Generator().manual_seed(3)
    path = sample_fgn(300, 0.8, generator=generator, normalisation="unit").cumsum(0)
    values = path + 0.5 * torch.randn(300, dtype=torch.float64, generator=generator)
    problem = series_problem(tmp_path, values, "levels", std={"start": 0.1})
    figures = solve(problem).meta["diagnostics"]
    assert abs(figures["hurst"] - 0.8) < 3 * figures["hurst_std_error"]
    assert abs(figures["noise_std"] - 0.5) < 3 * figures["noise_std_std_error"]


def test_intervals_of_the_index_cover():
    """90 % intervals over 200 series through the solver's own estimates."""
    from sciprob.sde.maximise import maximise

    count, n, h = 200, 128, 0.7
    x = sample_fgn(n, h, generator=torch.Generator().manual_seed(9), shape=(count,), normalisation="unit")
    estimate = hurst_likelihood(x, observed="increments")
    low, high = estimate.interval(0.9)
    assert float(((low <= h) & (h <= high)).double().mean()) == pytest.approx(0.9, abs=0.05)
    model = PathModel(float(n), hurst=Unknown(0.5), scale=Unknown(1.0), initial_std=1e3, observed="increments")
    times = torch.arange(n, dtype=torch.float64)
    evidence = PathEvidence(model, times, x[0], torch.full((n,), 1e-4, dtype=torch.float64))
    bounds = real(-6.0, -10.0), real(6.0, 10.0)
    best = maximise(lambda p: evidence.log_posterior(p, "toeplitz"), model.start(), *bounds)[0]
    assert float(torch.sigmoid(best[0])) == pytest.approx(float(estimate.hurst[0]), abs=1e-4)


def test_reversion_is_estimated_with_the_rest():
    problem = load_problem("fou-noisy", {"observations.count": 60, "steps": 60, "hurst": 0.3})
    figures = solve(problem).meta["diagnostics"]
    assert figures["reversion_lower"] < 0.5 < figures["reversion_upper"]
    assert figures["scale_lower"] < 1.0 < figures["scale_upper"]


def test_a_changing_index_is_found():
    problem = load_problem("time-varying-hurst", {"hurst_knots": 3, "hurst_truth": "0.3 + 0.4*t", "steps": 100,
                                                  "observations.count": 100})  # fmt: skip
    posterior = solve(problem)
    figures = posterior.meta["diagnostics"]
    for i, truth in enumerate((0.3, 0.5, 0.7)):
        assert abs(figures[f"hurst_{i}"] - truth) < 3 * figures[f"hurst_{i}_std_error"]
    assert posterior.meta["coverage"]["0.9"] > 0.8


def test_missing_years_are_filled(tmp_path):
    noise = sample_fgn(40, 0.9, generator=torch.Generator().manual_seed(1), normalisation="unit")
    kept = [i for i in range(40) if i not in (10, 11, 30)]
    file = write_series(tmp_path / "gaps.csv", noise[kept], times=[1900 + i for i in kept])
    table = {"kind": "fractional-series", "observed": "increments", "forecast": 5}
    problem = sciprob.problems.registry.build_problem(table, name="gaps", data=file)
    posterior = solve(problem)
    assert posterior.space.shape == (45,)
    assert bool((posterior.std[[10, 11, 30]] > 0.1).all())
    assert float(posterior.std[kept].max()) < 0.01
    assert bool((posterior.std[40:].diff() > 0).all())


def test_a_shifted_level_is_told_from_memory(tmp_path):
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(100, dtype=torch.float64, generator=generator)
    shifted = white + 2.0 * (torch.arange(100) >= 40)
    assert float(level_shift(shifted).gain) > 14
    assert abs(int(level_shift(shifted).index) - 40) <= 3
    assert float(level_shift(shifted).size) == pytest.approx(2.0, abs=0.7)
    with pytest.warns(SciprobWarning, match="shift of the level"):
        posterior = solve(series_problem(tmp_path, shifted, "increments"))
    assert posterior.meta["diagnostics"]["hurst_without_shift"] < posterior.meta["diagnostics"]["hurst"] - 0.1


def test_long_memory_is_not_called_a_shift():
    x = sample_fgn(100, 0.8, generator=torch.Generator().manual_seed(0), shape=(60,), normalisation="unit")
    assert float((level_shift(x).gain > 14).double().mean()) < 0.05


def test_nonlinear_drifts_are_refused():
    with pytest.raises(UnsupportedProblemError, match="variational"):
        solve(load_problem("double-well-fractional", {"steps": 10}))
    problem = load_problem("fou-bridge", {"noise": "II", "steps": 10})
    assert solve(problem).meta["diagnostics"]["method"] == "markov"
    with pytest.raises(UnsupportedProblemError, match="use `markov`"):
        solve(problem, Kalman(method="dense"))


def test_resumed_equals_uninterrupted(tmp_path):
    problem = load_problem("fou-noisy", {"observations.count": 15, "steps": 15, "drift.reversion": 0.0})
    whole = solve(problem)
    stopped = tmp_path / "run"
    with pytest.raises(sciprob.errors.ConvergenceError):
        solve(problem, out=stopped, budget=1e-9)
    resumed = sciprob.resume(stopped, problem=problem, progress=False)
    assert torch.equal(resumed.mean, whole.mean)


def test_forecasts_of_simulated_paths_cover():
    """200 paths of the exact process, numbers known: 90 % bands of the future hold 90 +- 4 %."""
    sde = AffineSDE(0.2, scale=1.0)
    times = torch.arange(1, 61, dtype=torch.float64)
    paths = sample_gaussian(sde.covariance(times, times), generator=torch.Generator().manual_seed(0), shape=(200,))
    model = PathModel(60.0, hurst=0.2, normalisation="unit")
    evidence = PathEvidence(model, times[:50], paths[:, :50], torch.full((50,), 1e-3, dtype=torch.float64))
    mean, std = evidence.condition(model.start(), "dense").at(times[50:])
    inside = ((paths[:, 50:] - mean).abs() <= 1.6449 * std).double().mean()
    assert float(inside) == pytest.approx(0.9, abs=0.04)


def test_the_path_is_conditioned_once(monkeypatch):
    made, condition = [], PathEvidence.condition

    def counted(evidence, raw, method):
        made.append(method)
        return condition(evidence, raw, method)

    monkeypatch.setattr(PathEvidence, "condition", counted)
    solve(load_problem("fou-bridge"))
    assert made == ["dense"]
