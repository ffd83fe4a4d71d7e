"""Amortised maps in use: shapes, batches, chunks, warnings, files, inference; and the surrogate's contract."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rgnp_cases import seeded, trained

import sciprob
from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators.base import ForwardOperator
from sciprob.priors import DistributionPrior
from sciprob.problems.problem import Problem
from sciprob.solvers.rgnp import Amortised
from sciprob.solvers.rgnp import process as process_module
from sciprob.solvers.rgnp.amortised import OutsideBoxWarning
from sciprob.solvers.rgnp.calibration import ErrorScale
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.observation_map import ObservationSettings
from sciprob.testing import OperatorConformance


def draw(model: Amortised, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(seed)
    return model.family.unknown.sample(n, generator), model.family.known.sample(n, generator)


def line(n: int = 21) -> torch.Tensor:
    return torch.linspace(-1, 1, n, dtype=torch.float64).unsqueeze(-1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of several threads may be split in another way in another process, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_means_take_any_batch_and_the_dtype_of_the_parameters() -> None:
    model = trained()
    z, w = draw(model, 6)
    whole = model.mean(z.reshape(2, 3, 5), w.reshape(2, 3, 1), line())
    assert whole.shape == (2, 3, 21, 1)
    assert torch.allclose(whole[1, 2], model.mean(z[5], w[5], line()), rtol=1e-12)
    own_points = line().expand(6, -1, -1) * torch.linspace(0.1, 1, 6).double()[:, None, None]
    assert torch.allclose(model.mean(z, w, own_points)[3], model.mean(z[3], w[3], own_points[3]), rtol=1e-12)
    assert model.mean(z[:0], w[:0], line()).shape == (0, 21, 1)
    assert model.mean(z, w, line(21)[:0]).shape == (6, 0, 1)
    single = model.mean(z.float(), w.float(), line())
    assert single.dtype == torch.float32
    assert (single.double() - model.mean(z, w, line())).abs().max() < 1e-5
    assert model.network.layers[0].weight.dtype == torch.float64


def test_chunks_do_not_change_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    model = trained()
    z, w = draw(model, 5)
    whole = model.mean(z, w, line())
    for size in (1, 7, 50):
        monkeypatch.setattr(process_module, "_AT_ONCE", size)
        assert torch.allclose(model.mean(z, w, line()), whole, rtol=1e-12, atol=1e-15)


def test_a_million_points_take_less_than_two_gigabytes() -> None:
    script = """
import re, torch
from pathlib import Path
from rgnp_cases import seeded, trained
model = trained(steps=2, cases=0)
z, w = model.family.unknown.sample(1, seeded())[0], model.family.known.sample(1, seeded())[0]
u = model.mean(z.float(), w.float(), torch.linspace(-1, 1, 1_000_000).unsqueeze(-1))
assert u.shape == (1_000_000, 1)
# the peak of this program; the one of `getrusage` begins with that of the process that started it
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())
assert int(peak[1]) < 2e6
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parent)


def test_predictions_satisfy_conditions_exactly_and_know_it() -> None:
    model = trained()
    z, w = draw(model, 1)
    law = model.predict(z[0], w[0], line())
    assert law.space.shape == (21, 1)
    assert law.mean[[0, -1]].abs().max() < 1e-15
    assert law.std[[0, -1]].max() < 1e-15
    assert law.std[1:-1].min() > 0
    assert torch.allclose(law.std, model.std(z[0], w[0], line()), rtol=1e-8, atol=1e-16)
    assert torch.equal(law.mean, model.mean(z[0], w[0], line()))
    assert model.scale != ErrorScale()


def test_uncertainty_is_no_variance_floor() -> None:
    """It differs by far more than any floor between members of the family, and goes to zero at walls."""
    model = trained()
    z, w = draw(model, 30, seed=2)
    spread = torch.stack([model.std(a, b, line(9)).mean() for a, b in zip(z, w, strict=True)])
    assert spread.max() > 2 * spread.min()


def test_residuals_say_how_well_the_equation_is_solved() -> None:
    model, poor = trained(), trained(steps=2, cases=0)
    z, w = draw(model, 8)
    residual, worse = (m.residual(z, w, line(30)[1:-1])["poisson"] for m in (model, poor))
    assert residual.shape == (8, 28)
    assert residual.square().mean() < 0.01 * worse.square().mean()


