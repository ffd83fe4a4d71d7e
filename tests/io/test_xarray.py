"""Posteriors as DataTree and netCDF in the ArviZ schema."""

from __future__ import annotations

import json

import pytest
import torch
import xarray as xr

from sciprob.errors import ConfigError
from sciprob.io.xarray import to_datatree
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators.linear import DenseMap
from sciprob.operators.observe import PointObservation
from sciprob.posteriors import Ensemble, GaussianPosterior
from sciprob.priors.base import GaussianPrior
from sciprob.problems.problem import Info, Problem
from sciprob.spaces import GridSpace, Space


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_problem() -> Problem:
    grid = GridSpace((3, 4), "image", ("y", "x"), "1/m", lower=(0.0, 0.0), upper=(1.0, 2.0))
    root = DenseMap(randn(12, 12), codomain=grid)
    operator = PointObservation(grid, torch.tensor([[0.5, 0.5], [1.5, 0.1]], dtype=torch.float64))
    likelihood = Likelihood(operator, GaussianNoise(operator.codomain, 0.1))
    info = Info(citations=("stuart2010",))
    problem = Problem("points", GaussianPrior(torch.zeros(3, 4).double(), root), likelihood, info=info, config={"n": 3})
    return problem.simulate(torch.Generator().manual_seed(1))


def posterior_of(problem: Problem) -> GaussianPosterior:
    meta = {"problem": "points", "solver": "gaussian", "seed": 5, "status": "completed", "solves": {"forward": 2}}
    return GaussianPosterior(problem.parameter, mean=randn(3, 4, seed=2), root=problem.prior.root, meta=meta)


def test_netcdf_round_trip(tmp_path):
    problem = make_problem()
    posterior = posterior_of(problem)
    path = posterior.write(tmp_path / "posterior.nc", problem=problem, draws=50)
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        image = tree["posterior"]["image"]
        assert image.dims == ("chain", "draw", "y", "x")
        assert image.sizes == {"chain": 1, "draw": 50, "y": 3, "x": 4}
        assert image.attrs["units"] == "1/m"
        assert image.coords["x"].values.tolist() == pytest.approx([0, 2 / 3, 4 / 3, 2])
        draws = posterior.sample((1, 50), generator=torch.Generator().manual_seed(5))
        assert torch.equal(torch.from_numpy(image.values), draws)
        summary = tree["summary"]
        for name, values in {"mean": posterior.mean, "std": posterior.std, "q95": posterior.quantile(0.95)}.items():
            assert torch.equal(torch.from_numpy(summary[name].values), values)
        observed = tree["observed_data"]["y"]
        assert observed.dims == ("sensor",)
        assert torch.equal(torch.from_numpy(observed.values), problem.observed)
        assert tree["observed_data"]["x"].values.tolist() == [0.5, 1.5]  # where the sensors are
        assert torch.equal(torch.from_numpy(tree["constant_data"]["truth"].values), problem.truth)
        assert tree.attrs["solver"] == "gaussian"
        assert tree.attrs["seed"] == 5
        assert json.loads(tree.attrs["config"]) == {"n": 3}
        assert json.loads(tree.attrs["metrics"])["solves"] == {"forward": 2}
        assert "Stuart" in tree.attrs["citation"]


def test_chains_keep_their_axis():
    samples = randn(12, 2)
    tree = to_datatree(Ensemble(Space((2,), "theta", ("parameter",)), samples, chains=3))
    theta = tree["posterior"]["theta"]
    assert theta.sizes == {"chain": 3, "draw": 4, "parameter": 2}
    assert torch.equal(torch.from_numpy(theta.values).reshape(12, 2), samples)


def test_weighted_ensembles_are_resampled_and_say_so(tmp_path):
    samples = randn(400, 2)
    ensemble = Ensemble(Space((2,)), samples, log_weights=samples[:, 0], meta={"seed": 3})
    path = ensemble.write(tmp_path / "p.nc", draws=1000)
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        assert "systematic" in tree.attrs["resampled"]
        assert tree.attrs["ess"] == pytest.approx(ensemble.ess)
        assert torch.equal(torch.from_numpy(tree["sample_stats"]["log_weight"].values), samples[:, 0])
        mean = torch.from_numpy(tree["posterior"]["m"].mean(("chain", "draw")).values)
        torch.testing.assert_close(mean, ensemble.mean, atol=0.02, rtol=0)
        torch.testing.assert_close(torch.from_numpy(tree["summary"]["mean"].values), ensemble.mean)


def test_stored_draws_are_written_once_each():
    space = Space((2,))
    posterior = GaussianPosterior(space, mean=torch.zeros(2).double(), draws=randn(30, 2))
    values = torch.from_numpy(posterior.to_xarray()["posterior"]["m"].values)
    assert values.shape == (1, 30, 2)
    assert len(values[0].unique(dim=0)) == 30


def test_scalar_and_large_fields():
    assert Ensemble(Space(()), randn(8)).to_xarray()["posterior"]["m"].dims == ("chain", "draw")
    space = Space((1 << 18,))
    posterior = GaussianPosterior(space, mean=torch.zeros(1 << 18), draws=torch.zeros(2, 1 << 18))
    assert posterior.to_xarray()["posterior"].sizes["draw"] == 2


def test_an_axis_called_draw_is_refused():
    with pytest.raises(ConfigError, match="other names"):
        Ensemble(Space((2,), dims=("draw",)), randn(5, 2)).to_xarray()


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.nc or \.vtu"):
        Ensemble(Space((2,)), randn(5, 2)).write(tmp_path / "m.npz")


def test_arviz_reads_it(tmp_path):
    az = pytest.importorskip("arviz")
    space = Space((3,), "theta", ("parameter",), coords={"parameter": torch.arange(3.0)})
    samples = randn(4 * 200, 3)
    path = Ensemble(space, samples, chains=4).write(tmp_path / "p.nc")
    tree = az.from_netcdf(path)
    table = az.summary(tree, round_to="none")
    assert list(table.index) == ["theta[0.0]", "theta[1.0]", "theta[2.0]"]
    assert table["mean"].to_list() == pytest.approx(samples.mean(0).tolist())
    ess = az.ess(tree)["theta"].values
    assert bool(((ess > 400) & (ess < 1600)).all())  # independent draws
    assert az.rhat(tree)["theta"].values == pytest.approx(1.0, abs=0.02)
