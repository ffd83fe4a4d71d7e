"""Noise schedules: inverses, rates, precision at the ends; conversions of predictions; networks along a path."""

import itertools
import math

import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.conversions import PREDICTIONS, PathDenoiser, convert
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.path import (
    Cosine,
    MeanReverting,
    OptimalTransport,
    Path,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)

PATHS: dict[str, Path] = {
    "ve": VarianceExploding(),
    "vp": VariancePreserving(),
    "vp-constant": VariancePreserving(2.0, 2.0),
    "vp-zero": VariancePreserving(0.0, 10.0),
    "sub-vp": SubVariancePreserving(),
    "cosine": Cosine(),
    "trigonometric": Cosine(0.0),
    "condot": OptimalTransport(),
    "mean-reverting": MeanReverting(1.7, 0.3),
}
TIMES = torch.tensor([1e-8, 1e-5, 1e-3, 0.02, 0.1, 0.35, 0.5, 0.8, 0.97, 0.9999], dtype=torch.float64)


@pytest.mark.parametrize("name", PATHS)
def test_time_inverts_the_log_ratio(name: str) -> None:
    path = PATHS[name]
    assert torch.allclose(path.time(path.log_snr(TIMES)), TIMES, rtol=1e-12, atol=0)
    levels = torch.logspace(-6, 2, 20, dtype=torch.float64)
    assert torch.allclose(path.sigma(path.time_of_level(levels)), levels, rtol=1e-11, atol=0)


@pytest.mark.parametrize("name", PATHS)
def test_rates_are_the_derivatives(name: str) -> None:
    path = PATHS[name]
    t = TIMES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(path.log_snr(t).sum(), t)
    assert torch.allclose(path.log_snr_rate(TIMES), slope, rtol=1e-9)
    alpha = path.log_alpha(t)
    if alpha.requires_grad:
        (slope,) = torch.autograd.grad(alpha.sum(), t)
        assert torch.allclose(path.log_alpha_rate(TIMES), slope, rtol=1e-9, atol=1e-12)


def test_identities_between_signal_and_noise_keep_relative_precision_near_the_data() -> None:
    t = torch.logspace(-12, -0.01, 60, dtype=torch.float64)
    for name in ("vp", "vp-constant", "cosine", "trigonometric"):
        path = PATHS[name]
        assert torch.allclose(path.alpha(t).square() + path.beta(t).square(), torch.ones_like(t), atol=4e-16)
        # beta^2 = 1 - alpha^2 = -expm1(2 log alpha), which is good to 1e-16 / beta^2 at worst through log alpha
        assert torch.allclose(path.beta(t).square(), -torch.expm1(2 * path.log_alpha(t)), rtol=1e-13)
    total = 0.1 * t + 19.9 * t**2 / 2
    assert torch.allclose(PATHS["vp"].beta(t), (-torch.expm1(-total)).sqrt(), rtol=1e-14)
    assert torch.allclose(PATHS["sub-vp"].beta(t), -torch.expm1(-total), rtol=1e-14)
    assert torch.allclose(PATHS["trigonometric"].beta(t), (math.pi * t / 2).sin(), rtol=1e-14)
    assert torch.allclose(PATHS["condot"].beta(t), t, rtol=1e-14)
    # the naive form loses what the tests above keep
    naive = (1 - (2 * PATHS["vp"].log_alpha(t)).exp()).sqrt()
    assert ((naive / PATHS["vp"].beta(t) - 1).abs() > 1e-6).any()


def test_cosine_follows_its_definition() -> None:
    t, s = TIMES, 0.008
    angle = math.pi / 2 * (t + s) / (1 + s)
    expected = angle.cos() / math.cos(math.pi / 2 * s / (1 + s))
    assert torch.allclose(PATHS["cosine"].alpha(t), expected, rtol=1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_conversions_agree_with_the_mixing_and_invert(name: str) -> None:
    path, t = PATHS[name], torch.tensor([[0.05], [0.3], [0.6]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    data, noise = (torch.randn(3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    x = path.alpha(t) * data + path.beta(t) * noise
    time = t.clone().requires_grad_()
    mixed = (path.alpha(time) * data + path.beta(time) * noise).sum(1)
    (velocity,) = torch.autograd.grad(mixed.sum(), time)
    truth = {"data": data, "noise": noise, "score": -noise / path.beta(t)}
    truth["velocity"] = convert(noise, x, t, path, "noise", "velocity")
    assert torch.allclose(truth["velocity"].sum(1, keepdim=True), velocity, rtol=1e-9)
    for source, target in itertools.product(PREDICTIONS, repeat=2):
        there = convert(truth[source], x, t, path, source, target)
        scale = truth[target].abs().max()
        assert (there - truth[target]).abs().max() < 2e-12 * scale, (source, target)
        back = convert(there, x, t, path, target, source)
        assert (back - truth[source]).abs().max() < 1e-13 * truth[source].abs().max() * 20, (source, target)


def test_straight_path_has_the_velocity_noise_minus_data_up_to_both_ends() -> None:
    path = OptimalTransport()
    data = torch.tensor(0.7, dtype=torch.float64)
    noise = torch.tensor(-1.3, dtype=torch.float64)
    for t in (1e-9, 0.5, 1 - 1e-9):
        time = torch.tensor(t, dtype=torch.float64)
        x = path.alpha(time) * data + path.beta(time) * noise
        assert abs(convert(noise - data, x, time, path, "velocity", "data") - data) < 1e-15
        assert abs(convert(noise - data, x, time, path, "velocity", "noise") - noise) < 1e-15


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_networks_along_any_path_give_one_denoiser(name: str, prediction: str) -> None:
    path = PATHS[name]
    exact = GaussianDenoiser.of_covariance(torch.diag(torch.tensor([2.0, 0.1, 0.5], dtype=torch.float64)))
    seen = []

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append((x, t))
        time = t[:, None]
        level = path.sigma(time)
        data = exact(x / path.alpha(time), level[:, 0])
        return convert(data, x, time, path, "data", prediction)

    denoiser = PathDenoiser(exact.space, network, path, prediction)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sigma = torch.tensor([0.02, 0.5, 1.0, 4.0], dtype=torch.float64)
    assert torch.allclose(denoiser(z, sigma), exact(z, sigma), atol=1e-11)
    x, t = seen[0]
    assert torch.allclose(path.sigma(t), sigma, rtol=1e-12)
    assert torch.allclose(x, path.alpha(t)[:, None] * z, rtol=1e-14)
    assert denoiser.calls == 1


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="beta_min"):
        VariancePreserving(3.0, 1.0)
    with pytest.raises(ConfigError, match="offset"):
        Cosine(-0.1)
    with pytest.raises(ConfigError, match="rate"):
        MeanReverting(0.0)
    one = torch.ones((), dtype=torch.float64)
    with pytest.raises(ConfigError, match="epsilon"):
        convert(one, one, one, OptimalTransport(), "epsilon", "data")  # type: ignore[arg-type]
