"""Networks, what surrounds them, and averages of their weights."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.priors.diffusion.ema import power_exponent, update_average
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.mlp import MLPShape, ResidualMLP
from sciprob.priors.diffusion.preconditioning import GaussianPreconditioning, NetworkDenoiser, Preconditioning
from sciprob.priors.diffusion.spectral_prior import CosineSpectrum, SpectralPrior
from sciprob.priors.diffusion.spectrum import FourierSpectrum, cosine_basis
from sciprob.priors.diffusion.training import Training
from sciprob.priors.diffusion.unet import UNet, UNetShape, channels_to_points, initialise, points_to_channels
from sciprob.spaces import Space


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def awake(network: torch.nn.Module) -> torch.nn.Module:
    """All weights drawn, also those that start at zero."""
    generator = seeded(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return network


@pytest.mark.parametrize("grid", [(16,), (16, 8), (8, 8, 16)])
@pytest.mark.parametrize("stem", [1, 2])
def test_unet_keeps_the_shape_and_starts_at_zero(grid: tuple[int, ...], stem: int) -> None:
    shape = UNetShape(width=8, factors=(1, 2), stem=stem, coordinates=True)
    network = initialise(UNet(grid, shape), seeded())
    x = torch.randn(3, *grid, generator=seeded(2))
    level = torch.tensor([-2.0, 0.0, 3.0])
    assert network(x, level).abs().max() == 0
    awake(network)
    value = network(x, level)
    assert value.shape == x.shape
    assert torch.allclose(network(x[1:2], level[1:2]), value[1:2], atol=1e-5)  # members do not see each other
    value.square().sum().backward()
    assert all(w.grad is not None and float(w.grad.abs().max()) > 0 for w in network.parameters())


@pytest.mark.parametrize("padding", ["circular", "zeros"])
def test_circular_padding_makes_the_network_commute_with_shifts(padding: str) -> None:
    network = awake(UNet((16, 16), UNetShape(width=8, factors=(1, 2), padding=padding)))  # type: ignore[arg-type]
    x, level = torch.randn(1, 16, 16, generator=seeded()), torch.zeros(1)
    with torch.no_grad():
        moved = network(x.roll((2, 6), (1, 2)), level)  # multiples of the coarsest cell
        difference = float((moved - network(x, level).roll((2, 6), (1, 2))).abs().max() / moved.abs().max())
    assert (difference < 1e-5) == (padding == "circular")


def test_points_become_channels_and_come_back() -> None:
    for grid in ((12,), (4, 6), (4, 2, 6)):
        x = torch.randn(2, *grid, generator=seeded())
        channels = points_to_channels(x, 2)
        assert channels.shape == (2, 2 ** len(grid), *(n // 2 for n in grid))
        assert torch.equal(channels_to_points(channels, 2), x)
    x = torch.arange(16.0).reshape(1, 4, 4)
    assert points_to_channels(x, 2)[0, :, 0, 0].tolist() == [0, 1, 4, 5]


def test_wrong_shapes_of_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="divisible by 8"):
        UNet((20, 16), UNetShape(width=8, factors=(1, 2), stem=4))
    with pytest.raises(ConfigError, match="multiple of 8"):
        UNetShape(width=12)
    with pytest.raises(ConfigError, match="at least 1"):
        UNetShape(factors=())
    with pytest.raises(ConfigError, match="even width"):
        MLPShape(width=5)


@pytest.mark.parametrize("level", [0.02, 0.5, 3.0, 40.0])
def test_targets_have_mean_square_one(level: float) -> None:
    x = 1.5 + 0.7 * torch.randn(400, 50, generator=seeded(), dtype=torch.float64)
    z = x + level * torch.randn(x.shape, generator=seeded(1), dtype=torch.float64)
    sigma = torch.full((400, 1), level, dtype=torch.float64)
    pre = Preconditioning(1.5, 0.7)
    band = 5 * math.sqrt(2 / x.numel())
    assert abs(float(pre.target(x, z, sigma).square().mean()) - 1) < band
    assert abs(float(pre.network_input(z, sigma).square().mean()) - 1) < band


@pytest.mark.parametrize("level", [0.02, 0.5, 3.0])
def test_control_variate_is_exact_before_training_and_scales_targets(level: float) -> None:
    space = Space((8, 8))
    spectrum = FourierSpectrum((8, 8), torch.rand(8, 5, generator=seeded(), dtype=torch.float64) ** 3)
    gaussian = GaussianDenoiser(space, torch.randn(8, 8, generator=seeded(1), dtype=torch.float64), spectrum)
    network = initialise(UNet((8, 8), UNetShape(width=8, factors=(1, 2))), seeded())
    denoiser = NetworkDenoiser(space, network, GaussianPreconditioning(gaussian))
    x = gaussian.sample((2000,), generator=seeded(2))
    z = x + level * torch.randn(x.shape, generator=seeded(3), dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(denoiser(z[:5], level), gaussian(z[:5], level))
    sigma = torch.full((2000, 1, 1), level, dtype=torch.float64)
    target = denoiser.preconditioning.target(x, z, sigma)
    assert abs(float(target.square().mean()) - 1) < 5 * math.sqrt(2 / 2000)  # a few modes dominate


def test_network_denoiser_keeps_dtype_and_the_clean_limit() -> None:
    network = awake(ResidualMLP(4, MLPShape(width=16, blocks=2)))
    denoiser = NetworkDenoiser(Space((4,)), network, Preconditioning(0.0, 1.0))
    z = torch.randn(6, 4, generator=seeded(), dtype=torch.float64)
    with torch.no_grad():
        assert denoiser(z, 0.3).dtype == torch.float64
        assert denoiser(z.float(), 0.3).dtype == torch.float32
        assert torch.allclose(denoiser(z, 0.3).float(), denoiser(z.float(), 0.3), atol=1e-5)
        assert torch.equal(denoiser(z, 0.0), z)
    assert ResidualMLP(4, MLPShape()).embedding.frequencies.shape == (64,)
    with pytest.raises(ConfigError, match="positive"):
        Preconditioning(0.0, 0.0)


def test_power_average_has_the_asked_width() -> None:
    for width in (0.05, 0.1, 0.2):
        exponent, steps = power_exponent(width), 4000
        first, second = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        for step in range(1, steps + 1):
            t = torch.tensor([step / steps], dtype=torch.float64)
            update_average([first, second], [t, t.square()], step, exponent)
        assert abs(float((second - first.square()).sqrt()) - width) < 2e-3 * width + 2 / steps
        assert abs(float(first) - (exponent + 1) / (exponent + 2)) < 2 / steps
    with pytest.raises(ConfigError, match=r"0 and 0\.28"):
        power_exponent(0.3)


def test_noise_levels_are_stratified_and_log_normal() -> None:
    training = Training(log_level=0.5, log_spread=1.2, smallest=1e-6, largest=1e6)
    logs = training.noise_levels(4096, seeded()).log().double().sort().values
    place = torch.distributions.Normal(0.5, 1.2).cdf(logs)
    strata = torch.arange(4096, dtype=torch.float64) / 4096
    assert bool((place > strata - 1e-4).all())
    assert bool((place < strata + 1 / 4096 + 1e-4).all())
    clipped = Training(log_spread=3.0, smallest=0.1, largest=2.0).noise_levels(256, seeded())
    assert float(clipped.min()) >= 0.1
    assert float(clipped.max()) <= 2.0


def test_rates_warm_up_and_end_at_zero() -> None:
    training = Training(steps=100, warm_up=10, rate=1.0)
    rates = [training.learning_rate(step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == 1.0
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert all(after <= before for before, after in itertools.pairwise(rates[9:]))
    for wrong in ({"batch": 3, "noisings": 2}, {"rate": 0.0}, {"smallest": 2.0, "largest": 1.0}, {"average": 0.5}):
        with pytest.raises(ConfigError):
            Training(**wrong)  # type: ignore[arg-type]


def dense_cosine(low: Tensor, variances: Tensor, block: int) -> Tensor:
    """C of a `CosineSpectrum`, built entry by entry."""
    n, m = variances.shape
    basis = torch.einsum("ik,jl->ijkl", cosine_basis(n), cosine_basis(m)).reshape(n * m, n * m)
    inner = torch.diag(variances.reshape(-1))
    index = (torch.arange(block)[:, None] * m + torch.arange(block)).reshape(-1)
    inner[index[:, None], index] = low
    return basis @ inner @ basis.T


def test_cosine_spectrum_is_the_matrix_it_says() -> None:
    variances = torch.rand(6, 5, generator=seeded(), dtype=torch.float64) + 0.1
    root = torch.randn(9, 9, generator=seeded(1), dtype=torch.float64)
    low = root @ root.T + torch.eye(9)
    spectrum = CosineSpectrum(variances, low)
    covariance = dense_cosine(low, variances, 3)
    prior = SpectralPrior(Space((6, 5)), torch.zeros(6, 5, dtype=torch.float64), spectrum)
    assert torch.allclose(prior.covariance.to_dense(dtype=torch.float64), covariance, atol=1e-12)
    eigenvalues = torch.linalg.eigvalsh(covariance)
    assert torch.allclose(spectrum.eigenvalues.reshape(-1).sort().values, eigenvalues, atol=1e-12)
    z = torch.randn(2, 6, 5, generator=seeded(2), dtype=torch.float64)
    wiener = torch.linalg.solve(covariance + 0.49 * torch.eye(30), covariance @ z.reshape(2, 30, 1))
    assert torch.allclose(GaussianDenoiser.of_prior(prior)(z, 0.7), wiener.reshape(2, 6, 5), atol=1e-12)
    assert torch.allclose(prior.root.solve(prior.root(z)), z, atol=1e-12)
    with pytest.raises(ShapeError, match="square"):
        CosineSpectrum(variances, torch.eye(8))
