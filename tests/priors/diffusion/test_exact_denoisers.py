"""Gaussian and mixture denoisers against dense formulas, quadrature, autograd and their own draws."""

import math

import pytest
import torch

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.priors.grid_matern import GridMatern
from sciprob.priors.kernels import Matern
from sciprob.priors.kronecker import KroneckerPrior
from sciprob.spaces import GridSpace, Space


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_covariance(d: int, rank: int | None = None, seed: int = 1) -> torch.Tensor:
    root = torch.randn(d, rank or d, generator=generator(seed), dtype=torch.float64)
    return root @ root.mT / d


def grid(shape: tuple[int, ...], centring: str) -> GridSpace:
    lower, upper = tuple(0.0 for _ in shape), tuple(1.0 for _ in shape)
    return GridSpace(shape, "m", lower=lower, upper=upper, centring=centring)


def priors() -> dict[str, GaussianPrior]:
    cells = grid((5, 6), "cell")
    kernel = Matern(0.3, 2.5, 0.8)
    return {
        "periodic": GridMatern(grid((6, 5), "cell"), std=1.3, length=0.2, boundary="periodic", mean=0.4),
        "periodic-3": GridMatern(grid((4, 3, 4), "cell"), std=0.7, length=0.4, boundary="periodic"),
        "neumann": GridMatern(cells, std=0.9, length=0.3, boundary="neumann"),
        "nodes": GridMatern(grid((5, 4), "node"), std=0.9, length=0.3, boundary="neumann"),
        "stationary": GridMatern(grid((7,), "cell"), std=1.0, length=0.3),
        "kronecker": KroneckerPrior(cells, [kernel, kernel], nugget=1e-4),
        "smooth": KroneckerPrior(cells, [kernel, kernel], cut=1e-2),
    }


@pytest.mark.parametrize("name", sorted(priors()))
@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_gaussian_denoiser_is_the_dense_wiener_filter(name: str, sigma: float) -> None:
    prior = priors()[name]
    denoiser = GaussianDenoiser.of_prior(prior)
    n = prior.space.size
    root = prior.root.to_dense()
    covariance, mean = root @ root.mT, prior.mean.reshape(-1)
    z = 2 * torch.randn(2, 3, *prior.space.shape, generator=generator(), dtype=torch.float64)
    gain = torch.linalg.solve(covariance + sigma**2 * torch.eye(n, dtype=torch.float64), covariance)
    expected = mean + (z.reshape(-1, n) - mean) @ gain
    assert torch.allclose(denoiser(z, sigma).reshape(-1, n), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", sorted(priors()))
def test_gaussian_density_flow_and_draws(name: str) -> None:
    denoiser, prior = GaussianDenoiser.of_prior(priors()[name]), priors()[name]
    root = prior.root.to_dense()
    covariance, n = root @ root.mT, prior.space.size
    total = covariance + 0.3**2 * torch.eye(n, dtype=torch.float64)
    z = torch.randn(3, *prior.space.shape, generator=generator(), dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(prior.mean.reshape(-1), total)
    assert torch.allclose(denoiser.log_prob(z, 0.3), law.log_prob(z.reshape(3, n)), rtol=1e-10)
    there = denoiser.flow(z, 0.3, 2.0)
    assert torch.allclose(denoiser.flow(there, 2.0, 0.3), z, atol=1e-10)
    eye = torch.eye(n, dtype=torch.float64).reshape(n, *prior.space.shape)
    matrix = (denoiser.flow(prior.mean + eye, 0.3, 2.0) - prior.mean).reshape(n, n)
    assert torch.allclose(matrix.mT @ total @ matrix, covariance + 4 * torch.eye(n, dtype=torch.float64), atol=1e-9)
    draws = denoiser.sample((4000,), generator=generator(3)).reshape(4000, n)
    scale = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - prior.mean.reshape(-1)) / scale).abs().max() < 5 / math.sqrt(4000)
    spread = torch.outer(scale, scale)
    assert ((draws.T.cov() - covariance) / spread).abs().max() < 5 * math.sqrt(2 / 4000)


def test_structure_is_used_where_the_prior_has_it() -> None:
    kinds = {name: type(GaussianDenoiser.of_prior(prior).spectrum).__name__ for name, prior in priors().items()}
    assert kinds["periodic"] == "FourierSpectrum"
    assert GaussianDenoiser.of_prior(priors()["neumann"]).spectrum.eigenvalues.shape == (5, 6)
    assert GaussianDenoiser.of_prior(priors()["nodes"]).spectrum.eigenvalues.shape == (20,)
    assert GaussianDenoiser.of_prior(priors()["smooth"]).spectrum.nullity > 0
    with pytest.raises(UnsupportedProblemError, match=r"prior\.diffusion"):
        GaussianDenoiser.of_prior(GridMatern(grid((80, 80), "node"), std=1.0, length=0.1, boundary="neumann"))


def test_singular_gaussian_at_level_zero_is_a_projection() -> None:
    denoiser = GaussianDenoiser.of_covariance(torch.diag(torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64)))
    z = torch.ones(3, dtype=torch.float64)
    assert torch.equal(denoiser(z, 0.0), torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))


