"""Low-rank Gaussians against dense multivariate normals and dense Gaussian-process formulas."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from sciprob.errors import ShapeError
from sciprob.solvers.rgnp.low_rank import LowRankGaussian


def gaussian(*batch, n=7, k=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    mean, std = torch.randn(*batch, n, dtype=torch.float64, generator=g), torch.rand(*batch, n, generator=g).double()
    return LowRankGaussian(mean, 0.1 + std, torch.randn(*batch, n, k, dtype=torch.float64, generator=g))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize("k", [0, 1, 3, 9])
def test_density_and_entropy_equal_the_dense_normal(batch, k):
    law = gaussian(*batch, k=k)
    u = law.mean + torch.randn(law.mean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    dense = MultivariateNormal(law.mean, law.covariance())
    assert law.log_prob(u).shape == batch == law.entropy().shape
    torch.testing.assert_close(law.log_prob(u), dense.log_prob(u), atol=1e-10, rtol=1e-12)
    torch.testing.assert_close(law.entropy(), dense.entropy(), atol=1e-10, rtol=1e-12)


def test_an_empty_batch_stays_empty():
    law = gaussian(0)
    assert law.log_prob(law.mean).shape == law.entropy().shape == (0,)
    assert law.conditioned(law.mean, 0.1).mean.shape == (0, 7)


def test_without_factors_it_is_independent_and_zero_factors_change_nothing():
    law = gaussian(2, k=2)
    u = law.mean + 1
    diagonal = LowRankGaussian(law.mean, law.std, law.factors[..., :0])
    zeros = LowRankGaussian(law.mean, law.std, 0 * law.factors)
    expected = torch.distributions.Normal(law.mean, law.std).log_prob(u).sum(-1)
    torch.testing.assert_close(diagonal.log_prob(u), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(zeros.log_prob(u), expected, atol=1e-12, rtol=1e-12)


def test_sample_covariance_is_within_standard_errors():
    law, n = gaussian(n=4, k=2), 100_000
    draws = law.sample((n,), generator=torch.Generator().manual_seed(2))
    covariance = law.covariance()
    error = (torch.cov(draws.T) - covariance).abs()
    variances = covariance.diagonal()
    standard = ((torch.outer(variances, variances) + covariance**2) / n).sqrt()
    assert float((error / standard).max()) < 4  # 10 entries: exceeded once in 1,600 seeds
    assert float(((draws.mean(0) - law.mean).abs() / (variances / n).sqrt()).max()) < 4


def split(law, n):
    """The law of the first n entries and of the others."""
    first = LowRankGaussian(law.mean[..., :n], law.std[..., :n], law.factors[..., :n, :])
    return first, LowRankGaussian(law.mean[..., n:], law.std[..., n:], law.factors[..., n:, :])


@pytest.mark.parametrize("noise", [1e-3, 0.3, 50.0])
def test_conditioning_equals_the_dense_formula_at_new_and_at_measured_points(noise):
    law, n = gaussian(3, n=9, k=4), 5
    data, others = split(law, n)
    y = data.mean + torch.randn(data.mean.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    prior = law.covariance()
    gain = prior[..., :n] @ torch.linalg.inv(prior[..., :n, :n] + noise**2 * torch.eye(n, dtype=torch.float64))
    mean = law.mean + (gain @ (y - data.mean)[..., None])[..., 0]
    covariance = prior - gain @ prior[..., :n, :]
    new, measured = others.given(data.latents_given(y, noise)), data.conditioned(y, noise)
    torch.testing.assert_close(new.mean, mean[..., n:], atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(new.covariance(), covariance[..., n:, n:], atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(measured.mean, mean[..., :n], atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(measured.covariance(), covariance[..., :n, :n], atol=1e-8, rtol=1e-8)


def test_more_data_never_raise_a_marginal_variance_and_exact_data_are_interpolated():
    law = gaussian(n=12, k=5, seed=4)
    data, others = split(law, 8)
    y = data.sample(generator=torch.Generator().manual_seed(5))
    before = others.variance
    for n in range(1, 9):
        some, _ = split(data, n)
        after = others.given(some.latents_given(y[:n], 0.1)).variance
        assert bool((after <= before + 1e-13).all())
        before = after
    assert bool((data.conditioned(y, 1e-8).mean - y).abs().max() < 1e-6)
    tight = LowRankGaussian(data.mean, torch.full_like(data.std, 1e-5), data.factors)
    through = tight.given(tight.latents_given(tight.factors @ torch.ones(5, dtype=torch.float64) + tight.mean, 1e-6))
    torch.testing.assert_close(through.mean, tight.mean + tight.factors.sum(-1), atol=1e-4, rtol=0)


def test_affine_maps_and_noise_act_on_the_covariance():
    law, generator = gaussian(2), torch.Generator().manual_seed(6)
    shift, scale = torch.randn(2, 2, 7, dtype=torch.float64, generator=generator)
    moved = law.affine(shift, scale)
    torch.testing.assert_close(moved.mean, shift + scale * law.mean)
    torch.testing.assert_close(moved.covariance(), scale[:, :, None] * law.covariance() * scale[:, None, :])
    torch.testing.assert_close(moved.noisy(0.7).covariance(), moved.covariance() + 0.49 * torch.eye(7).double())
    torch.testing.assert_close(moved.variance, moved.covariance().diagonal(dim1=-2, dim2=-1))


def test_where_the_field_is_prescribed_only_the_noise_is_left():
    law = gaussian(n=5)
    pinned = law.affine(torch.full((5,), 2.0).double(), torch.zeros(5).double())
    y = torch.linspace(1, 3, 5).double()
    expected = torch.distributions.Normal(2 * torch.ones_like(y), 0.05).log_prob(y).sum()
    torch.testing.assert_close(pinned.noisy(0.05).log_prob(y), expected, atol=1e-10, rtol=1e-12)


@pytest.mark.parametrize("k", [0, 3])
def test_solve_inverts_the_covariance(k):
    law = gaussian(2, k=k)
    v = law.sample(generator=torch.Generator().manual_seed(8))
    torch.testing.assert_close((law.covariance() @ law.solve(v)[..., None])[..., 0], v, atol=1e-10, rtol=1e-10)


def test_infinite_noise_takes_all_gradients_away():
    law = gaussian()
    parts = [tensor.clone().requires_grad_() for tensor in (law.mean, law.std, law.factors)]
    sizes = []
    for noise in (1.0, 1e3, 1e6):
        value = LowRankGaussian(*parts).noisy(noise).log_prob(law.mean + 1)
        sizes.append(max(float(g.abs().max()) for g in torch.autograd.grad(value, parts)))
    assert sizes[1] < 1e-5 * max(1.0, sizes[0])
    assert sizes[2] < 1e-11


def test_entropy_is_the_expectation_of_the_density():
    law = gaussian(n=5, k=2)
    draws = law.sample((40_000,), generator=torch.Generator().manual_seed(7))
    values = -law.log_prob(draws)
    assert abs(float(values.mean() - law.entropy())) < 4 * float(values.std()) / math.sqrt(40_000)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError, match="one n"):
        LowRankGaussian(torch.zeros(3), torch.ones(3), torch.ones(2, 1))
