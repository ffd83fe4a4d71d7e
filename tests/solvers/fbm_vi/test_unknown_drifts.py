"""Drifts that are networks, and diffusions that depend on the state, from problem files."""

import math

import numpy as np
import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.problems.fractional_settings import DriftSettings
from sciprob.sde.diffusions import RootDiffusion
from sciprob.sde.drifts import NetworkDrift
from sciprob.sde.path_model import PathModel
from sciprob.sde.quantities import Unknown
from sciprob.sde.simulate import simulate_path
from sciprob.solvers.fbm_vi.solver import FractionalVI

TIMES = torch.linspace(0, 2, 11, dtype=torch.float64)
ROOT = {"drift.kind": "none", "diffusion.kind": "root", "diffusion.width": "0.5", "final_time": "1.0", "steps": "10"}
ROOT |= {
    "observations.times": "[1.0]",
    "observations.values": "[1.2]",
    "observations.std": "0.3",
    "normalisation": "unit",
}


def test_a_path_with_a_diffusion_is_the_transformed_noise(monkeypatch):
    """Without a drift w asinh(x / w) is scale B (Lamperti), for any H, in the sense of Stratonovich."""
    monkeypatch.setattr("sciprob.sde.simulate._STEPS", 60)
    for hurst in (0.3, 0.7):
        paths = []
        for diffusion in (None, RootDiffusion(0.4)):
            model = PathModel(2.0, hurst=hurst, scale=0.6, normalisation="unit", initial_mean=0.2, diffusion=diffusion)
            if diffusion is None:  # the noise of the other, drawn on the same fine grid
                model = PathModel(2.0, hurst=hurst, scale=0.6, normalisation="unit", drift=NetworkDrift(1))
                values = model.values(0 * model.start())
            else:
                values = model.values(model.start())
            paths.append(simulate_path(model, values, TIMES, generator=torch.Generator().manual_seed(1), shape=(3,)))
        noise, x = paths
        start = 0.4 * math.asinh(0.2 / 0.4)
        torch.testing.assert_close(0.4 * torch.asinh(x / 0.4), start + noise, rtol=0, atol=1e-10)


@pytest.mark.parametrize("hurst", [0.35, 0.7])
def test_evidence_with_a_diffusion_is_that_of_quadrature(hurst):
    """One value at time 1: x = w sinh(B / w), an integral over one normal number."""
    problem = sciprob.load_problem("fou-bridge", overrides=ROOT | {"hurst": str(hurst)})
    found = sciprob.solve(
        problem, FractionalVI(training_steps=40, members=2000, width=8, paths=32, time_step=0.05), progress=False
    )
    figures = found.meta["diagnostics"]
    b = np.linspace(-8, 8, 20001)
    density = np.exp(-((1.2 - 0.5 * np.sinh(b / 0.5)) ** 2) / (2 * 0.3**2) - b**2 / 2) / (0.3 * 2 * math.pi)
    exact = math.log(density.sum() * (b[1] - b[0]))
    assert figures["log_evidence"] == pytest.approx(exact, abs=4 / math.sqrt(figures["ess"]))
    assert figures["elbo"] < exact
    assert figures["ess"] > 200


def test_prior_of_a_network_is_standard_normal():
    model = PathModel(1.0, normalisation="unit", drift=NetworkDrift(5, 2.0, 3.0), scale=Unknown(0.4, spread=0.5))
    raw = model.start()
    assert model.labels[:2] == ("scale", "weights_0")
    assert len(raw) == 1 + 16
    assert float(model.log_prior(raw)) == pytest.approx(-float(raw[1:].square().sum()) / 2)
    weights = {"weights": torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    x = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    a, b, c, d = (part.numpy() for part in weights["weights"].split([5, 5, 5, 1]))
    by_hand = [3 * (d[0] + (c * np.tanh(2 * a * z / 2.0 + 2 * b)).sum() / math.sqrt(5)) for z in (0.3, -1.0)]
    np.testing.assert_allclose(model.drift(x, weights)[0].numpy(), by_hand, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Only")  # paths carry the weight, after so few steps
def test_an_unknown_drift_is_learned_from_one_path():
    """Wells at -1 and 1 of a path seen often: forces point back to them, which the start b = 0 doesn't know."""
    well = {"hurst": "0.5", "scale": "1.0", "final_time": "4.0", "steps": "40", "drift.strength": "6.0", "seed": "1"}
    seen = {"observations.times": str([round(0.1 * i, 1) for i in range(1, 41)]), "observations.std": "0.05"}
    truth = sciprob.load_problem("double-well-fractional", overrides=well | seen)
    network = {"drift.kind": "network", "drift.strength": "5.0", "drift.reach": "1.0"}
    problem = sciprob.load_problem("double-well-fractional", overrides=well | seen | network).observe(truth.observed)
    bounds = []
    for steps in (0, 40):
        solver = FractionalVI(training_steps=steps, paths=4, width=4, rate=0.03, rates=4, time_step=0.1, members=100)
        found = sciprob.solve(problem, solver, progress=False).meta["diagnostics"]
        bounds.append(found["elbo"])
    assert bounds[1] > bounds[0] + 1
    x, b = torch.tensor(found["drift_curve"], dtype=torch.float64).unbind(1)
    wells = [centre for centre in (-1.0, 1.0) if bool(((truth.observed - centre).abs() < 0.3).sum() > 10)]
    assert wells
    for centre in wells:
        for side in (-0.35, 0.35):
            at = int((x - (centre + side)).abs().argmin())
            if abs(float(x[at]) - centre - side) < 0.05:
                assert float(b[at]) * side < 0


def test_refusals():
    problem = sciprob.load_problem("fou-bridge", overrides=ROOT)
    with pytest.raises(UnsupportedProblemError, match="a diffusion that depends on x"):
        sciprob.solve(problem, "kalman", progress=False)
    with pytest.raises(ConfigError, match="`diffusion` belongs to levels"):
        sciprob.load_problem("fou-bridge", overrides=ROOT | {"drift_on": "noise"})
    with pytest.raises(ConfigError, match="positive numbers `units`"):
        DriftSettings("network", reach=0.0)
    with pytest.raises(ConfigError, match="`diffusion_width` should be positive"):
        sciprob.load_problem("fou-bridge", overrides=ROOT | {"diffusion.width": "0.0"})
