"""Training: what networks learn, and that stops and kills do not change it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.priors.diffusion.mlp import MLPShape, ResidualMLP
from sciprob.priors.diffusion.preconditioning import NetworkDenoiser, Preconditioning
from sciprob.priors.diffusion.recipes import make_recipe, recipe_from, recipe_names
from sciprob.priors.diffusion.statistics import estimate_statistics
from sciprob.priors.diffusion.store import load_diffusion_prior
from sciprob.priors.diffusion.training import DenoiserTraining, Training, load_average
from sciprob.priors.diffusion.unet import initialise
from sciprob.priors.families.gaussian_field import GaussianField
from sciprob.random import Streams
from sciprob.solvers.checkpoint import read_tensors
from sciprob.solvers.prior_training import resume_prior, train_prior
from sciprob.spaces import Space

SMALL = {
    "family.points": 8,
    "network.width": 8,
    "training.steps": 6,
    "training.batch": 8,
    "training.warm_up": 2,
    "draws": 200,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(folder: Path) -> dict[str, Tensor]:
    tensors, _ = read_tensors(folder / "checkpoint" / "state.safetensors")
    return tensors


class _Killed(Exception):
    pass


def test_stopped_and_killed_training_gives_the_same_weights(tmp_path: Path) -> None:
    recipe = make_recipe("gaussian-field", SMALL)
    whole = train_prior(recipe, seed=3, out=tmp_path / "whole", progress=False)
    assert whole.record["status"] == "max_steps"

    part = train_prior(recipe, seed=3, budget=1e-9, out=tmp_path / "parts", progress=False)
    assert part.record["status"] == "budget"
    assert part.record["steps"] == 1

    def kill(step: int, state: object, info: object) -> None:
        if step == 3:
            raise _Killed

    with pytest.raises(_Killed):
        resume_prior(tmp_path / "parts", progress=False, callbacks=[kill])
    assert resume_prior(tmp_path / "parts", budget=1e-9, progress=False).record["steps"] == 2
    resumed = resume_prior(tmp_path / "parts", progress=False)
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    z = torch.randn(2, 8, 8, generator=seeded())
    assert torch.equal(whole.prior.denoiser(z, 0.5), resumed.prior.denoiser(z, 0.5))

    other = train_prior(recipe, seed=4, progress=False)
    assert not torch.equal(whole.prior.denoiser(z, 0.5), other.prior.denoiser(z, 0.5))


def test_a_saved_prior_is_the_same_up_to_half_precision(tmp_path: Path) -> None:
    trained = train_prior(make_recipe("gaussian-field", SMALL), out=tmp_path / "run", progress=False)
    loaded = load_diffusion_prior(tmp_path / "run" / "model", shape=(8, 8))
    z = torch.randn(2, 8, 8, generator=seeded(), dtype=torch.float64)
    assert torch.allclose(loaded.denoiser(z, 0.5), trained.prior.denoiser(z, 0.5), atol=1e-3)
    assert loaded.space.shape == (8, 8)
    assert torch.allclose(loaded.surrogate.mean, trained.prior.surrogate.mean, atol=1e-6)  # type: ignore[union-attr]
    with pytest.raises(ShapeError, match=r"shape \(8, 8\), but \(16, 16\) is needed"):
        load_diffusion_prior(tmp_path / "run" / "model", shape=(16, 16))

    file = tmp_path / "run" / "model" / "prior.toml"
    with pytest.raises(ConfigError, match="no trained prior at"):
        load_diffusion_prior(tmp_path / "nothing.toml")
    tensors = file.with_suffix(".safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(DataError, match="missing or damaged"):
        load_diffusion_prior(file)
    file.write_text(file.read_text().replace("sciprob-diffusion-prior-1", "other"))
    with pytest.raises(ConfigError, match="should have the format"):
        load_diffusion_prior(file)


def test_half_precision_products_train_nearly_the_same_weights() -> None:
    recipes = [make_recipe("gaussian-field", {**SMALL, "training.precision": name}) for name in ("single", "bfloat16")]
    single, half = (train_prior(recipe, progress=False).prior.denoiser for recipe in recipes)
    z = torch.randn(2, 8, 8, generator=seeded())
    difference = (single(z, 0.5) - half(z, 0.5)).norm() / single(z, 0.5).norm()
    assert 1e-6 < float(difference) < 0.05


def test_recipes_are_tables_and_mistakes_name_the_nearest() -> None:
    for name in recipe_names():
        recipe = make_recipe(name, {"training.steps": "7"})
        assert recipe.training.steps == 7
        assert recipe_from(recipe.table(), name) == recipe
    with pytest.raises(ConfigError, match="did you mean `holes`"):
        make_recipe("hole")
    with pytest.raises(ConfigError, match="did you mean `width`"):
        make_recipe("holes", {"network.widht": "8"})
    with pytest.raises(ConfigError, match="did you mean `pixels`"):
        make_recipe("holes", {"family.pixel": "8"})


def test_folders_of_other_runs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[problem]\n")
    with pytest.raises(ConfigError, match="no training of a prior"):
        resume_prior(tmp_path)
    with pytest.raises(ConfigError, match="already holds a run"):
        train_prior("gaussian-field", out=tmp_path)


class _Mixture:
    """Draws of a mixture in the plane."""

    name = "mixture"

    def __init__(self) -> None:
        self.weights = torch.tensor([0.5, 0.3, 0.2])
        self.means = torch.tensor([[1.0, 1.0], [-1.5, 0.0], [0.5, -1.2]])
        self.std = 0.15

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        return self.means[which] + self.std * torch.randn(count, 2, generator=generator)

    def exact(self) -> MixtureDenoiser:
        covariances = self.std**2 * torch.eye(2, dtype=torch.float64).expand(3, 2, 2)
        return MixtureDenoiser(self.weights.double(), self.means.double(), covariances)


def test_a_trained_network_approaches_the_exact_denoiser_of_a_mixture() -> None:
    source = _Mixture()
    draws = source.sample(20_000, seeded()).double()
    mean, centred = draws.mean(0), draws - draws.mean(0)
    network = initialise(ResidualMLP(2, MLPShape(width=48, blocks=2)), seeded())
    std = float(centred.square().mean().sqrt())
    denoiser = NetworkDenoiser(Space((2,)), network, Preconditioning(mean, std))
    settings = Training(steps=400, batch=384, rate=5e-3, warm_up=40, log_level=-0.5, log_spread=1.0)
    method = DenoiserTraining(denoiser, settings)
    streams = Streams(0)
    state = method.init(source, streams)
    for _ in range(settings.steps):
        state, _ = method.step(source, state, streams)
    load_average(network, state)
    exact, wiener = source.exact(), GaussianDenoiser.of_covariance(centred.T @ centred / len(draws), mean)
    x = source.sample(4000, seeded(7)).double()
    with torch.no_grad():
        for level in (0.3, 0.6, 1.0):
            z = x + level * torch.randn(x.shape, generator=seeded(8), dtype=torch.float64)
            best = float((exact(z, level) - x).square().mean())
            linear = float((wiener(z, level) - x).square().mean())
            learnt = float((denoiser(z, level) - x).square().mean())
            away = float((denoiser(z, level) - exact(z, level)).square().mean())
            assert learnt < 0.8 * linear
            assert away < 0.1 * (linear - best)  # nine tenths of what linear denoising misses is learnt


def test_a_control_variate_stays_exact_on_the_gaussian_family() -> None:
    overrides = {**SMALL, "family.points": 16, "training.steps": 30, "training.rate": 3e-4, "control_variate": True}
    recipe = make_recipe("gaussian-field", {**overrides, "draws": 20_000})
    prior = train_prior(recipe, progress=False).prior
    exact = GaussianDenoiser.of_prior(recipe.family.prior)
    x = exact.sample((64,), generator=seeded(5))
    for level in (0.02, 0.1, 0.5, 1.0, 5.0):
        z = x + level * torch.randn(x.shape, generator=seeded(6), dtype=torch.float64)
        right = exact(z, level)
        assert float((prior.denoiser(z, level) - right).norm() / right.norm()) < 0.02


@pytest.mark.parametrize("periodic", [True, False])
def test_statistics_find_the_covariance_of_a_gaussian_field(periodic: bool) -> None:
    field = GaussianField(points=8).prior
    count = 4000
    found = estimate_statistics(
        lambda n, g: 0.5 + field.sample((n,), generator=g), count, seeded(), periodic=periodic, low_modes=4
    )
    exact = GaussianDenoiser.of_prior(field).spectrum.eigenvalues
    band = 6 * (2 / count) ** 0.5
    assert float((found.mean - 0.5).abs().max()) < band
    assert abs(found.std - 1) < band
    if periodic:
        assert float((found.variances / exact - 1).abs().max()) < band
        return
    prior = found.prior(field.space)
    covariance = prior.covariance.to_dense(dtype=torch.float64)
    assert abs(float(covariance.diagonal().mean()) - 1) < band
    dense = field.covariance.to_dense(dtype=torch.float64)
    assert float((covariance - dense).norm() / dense.norm()) < 0.2  # high modes of a torus are no cosines
    with pytest.raises(DataError, match="mean square"):
        estimate_statistics(lambda n, g: torch.ones(n, 4), 10, seeded(), periodic=False)
