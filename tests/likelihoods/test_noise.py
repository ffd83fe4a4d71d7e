"""Noise models: densities, scores, Fisher information, sampling, checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, Poisson

from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.likelihoods import GaussianNoise, InverseGamma, Likelihood, NoiseModel, PoissonCounts
from sciprob.operators import Capability, DenseMap
from sciprob.operators.fourier import Convolution
from sciprob.solvers.noise_level import updated_level
from sciprob.spaces import Space

SPACE = Space((2, 3), name="y")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_root() -> DenseMap:
    return DenseMap(torch.eye(6, dtype=torch.float64) + 0.3 * numbers(6, 6, seed=1), Space((6,), name="xi"), SPACE)


def circulant_root() -> Convolution:
    column = torch.zeros(2, 3, dtype=torch.float64)
    column[0, 0], column[0, 1], column[0, 2], column[1, 0] = 1.0, 0.3, 0.3, 0.2
    return Convolution.square_root(SPACE, column)


STD = torch.tensor([[0.5, 1.0, 2.0], [0.7, 0.3, 1.5]], dtype=torch.float64)
GAUSSIANS = {
    "number": lambda: GaussianNoise(SPACE, 0.5),
    "row": lambda: GaussianNoise(SPACE, STD[0]),
    "correlated": lambda: GaussianNoise(SPACE, STD, root=dense_root()),
    "circulant": lambda: GaussianNoise(SPACE, STD, root=circulant_root()),
    "unknown level": lambda: GaussianNoise(SPACE, STD, root=dense_root(), level=InverseGamma(2.5, 1.7)),
}
POISSONS = {
    "counts": lambda: PoissonCounts(SPACE, 50.0),
    "background": lambda: PoissonCounts(SPACE, 40 * STD, background=3.0),
}
ALL = GAUSSIANS | POISSONS


def covariance(noise: GaussianNoise) -> Tensor:
    """Dense covariance at level 1, from its definition."""
    root = torch.eye(6, dtype=torch.float64) if noise.root is None else noise.root.to_dense()
    factor = noise.std.expand(SPACE.shape).reshape(-1, 1) * root
    return factor @ factor.T


@pytest.fixture(params=ALL)
def noise(request: Any) -> Any:
    return ALL[request.param]()


@pytest.mark.parametrize("name", ["number", "row", "correlated", "circulant"])
def test_gaussian_density(name: str) -> None:
    noise = GAUSSIANS[name]()
    clean, y = numbers(2, 3, seed=2), numbers(4, 2, 3, seed=3)
    expected = MultivariateNormal(clean.flatten(), covariance(noise)).log_prob(y.flatten(1))
    torch.testing.assert_close(noise.log_prob(clean, y), expected, rtol=1e-12, atol=0)


def test_student_density_is_the_integral_over_the_level() -> None:
    noise = GAUSSIANS["unknown level"]()
    clean, y = numbers(2, 3, seed=2), numbers(2, 3, seed=3)

    def integrand(log_level: float) -> float:
        level = torch.tensor(math.exp(log_level), dtype=torch.float64)
        given = MultivariateNormal(clean.flatten(), level * covariance(noise)).log_prob(y.flatten())
        return math.exp(float(given + noise.level.log_prob(level)) + log_level)

    expected, _ = integrate.quad(integrand, -12, 12, epsabs=0, epsrel=1e-11, limit=200)
    assert float(noise.log_prob(clean, y)) == pytest.approx(math.log(expected), rel=1e-10)


def test_inverse_gamma_is_normalised_with_its_moments() -> None:
    level = InverseGamma(3.5, 1.2)

    def moment(power: int) -> float:
        density = lambda u: math.exp(float(level.log_prob(torch.tensor(math.exp(u), dtype=torch.float64))) + u)  # noqa: E731
        return integrate.quad(lambda u: math.exp(power * u) * density(u), -15, 15, epsrel=1e-10, limit=200)[0]

    assert moment(0) == pytest.approx(1.0, rel=1e-9)
    assert moment(1) == pytest.approx(level.mean, rel=1e-6)
    assert moment(-1) == pytest.approx(level.precision, rel=1e-9)
    grid = torch.linspace(0.5, 1.5, 2001, dtype=torch.float64) * level.mode
    assert float(grid[level.log_prob(grid).argmax()]) == pytest.approx(level.mode, rel=1e-3)
    draws = level.sample((200_000,), torch.zeros((), dtype=torch.float64), torch.Generator().manual_seed(0))
    assert float(draws.mean()) == pytest.approx(level.mean, rel=0.01)


@pytest.mark.parametrize("name", POISSONS)
def test_poisson_density(name: str) -> None:
    noise = POISSONS[name]()
    clean = 0.3 * numbers(5, 2, 3, seed=2)
    intensity, background = noise.log_intensity.exp(), noise.log_background.exp()
    rate = intensity * torch.exp(-clean) + background
    y = torch.poisson(rate, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(noise.log_prob(clean, y), Poisson(rate).log_prob(y).sum((1, 2)), rtol=1e-12, atol=0)


def test_poisson_survives_opaque_and_absent_objects() -> None:
    noise = PoissonCounts(Space((4,)), 1e4)
    clean = torch.tensor([0.0, 50.0, 900.0, -20.0], dtype=torch.float64)
    y = torch.tensor([1e4, 0.0, 0.0, 4.85e12], dtype=torch.float64)
    for result in (noise.log_prob(clean, y), noise.score(clean, y), noise.whiten(clean, clean)):
        assert bool(torch.isfinite(result).all())


def test_score_is_the_gradient(noise: Any) -> None:
    clean = (0.3 * numbers(3, 2, 3, seed=4)).requires_grad_()
    y = noise.sample(clean.detach(), generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(noise.log_prob(clean, y).sum(), clean)
    torch.testing.assert_close(noise.score(clean.detach(), y), gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["number", "row", "correlated", "circulant"])
def test_gaussian_weights_are_the_hessian(name: str) -> None:
    noise = GAUSSIANS[name]()
    clean, y = numbers(2, 3, seed=5), numbers(2, 3, seed=6)
    hessian = -torch.func.hessian(lambda f: noise.log_prob(f, y))(clean).reshape(6, 6)
    basis = torch.eye(6, dtype=torch.float64).reshape(6, 2, 3)
    weights = noise.whiten_adjoint(clean, noise.whiten(clean, basis)).reshape(6, 6)
    torch.testing.assert_close(weights, hessian, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", POISSONS)
def test_poisson_weights_are_the_expected_hessian(name: str) -> None:
    """The expectation over counts is a finite sum: -d2/df2 log p is linear in y, so E y = lambda suffices."""
    noise = POISSONS[name]()
    clean = 0.3 * numbers(2, 3, seed=5)
    rate = noise.log_intensity.exp() * torch.exp(-clean) + noise.log_background.exp()
    hessian = -torch.func.hessian(lambda f: noise.log_prob(f, rate))(clean).reshape(6, 6)
    basis = torch.eye(6, dtype=torch.float64).reshape(6, 2, 3)
    weights = noise.whiten_adjoint(clean, noise.whiten(clean, basis)).reshape(6, 6)
    torch.testing.assert_close(weights, hessian, rtol=1e-10, atol=1e-10)


def test_fisher_information_is_the_covariance_of_the_score() -> None:
    """Over simulated data, within six standard errors, for every known level."""
    n = 40_000
    for make in [v for k, v in ALL.items() if k != "unknown level"]:
        noise = make()
        clean = 0.2 * numbers(2, 3, seed=7)
        y = noise.sample(clean.expand(n, 2, 3), generator=torch.Generator().manual_seed(2))
        score = noise.score(clean, y).flatten(1)
        basis = torch.eye(6, dtype=torch.float64).reshape(6, 2, 3)
        fisher = noise.whiten_adjoint(clean, noise.whiten(clean, basis)).reshape(6, 6)
        products = score.unsqueeze(2) * score.unsqueeze(1)
        band = 6 * products.std(0) / math.sqrt(n)
        assert bool(((products.mean(0) - fisher).abs() <= band).all())
        assert bool((score.mean(0).abs() <= 6 * score.std(0) / math.sqrt(n)).all())


def test_whiten_is_adjoint_to_whiten_adjoint(noise: Any) -> None:
    clean, v = 0.2 * numbers(2, 3, seed=8), numbers(2, 3, seed=9)
    white = noise.whiten(clean, v)
    w = numbers(*white.shape, seed=10)
    left, right = (white * w).sum(), (v * noise.whiten_adjoint(clean, w)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussian_samples(name: str) -> None:
    """Covariance of draws: R, or R E s^2 for an unknown level, within six standard errors; one level for each draw."""
    noise, n = GAUSSIANS[name](), 40_000
    if noise.level is not None:
        noise.level = InverseGamma(9.0, 8.0)  # fourth moments exist, so that the band is one
    clean = numbers(2, 3, seed=11)
    draws = noise.sample(clean.expand(n, 2, 3), generator=torch.Generator().manual_seed(3)) - clean
    draws = draws.flatten(1)
    products = draws.unsqueeze(2) * draws.unsqueeze(1)
    expected = covariance(noise) * (1.0 if noise.level is None else noise.level.mean)
    assert bool(((products.mean(0) - expected).abs() <= 6 * products.std(0) / math.sqrt(n)).all())


def test_student_samples_have_the_student_distribution() -> None:
    """|C^-1 D^-1 (y - f)|^2 / n / (b / a) is F-distributed with (n, 2a) degrees of freedom."""
    from scipy.stats import f, kstest

    noise = GAUSSIANS["unknown level"]()
    clean = torch.zeros(5000, 2, 3, dtype=torch.float64)
    draws = noise.sample(clean, generator=torch.Generator().manual_seed(4))
    white = noise.whiten(clean, draws).flatten(1)
    statistic = white.square().mean(1).numpy()
    assert kstest(statistic, f(6, 5.0).cdf).pvalue > 1e-3


def test_noise_level_rounds_find_the_largest_evidence() -> None:
    """y = a x + noise with x standard normal: iterating `updated_level` reaches the maximum of p(s^2 | y)."""
    n = 40
    space, a = Space((n,)), numbers(n, 3, seed=12)
    noise = GaussianNoise(space, 1.0, level=InverseGamma(2.0, 0.1))
    y = a @ numbers(3, seed=13) + 0.4 * numbers(n, seed=14)
    level, before, rounds = 1.0, 0.0, 0
    while abs(level - before) > 1e-12:
        before, rounds = level, rounds + 1
        posterior = torch.linalg.inv(torch.eye(3, dtype=torch.float64) + a.T @ a / level)
        residual = y - a @ (posterior @ a.T @ y / level)
        informed = float((a @ posterior @ a.T).trace()) / level
        level = updated_level(noise, float(residual.square().sum()), informed)
    assert rounds < 20

    def log_evidence(level: Tensor) -> Tensor:
        marginal = MultivariateNormal(torch.zeros_like(y), a @ a.T + level * torch.eye(n, dtype=torch.float64))
        return marginal.log_prob(y) + noise.level.log_prob(level)

    slope = torch.func.grad(log_evidence)(torch.tensor(level, dtype=torch.float64))
    assert abs(float(slope)) < 1e-7


def test_level_helpers() -> None:
    noise = GAUSSIANS["unknown level"]()
    assert noise.nominal_level == pytest.approx(1.7 / 2.5)
    known = noise.at_level(0.25)
    assert known.level is None
    torch.testing.assert_close(known.std, noise.std / 2)
    with pytest.raises(ConfigError, match="NaN"):
        noise.at_level(math.nan)
    with pytest.raises(ConfigError, match="shape"):
        InverseGamma(-1.0, 1.0)


def test_batches_broadcast(noise: Any) -> None:
    clean = 0.2 * numbers(4, 1, 2, 3, seed=15)
    y = noise.sample(clean[0, 0].expand(5, 2, 3), generator=torch.Generator().manual_seed(5))
    together = noise.log_prob(clean, y)
    assert together.shape == (4, 5)
    torch.testing.assert_close(together[2, 3], noise.log_prob(clean[2, 0], y[3]), rtol=1e-12, atol=0)
    assert noise.log_prob(clean[:0], y).shape == (0, 5)


def test_single_precision(noise: Any) -> None:
    clean = 0.2 * numbers(3, 2, 3, seed=16)
    y = noise.sample(clean.float(), generator=torch.Generator().manual_seed(6))
    assert y.dtype == torch.float32
    white = noise.whiten(clean, clean)
    for name, other in (("log_prob", y), ("score", y), ("whiten", y), ("whiten_adjoint", white)):
        single, double = getattr(noise, name)(clean.float(), other.float()), getattr(noise, name)(clean, other.double())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-3)


def test_is_a_noise_model(noise: Any) -> None:
    assert isinstance(noise, NoiseModel)
    operator = DenseMap(torch.eye(6, dtype=torch.float64), Space((6,)), SPACE)
    gaussian = Capability.GAUSSIAN_NOISE in Likelihood(operator, noise).capabilities
    assert gaussian == isinstance(noise, GaussianNoise)


@pytest.mark.parametrize(
    ("std", "error", "words"),
    [
        (0.0, DataError, "positive and finite, got 0"),
        (-1.0, DataError, "got -1"),
        (math.nan, DataError, "got nan"),
        (torch.tensor([1.0, -2.0, 1.0]), DataError, "entry 1 is -2"),
        (torch.ones(2, 3).index_fill(0, torch.tensor([1]), math.inf), DataError, r"entry \(1, 0\) is inf"),
        (torch.ones(2), ShapeError, r"broadcast to \(2, 3\)"),
        (torch.ones(4, 2, 3), ShapeError, r"got \(4, 2, 3\)"),
    ],
)
def test_bad_std(std: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        GaussianNoise(SPACE, std)
    assert "`std`" in str(caught.value)


def test_bad_parameters_and_data() -> None:
    with pytest.raises(ShapeError, match="root"):
        GaussianNoise(Space((3,)), 1.0, root=dense_root())
    with pytest.raises(DataError, match="intensity"):
        PoissonCounts(SPACE, 0.0)
    with pytest.raises(DataError, match="background"):
        PoissonCounts(SPACE, 1.0, background=-1.0)
    counts, y = PoissonCounts(SPACE, 10.0), torch.ones(2, 3)
    counts.check(y)
    for bad, words in ((-1.0, r"entry \(1, 2\) is -1"), (0.5, "whole numbers"), (math.nan, "finite")):
        with pytest.raises(DataError, match=words):
            counts.check(y.index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(bad)))
    with pytest.raises(DataError, match="finite"):
        GaussianNoise(SPACE, 1.0).check(y * math.inf)
    with pytest.raises(ShapeError):
        counts.log_prob(torch.ones(3, 2), y)


def test_independent_noise_is_torch_normal() -> None:
    noise, clean = GAUSSIANS["row"](), numbers(2, 3, seed=17)
    y = numbers(2, 3, seed=18)
    expected = Normal(clean, STD[0]).log_prob(y).sum()
    assert np.isclose(float(noise.log_prob(clean, y)), float(expected), rtol=1e-13)
