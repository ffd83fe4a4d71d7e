"""The trained priors that come with the package."""

from __future__ import annotations

import pytest
import torch

from sciprob.errors import ConfigError, ShapeError
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.store import available_priors, find_prior, load_diffusion_prior
from sciprob.priors.families import ScaledFamily, make_family

# largest share of the best linear denoiser's mean square error that the network may leave, by noise level
SHARES = {
    "holes": {0.1: 0.2, 0.3: 0.2, 1.0: 0.25, 3.0: 0.5},
    "ellipses": {0.1: 0.8, 0.3: 0.6, 1.0: 0.6, 3.0: 0.75},
    "darcy": {0.1: 0.75, 0.3: 0.55, 1.0: 0.5, 3.0: 0.65},
    "vorticity": {0.1: 0.85, 0.3: 0.75, 1.0: 0.8},
}


@pytest.mark.parametrize("name", sorted(SHARES))
def test_networks_beat_the_best_linear_denoiser(name: str) -> None:
    prior = load_diffusion_prior(name)
    table = dict(find_prior(name).table["family"])
    table |= {"flows": 6, "snapshots": 2} if name == "vorticity" else {}  # all of them take a minute
    x = ScaledFamily(make_family(table)).sample(24, torch.Generator().manual_seed(11))
    assert prior.surrogate is not None
    wiener = GaussianDenoiser.of_prior(prior.surrogate)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(12))
    for level, share in SHARES[name].items():
        z = x + level * noise
        learnt = float((prior.denoiser(z, level) - x).square().mean())
        linear = float((wiener(z, level) - x).square().mean())
        assert learnt < share * linear, (level, learnt / linear)


@pytest.mark.parametrize("name", sorted(SHARES))
def test_priors_are_whole_small_and_say_what_they_are(name: str) -> None:
    file = find_prior(name)
    tensors = file.path.with_suffix(".safetensors")
    assert tensors.stat().st_size < 10e6
    prior = load_diffusion_prior(name)
    assert prior.space.shape == tuple(file.table["shape"])
    assert all(not weight.requires_grad for weight in prior.parameters())
    z = torch.randn(2, *prior.latent.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert prior.denoiser(z, 1.0).dtype == torch.float64
    family = make_family(dict(file.table["family"]))
    assert torch.allclose(prior.decode(z), family.shift + family.scale * z)
    assert file.title


def test_wrong_sizes_and_names_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"trained on fields of shape \(128, 128\), but \(64, 64\) is needed"):
        load_diffusion_prior("holes", shape=(64, 64))
    with pytest.raises(ConfigError, match="did you mean `ellipses`"):
        load_diffusion_prior("elipses")
    assert {file.name for file in available_priors()} >= set(SHARES)