def test_levels_may_differ_within_a_batch_and_dtype_follows() -> None:
    weights = torch.tensor([0.4, 0.6])
    means = torch.randn(2, 4, generator=generator(), dtype=torch.float64)
    covariances = torch.stack([random_covariance(4), random_covariance(4, seed=2)])
    for denoiser in (MixtureDenoiser(weights, means, covariances), GaussianDenoiser.of_covariance(covariances[0])):
        z = torch.randn(3, 2, 4, generator=generator(5), dtype=torch.float64)
        sigma = torch.rand(3, 2, generator=generator(6), dtype=torch.float64) + 0.1
        together = denoiser(z, sigma)
        for i in range(3):
            for j in range(2):
                assert torch.allclose(together[i, j], denoiser(z[i, j], sigma[i, j]), atol=1e-13)
        single = denoiser(z.float(), sigma.float())
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), together, atol=1e-5)


def test_mixture_of_one_is_the_gaussian() -> None:
    covariance, mean = random_covariance(5), torch.arange(5, dtype=torch.float64)
    mixture = MixtureDenoiser(torch.ones(1), mean[None], covariance[None])
    gaussian = GaussianDenoiser.of_covariance(covariance, mean)
    z = torch.randn(6, 5, generator=generator(), dtype=torch.float64)
    assert torch.allclose(mixture(z, 0.7), gaussian(z, 0.7), atol=1e-12)
    assert torch.allclose(mixture.log_prob(z, 0.7), gaussian.log_prob(z, 0.7), atol=1e-12)


def test_mixture_denoiser_is_the_posterior_mean_by_quadrature() -> None:
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[-2.0], [0.5], [3.0]], dtype=torch.float64)
    variances = torch.tensor([0.3, 0.05, 0.6], dtype=torch.float64)
    denoiser = MixtureDenoiser(weights, means, variances[:, None, None])
    x = torch.linspace(-9, 10, 40001, dtype=torch.float64)
    density = (weights * torch.exp(-((x[:, None] - means[:, 0]) ** 2) / (2 * variances)) / variances.sqrt()).sum(1)
    for sigma in (0.2, 1.0, 4.0):
        z = torch.linspace(-5, 5, 11, dtype=torch.float64)
        kernel = torch.exp(-((z[:, None] - x) ** 2) / (2 * sigma**2)) * density
        expected = (kernel * x).sum(1) / kernel.sum(1)
        assert torch.allclose(denoiser(z[:, None], sigma)[:, 0], expected, atol=1e-10)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 20.0])
def test_mixture_score_is_the_gradient_of_the_log_density(sigma: float) -> None:
    means = 2 * torch.randn(3, 4, generator=generator(), dtype=torch.float64)
    covariances = torch.stack([random_covariance(4, seed=s) for s in (1, 2, 3)])
    covariances[1] = random_covariance(4, rank=2)  # singular
    denoiser = MixtureDenoiser(torch.tensor([1.0, 2.0, 3.0]), means, covariances)
    z = (3 * torch.randn(7, 4, generator=generator(9), dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser.log_prob(z, sigma).sum(), z)
    assert torch.allclose(denoiser.score(z.detach(), sigma), gradient, rtol=1e-9, atol=1e-9)


def test_mixture_draws_have_its_moments_and_far_points_their_component() -> None:
    means = 3 * torch.randn(4, 2, generator=generator(), dtype=torch.float64)
    covariances = torch.stack([random_covariance(2, seed=s) for s in range(4)])
    denoiser = MixtureDenoiser(torch.tensor([0.1, 0.2, 0.3, 0.4]), means, covariances)
    draws = denoiser.sample((20000,), generator=generator(2))
    scale = denoiser.covariance.diagonal().sqrt()
    assert ((draws.mean(0) - denoiser.mean) / scale).abs().max() < 4.5 / math.sqrt(20000)
    assert (draws.T.cov() / denoiser.covariance - 1).abs().max() < 0.05
    counts = torch.nn.functional.one_hot(denoiser.responsibilities(draws).argmax(-1), 4).double()
    exact = denoiser.responsibilities(draws)
    error = ((exact.mean(0) - denoiser.log_weights.exp()) / (counts.std(0) / math.sqrt(20000))).abs()
    assert error.max() < 4.5
    far = torch.tensor([1e4, -1e4], dtype=torch.float64)
    assert torch.isfinite(denoiser(far, 0.1)).all()
    assert torch.equal(denoiser(draws[:5], 0.0), draws[:5])


def test_bad_input_is_refused() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    with pytest.raises(ConfigError, match="positive semi-definite"):
        GaussianDenoiser.of_covariance(-eye)
    with pytest.raises(ConfigError, match="symmetric"):
        GaussianDenoiser.of_covariance(torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ShapeError, match="square"):
        GaussianDenoiser.of_covariance(torch.ones(2, 3))
    with pytest.raises(ShapeError, match="mean and spectrum"):
        GaussianDenoiser.of_covariance(eye, torch.zeros(3))
    with pytest.raises(ConfigError, match="weights"):
        MixtureDenoiser(torch.tensor([1.0, 0.0]), torch.zeros(2, 2), torch.stack([eye, eye]))
    with pytest.raises(ShapeError, match="components"):
        MixtureDenoiser(torch.ones(2), torch.zeros(3, 2), torch.stack([eye, eye]))
    with pytest.raises(ShapeError):
        MixtureDenoiser(torch.ones(1), torch.zeros(1, 4), torch.eye(4)[None], Space((3,)))
