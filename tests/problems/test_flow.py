"""The flow problems: built from their files, data of finer runs, solvers against quadrature, reports."""

import importlib.util

import numpy as np
import pytest
import torch

import sciprob
from sciprob.cli import main
from sciprob.config import from_mapping
from sciprob.errors import ConfigError
from sciprob.problems.registry import WORDS, find, kind_class, load_problem
from sciprob.solvers import PCN
from sciprob.testing import adjoint_defect, taylor_orders

pytestmark = [
    pytest.mark.fem,
    pytest.mark.skipif(importlib.util.find_spec("dolfinx_solver") is None, reason="FEniCSx is not installed"),
]

# errors of the sensors large enough for coarse meshes; a solve takes a few hundredths of a second
CAVITY = {
    "inversion.cells": 6, "inversion.step": 0.25, "data.cells": 9, "data.step": 0.125, "sensors.distance": 0.25,
    "noise.velocity": 0.01, "noise.pressure": 0.1,
}  # fmt: skip
WAKE = {"times": [0.25, 0.5], "inversion.step": 0.125, "data.mesh": "cylinder", "data.step": 0.0625}


@pytest.fixture(scope="module")
def cavity():
    return load_problem("cavity", CAVITY)


@pytest.fixture(scope="module")
def laplace(cavity):
    return sciprob.solve(cavity, "laplace", progress=False)


@pytest.fixture(scope="module")
def quadrature(cavity, laplace):
    """Mean and std of the exact posterior: Gauss points in rho, equal ones across the peak in mu."""
    node, weight = np.polynomial.legendre.leggauss(7)
    rho = torch.tensor(0.9 + 0.1 * node)
    mu = laplace.mean[1] + laplace.std[1] * torch.linspace(-4.5, 4.5, 17, dtype=torch.float64)
    points = torch.cartesian_prod(rho, mu)
    with torch.no_grad():
        log = cavity.likelihood.log_prob(points, cavity.observed).reshape(7, 17)
    density = (log - log.max()).exp() * torch.tensor(weight)[:, None]
    density = (density / density.sum()).flatten()[:, None]
    mean = (density * points).sum(0)
    return mean, (density * (points - mean) ** 2).sum(0).sqrt()


def test_laplace_agrees_with_quadrature_and_covers_the_truth(cavity, laplace, quadrature):
    mean, std = quadrature
    assert ((laplace.mean - mean).abs() <= 0.25 * std).all()
    assert (laplace.std / std).sub(1).abs().max() <= 0.2
    assert ((laplace.quantile(0.05) <= cavity.truth) & (cavity.truth <= laplace.quantile(0.95))).all()


def test_pcn_agrees_with_quadrature_and_covers_the_truth(cavity, quadrature):
    posterior = sciprob.solve(cavity, PCN(chains=2, samples=75, thin=1, burn_in=20), seed=1, progress=False)
    mean, std = quadrature
    ess = posterior.meta["diagnostics"]["ess_bulk_min"]
    assert ess > 50
    assert ((posterior.mean - mean).abs() <= 3 * std / ess**0.5).all()
    assert (posterior.std / std).sub(1).abs().max() <= 3 / (2 * ess) ** 0.5
    assert ((posterior.quantile(0.025) <= cavity.truth) & (cavity.truth <= posterior.quantile(0.975))).all()


def test_data_come_from_a_finer_run(cavity):
    """Not the inversion's own: the two differ, but by less than the sensors' errors."""
    with torch.no_grad():
        coarse, fine = cavity.operator(cavity.truth), cavity.simulator.operator(cavity.truth)
    difference = ((coarse - fine) / cavity.likelihood.noise.std).square().mean().sqrt()
    assert 0.01 < float(difference) < 0.5
    residual = (cavity.observed - fine) / cavity.likelihood.noise.std
    assert 0.8 < float(residual.square().mean().sqrt()) < 1.2
    assert cavity.observed.shape == (4, 20, 3)
    again = load_problem("cavity", CAVITY)
    assert torch.equal(again.observed, cavity.observed)
    assert torch.equal(again.truth, cavity.truth)


def test_velocities_alone_leave_the_density_open():
    """The likelihood is constant along (c rho, c mu)."""
    problem = load_problem("cavity", CAVITY | {"pressure": False})
    assert problem.observed.shape == (4, 20, 2)
    scaled = torch.tensor([0.85, 0.9, 1.0], dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.5]).double()
    values = problem.likelihood.log_prob(scaled, problem.observed)
    assert (values - values[0]).abs().max() <= 1e-5
    other = problem.likelihood.log_prob(torch.tensor([1.0, 0.9]).double(), problem.observed)
    assert float((other - values[0]).abs()) > 1


def test_the_report_has_numbers_and_a_figure(cavity, laplace, tmp_path):
    numbers = cavity.report(cavity, laplace, tmp_path)
    assert (tmp_path / "flow.png").stat().st_size > 10_000
    assert numbers["sensors"] == 20
    assert 0.8 < numbers["residual_rms"] < 1.2
    assert 0 < numbers["divergence"] < 0.3


def test_the_wake_conforms():
    problem = load_problem("cylinder-wake", WAKE)
    assert problem.truth.shape == (3,)
    assert problem.observed.shape == (2, 20, 2)
    direction = torch.tensor([2e-4, 0.1, -0.1]).double()
    v = torch.randn(problem.observed.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert adjoint_defect(problem.operator, problem.truth, direction, v) <= 1e-10
    orders = taylor_orders(problem.operator, problem.truth, direction, range(3, 6))
    assert all(1.8 <= order <= 2.2 for order in orders)


@pytest.mark.parametrize("name", ["cavity", "cylinder-wake"])
def test_default_settings_equal_the_file(name):
    """A file without its optional tables has the settings of the full one."""
    table = {key: value for key, value in find(name).table.items() if key not in ("kind", *WORDS)}
    required = {key: table[key] for key in ("inversion", "data", "seed")}
    full, short = (from_mapping(kind_class(name), settings, name) for settings in (table, required))
    assert full == short


def test_laplace_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = [argument for key, value in CAVITY.items() for argument in ("--set", f"{key}={value}")]
    assert main(["solve", "cavity", "--solver", "laplace", "--out", "run", "--quiet", *settings]) == 0
    assert "residual" in (tmp_path / "run" / "metrics.json").read_text()
    assert {"flow.png", "posterior.png"} <= {path.name for path in (tmp_path / "run" / "figures").iterdir()}


@pytest.mark.parametrize(
    ("name", "overrides", "match"),
    [
        ("cavity", {"viscosity.lower": -1.0}, "0 < lower < upper"),
        ("cavity", {"noise.velocity": 0.0}, "should be positive"),
        ("cavity", {"inversion.step": 0.1}, "no multiple of the step 0.1"),
        ("cylinder-wake", {"viscosity.median": 0.0}, "`median` and `spread` should be positive"),
    ],
)
def test_bad_settings_are_refused(name, overrides, match):
    with pytest.raises(ConfigError, match=match):
        load_problem(name, overrides)


def test_a_data_file_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("x,y,value,std\n0.5,0.5,1,1\n")
    with pytest.raises(ConfigError, match=r"reads no data file.*`problem\.observe\(y\)"):
        load_problem("cavity", data=path)