def test_fields_of_systems_are_joint() -> None:
    model = trained("cavity-family", steps=2, cases=0)
    generator = seeded()
    z, w = model.family.unknown.sample(1, generator)[0], model.family.known.sample(1, generator)[0]
    x = model.family.domain.sample(4, generator)
    law = model.predict(z, w, x)
    assert law.space.shape == (4, 3)
    covariance = law.covariance().reshape(4, 3, 4, 3)
    assert covariance[0, 0, 0, 2].abs() > 0  # u and p at one point
    pressure = law.mean[:, 2:] + 0.5
    given = model.condition(x, pressure, 1e-3, z, w, fields=("p",))
    assert (given.mean[:, 2:] - pressure).abs().max() < 0.1
    assert bool((given.std[:, 0] < law.std[:, 0]).all())
    with pytest.raises(ConfigError, match="no field `q`"):
        model.condition(x, pressure, 1e-3, z, w, fields=("q",))


def test_outside_of_box_or_domain_one_is_told() -> None:
    model = trained()
    z, w = draw(model, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.mean(z, w, line())
    with pytest.warns(OutsideBoxWarning, match="50 % of the parameters"):
        model.mean(torch.stack([z[0], 2 + z[1]]), w, line())
    with pytest.warns(OutsideBoxWarning, match="'forcing'") as caught:
        model.predict(z[0], 9 + w[0], line())
    assert caught[0].filename == __file__
    with pytest.raises(DataError, match=r"point 1 \[1.5\] does not"):
        model.predict(z[0], w[0], torch.tensor([[0.0], [1.5]], dtype=torch.float64))
    with pytest.raises(ShapeError, match="loop over them"):
        model.predict(z, w, line())
    with pytest.raises(ShapeError, match="should be"):
        model.condition(line(), torch.zeros(3, 1), 0.1, z[0], w[0])
    with pytest.raises(DataError, match="noise positive"):
        model.condition(line(), torch.zeros(21, 1), 0.0, z[0], w[0])


@pytest.mark.usefixtures("one_thread")
def test_a_fresh_process_loads_the_same_map_bit_for_bit(tmp_path: Path) -> None:
    model = trained()
    model.save(tmp_path / "map")
    z, w = draw(model, 1)
    torch.save({"z": z[0], "w": w[0]}, tmp_path / "at.pt")
    script = """
import sys, torch, sciprob
torch.set_num_threads(1)
folder = sys.argv[1]
at = torch.load(folder + "/at.pt", weights_only=True)
model = sciprob.load_amortised(folder + "/map")
x = torch.linspace(-1, 1, 21, dtype=torch.float64).unsqueeze(-1)
law = model.predict(at["z"], at["w"], x)
draw = law.sample(generator=torch.Generator().manual_seed(1))
torch.save({"mean": law.mean, "std": law.std, "draw": draw}, folder + "/found.pt")
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    law = model.predict(z[0], w[0], line())
    assert torch.equal(found["mean"], law.mean)
    assert torch.equal(found["std"], law.std)
    assert torch.equal(found["draw"], law.sample(generator=torch.Generator().manual_seed(1)))
    again = Amortised.load(tmp_path / "map")
    assert (again.scale, again.meta["calibration_cases"]) == (model.scale, 10)


def test_damaged_or_foreign_files_are_refused(tmp_path: Path) -> None:
    model = trained()
    folder = model.save(tmp_path / "map")
    with pytest.raises(DataError, match="no readable model"):
        Amortised.load(tmp_path)
    (tensors,) = folder.glob("*.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    with pytest.raises(DataError, match="sha256"):
        Amortised.load(folder)
    model.save(folder)
    words = json.loads((folder / "model.json").read_text())
    del words["family"]["kind"]
    (folder / "model.json").write_text(json.dumps(words))
    with pytest.raises(ConfigError, match="family=family"):
        Amortised.load(folder)
    assert Amortised.load(folder, model.family).scale == model.scale
    with pytest.raises(ConfigError, match="its own family"):
        Amortised.load(folder, sciprob.load_family("burgers-family"))


class TestSurrogate(OperatorConformance):
    """The surrogate as a forward operator."""

    def make(self) -> tuple[ForwardOperator, torch.Tensor]:
        model = trained()
        return model.operator(line(7), torch.tensor([1.3], dtype=torch.float64)), 0.3 * torch.ones(5).double()

    def test_it_is_the_mean_and_leaves_the_map_alone(self) -> None:
        model = trained()
        z, w = draw(model, 3)
        operator = model.operator(line(7), w[0])
        assert torch.equal(operator(z), model.mean(z, w[0], line(7)))
        operator.to(torch.float32)
        assert next(model.network.parameters()).dtype == torch.float64
        assert next(model.network.parameters()).requires_grad


def noisy_problem(model: Amortised, n: int = 30, sigma: float = 0.01) -> tuple[Any, ...]:
    z, w = draw(model, 1, seed=21)
    x = model.family.domain.sample(n, seeded(22))
    clean = model.family.solve(z[0], w[0], x)
    return z[0], w[0], x, clean + sigma * torch.randn(clean.shape, generator=seeded(23), dtype=torch.float64)


def test_pcn_on_the_surrogate_agrees_with_inference_that_trusts_it_fully() -> None:
    """Without the map's own doubt both see one posterior; with it, the posterior gets wider."""
    model = trained()
    _, w, x, y = noisy_problem(model, sigma=0.05)
    box = model.family.unknown
    prior = DistributionPrior(box.space, torch.distributions.Uniform(*box.ends(x)))
    operator = model.operator(x, w)
    problem = Problem("surrogate", prior, Likelihood(operator, GaussianNoise(operator.codomain, 0.05)), data=y)
    chain = sciprob.solve(problem, sciprob.solvers.PCN(samples=200, thin=4, burn_in=200), seed=0, progress=False)
    trusting = replace(model, scale=ErrorScale((1e-9,))).infer(x, y, 0.05, w, generator=seeded(24), samples=500)
    assert ((trusting.mean - chain.mean).abs() < 0.3 * chain.std).all()
    assert ((trusting.std / chain.std - 1).abs() < 0.3).all()
    assert model.infer(x, y, 0.05, w, generator=seeded(24), samples=500).std.mean() > trusting.std.mean()
    assert sciprob.solve(problem, "laplace", seed=0, progress=False).mean.shape == (5,)


def test_inference_takes_any_number_of_points() -> None:
    model = trained()
    for n in (1, 210):
        truth, w, x, y = noisy_problem(model, n)
        posterior = model.infer(x, y, 0.01, w, generator=seeded(3), samples=100)
        assert bool(torch.isfinite(posterior.mean).all() and (posterior.std > 0).all())
        assert ((truth - posterior.mean).abs() < 4 * posterior.std).all()
    prior_std = 2 / 12**0.5
    assert posterior.std.mean() < 0.5 * prior_std


@pytest.mark.usefixtures("one_thread")
def test_a_map_saved_with_its_inverse_map_infers_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    shape = GICShape(channels=4, grid=10, lifts=2, convolutions=2, width=16)
    settings = ObservationSettings(shape=shape, batch=16, most_points=40, steps=60, rate=5e-3)
    model = trained().with_inverse(generator=seeded(5), settings=settings)
    model.save(tmp_path / "map")
    _, w, x, y = noisy_problem(model)
    torch.save({"w": w, "x": x, "y": y}, tmp_path / "data.pt")
    script = """
import sys, torch, sciprob
torch.set_num_threads(1)
folder = sys.argv[1]
at = torch.load(folder + "/data.pt", weights_only=True)
model = sciprob.load_amortised(folder + "/map")
found = model.infer(at["x"], at["y"], 0.01, at["w"], generator=torch.Generator().manual_seed(6), samples=50)
torch.save({"samples": found.samples, "weights": found.weights}, folder + "/found.pt")
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    here = model.infer(x, y, 0.01, w, generator=seeded(6), samples=50)
    assert torch.equal(found["samples"], here.samples)
    assert torch.equal(found["weights"], here.weights)
    without = trained().infer(x, y, 0.01, w, generator=seeded(6), samples=50)
    assert not torch.equal(without.samples, here.samples)  # the inverse map does take part
