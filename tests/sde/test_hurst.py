"""Hurst estimation: likelihoods against dense ones, asymptotics, coverage, real series."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from scipy.linalg import toeplitz
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import multivariate_normal

from sciprob.errors import ConfigError, ConvergenceError, DataError, UnsupportedProblemError
from sciprob.sde import (
    fgn_autocovariance,
    fgn_spectrum,
    hurst_likelihood,
    hurst_quadratic_variations,
    hurst_whittle,
    sample_fbm,
    sample_fgn,
    toeplitz_gram,
)


def gaussian(shape, seed):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(r):
    n = r.shape[-1]
    return r[..., (torch.arange(n)[:, None] - torch.arange(n)).abs()]


@pytest.fixture
def series():
    return sample_fgn(120, 0.7, generator=torch.Generator().manual_seed(3), normalisation="unit")


def test_durbin_levinson_is_the_dense_solve():
    r = fgn_autocovariance(60, torch.tensor([0.1, 0.5, 0.93]), normalisation="unit")
    x, weight = gaussian((3, 2, 60), 0), gaussian((3, 2, 2), 1)
    inputs = r.clone().requires_grad_(), x.clone().requires_grad_()

    def by_recursion(r, x):
        return toeplitz_gram(r, x)

    def by_solve(r, x):
        return x @ torch.linalg.solve(dense(r), x.mT), torch.logdet(dense(r))

    results = []
    for method in (by_recursion, by_solve):
        gram, log_det = method(*inputs)
        total = (gram * weight).sum() + (log_det * torch.tensor([1.0, 2.0, 3.0])).sum()
        results.append((gram, log_det, *torch.autograd.grad(total, inputs)))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12 * float(reference.detach().abs().max()))


def test_durbin_levinson_shares_a_covariance_and_refuses_indefinite_ones():
    r = fgn_autocovariance(9, 0.7, normalisation="unit").requires_grad_()
    gram, log_det = toeplitz_gram(r, gaussian((4, 1, 9), 0))
    assert gram.shape == (4, 1, 1)
    assert log_det.shape == (4,)
    (gradient,) = torch.autograd.grad(log_det.sum(), r)
    (one,) = torch.autograd.grad(torch.logdet(dense(r)), r)
    torch.testing.assert_close(gradient, 4 * one)
    with pytest.raises(ConvergenceError, match="positive definite"):
        toeplitz_gram(torch.tensor([1.0, 2.0]), torch.ones(1, 2))


@pytest.mark.parametrize("h", [0.05, 0.3, 0.5, 0.8, 0.95])
def test_spectrum_is_the_transform_of_the_autocovariance(h):
    """r_k = int f cos(k lam) dlam; the power at 0 is taken out of the integral by lam = pi u^m."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(400))
    m = 20
    u, w = (nodes + 1) / 2, weights / 2
    lam = math.pi * u**m
    density = fgn_spectrum(lam, h) * math.pi * m * u ** (m - 1) * w
    for k in (0, 1, 5):
        r = 2 * (density * torch.cos(k * lam)).sum()
        assert float(r) == pytest.approx(float(fgn_autocovariance(k + 1, h, normalisation="unit")[k]), abs=1e-9)


def test_likelihood_is_the_densely_maximised_one(series):
    n = len(series)

    def negative(h):
        k = toeplitz(fgn_autocovariance(n, float(h), normalisation="unit").numpy())
        square = series.numpy() @ np.linalg.solve(k, series.numpy()) / n
        return -multivariate_normal(cov=square * k).logpdf(series.numpy())

    best = minimize_scalar(negative, bounds=(0.3, 0.95), method="bounded", options={"xatol": 1e-8})
    ours = hurst_likelihood(series, observed="increments", mean="zero")
    assert float(ours.hurst) == pytest.approx(best.x, abs=1e-6)
    assert float(ours.log_likelihood) == pytest.approx(-best.fun, abs=1e-8)
    step = 1e-3
    curvature = (negative(best.x + step) - 2 * best.fun + negative(best.x - step)) / step**2
    assert float(ours.std_error) == pytest.approx(curvature**-0.5, rel=1e-3)


def test_unknown_mean_is_integrated_out(series):
    """The restricted likelihood is the density of contrasts: any orthonormal basis of them gives it."""
    shifted = hurst_likelihood(series + 100.0, observed="increments")
    n = len(series)
    contrasts = np.linalg.svd(np.ones((1, n)))[2][1:]
    k = contrasts @ toeplitz(fgn_autocovariance(n, float(shifted.hurst), normalisation="unit").numpy()) @ contrasts.T
    density = multivariate_normal(cov=float(shifted.scale) ** 2 * k).logpdf(contrasts @ series.numpy())
    assert float(shifted.log_likelihood) == pytest.approx(density, abs=1e-7)
    plain = hurst_likelihood(series, observed="increments")
    assert float(shifted.hurst) == pytest.approx(float(plain.hurst), abs=1e-8)


def test_levels_are_sums_of_increments_and_scale_is_free(series):
    levels = torch.nn.functional.pad(series.cumsum(-1), (1, 0))
    for estimator in (hurst_likelihood, hurst_whittle, hurst_quadratic_variations):
        one = estimator(series, observed="increments")
        other = estimator(7 * levels - 30, observed="levels")
        assert float(other.hurst) == pytest.approx(float(one.hurst), abs=1e-7)
        assert float(other.scale) == pytest.approx(7 * float(one.scale), rel=1e-6)


def test_noisy_likelihood_is_the_densely_maximised_one():
    generator = torch.Generator().manual_seed(2)
    levels = sample_fbm(150, 0.35, generator=generator, normalisation="unit")
    y = (levels + 0.6 * torch.randn(levels.shape, generator=generator, dtype=levels.dtype)).diff().numpy()
    n = len(y)
    error = toeplitz(np.r_[2.0, -1.0, np.zeros(n - 2)])

    def negative(p):
        k = toeplitz(fgn_autocovariance(n, float(p[0]), normalisation="unit").numpy())
        return -multivariate_normal(cov=np.exp(p[1]) * k + np.exp(p[2]) * error).logpdf(y)

    best = minimize(negative, [0.35, 0.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    levels = torch.from_numpy(np.r_[0.0, y.cumsum()])
    ours = hurst_likelihood(levels, observed="levels", mean="zero", noise=True)
    assert float(ours.hurst) == pytest.approx(best.x[0], abs=1e-4)
    assert float(ours.scale) == pytest.approx(math.exp(best.x[1] / 2), rel=1e-3)
    assert float(ours.noise_std) == pytest.approx(math.exp(best.x[2] / 2), rel=1e-3)
    without = hurst_likelihood(levels, observed="levels", mean="zero")
    assert float(without.hurst) < float(ours.hurst) - 0.1  # noise mistaken for roughness


def test_noise_is_zero_where_the_data_want_none():
    x = sample_fgn(200, torch.full((8,), 0.6), generator=torch.Generator().manual_seed(0), normalisation="unit")
    noisy = hurst_likelihood(x, observed="increments", noise=True)
    plain = hurst_likelihood(x, observed="increments")
    without = noisy.noise_std == 0
    assert bool(without.any())
    assert torch.equal(noisy.hurst[without], plain.hurst[without])
    assert bool((noisy.log_likelihood >= plain.log_likelihood).all())


@pytest.mark.parametrize("h", [0.2, 0.5, 0.8])
def test_intervals_cover_and_errors_are_the_asymptotic_ones(h):
    """sd(Hhat) sqrt(n) with unknown scale: .479, .621, .665; 90 % +- 4 % (two binomial sd and a little bias)."""
    asymptotic = {0.2: 0.479, 0.5: 0.621, 0.8: 0.665}[h]
    n, generator = 160, torch.Generator().manual_seed(11)
    x = sample_fgn(n, h, generator=generator, shape=(400,), normalisation="unit")
    for estimator in (hurst_likelihood, hurst_whittle):
        estimate = estimator(x, observed="increments")
        low, high = estimate.interval(0.9)
        assert float(((low <= h) & (h <= high)).double().mean()) == pytest.approx(0.9, abs=0.04)
        assert float(estimate.hurst.std()) * math.sqrt(n) == pytest.approx(asymptotic, rel=0.15)
        assert float(estimate.hurst.mean()) == pytest.approx(h, abs=0.01)


@pytest.mark.parametrize("noise_std", [0.0, 0.3])
def test_quadratic_variations_know_their_errors(noise_std):
    h, generator = 0.6, torch.Generator().manual_seed(5)
    x = sample_fbm(4096, h, generator=generator, shape=(100,), normalisation="unit")
    x = x + noise_std * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    estimate = hurst_quadratic_variations(x, observed="levels", noise=noise_std > 0)
    assert float(estimate.hurst.mean()) == pytest.approx(h, abs=0.01)
    assert float(estimate.hurst.std() / estimate.std_error.mean()) == pytest.approx(1, abs=0.15)
    assert float(estimate.noise_std.mean()) == pytest.approx(noise_std, abs=0.03)


def test_any_batch_and_dtype(series):
    one = hurst_likelihood(series, observed="increments")
    batch = hurst_likelihood(series.expand(2, 3, -1), observed="increments")
    assert batch.hurst.shape == (2, 3)
    torch.testing.assert_close(batch.hurst, one.hurst.expand(2, 3))
    assert hurst_whittle(series[None][:0], observed="increments").hurst.shape == (0,)
    assert hurst_likelihood(series[None][:0], observed="increments", noise=True).hurst.shape == (0,)
    assert hurst_whittle(series.float(), observed="increments").std_error.dtype == torch.float32


def test_no_error_bar_at_the_end_of_the_range():
    differenced = gaussian((100,), 0).diff(n=3)
    estimate = hurst_likelihood(differenced, observed="increments", mean="zero")
    assert float(estimate.hurst) < 0.002
    assert math.isnan(float(estimate.std_error))


def test_series_are_checked(series):
    gap = series.clone()
    gap[7] = torch.nan
    with pytest.raises(DataError, match=r"got nan at entry \(7,\)"):
        hurst_whittle(gap, observed="increments")
    with pytest.raises(DataError, match="at least 8 increments, got 7"):
        hurst_likelihood(series[:8], observed="levels")
    with pytest.raises(DataError, match="all equal"):
        hurst_likelihood(torch.arange(20.0), observed="levels")
    with pytest.raises(ConfigError, match="'levels' or 'increments', got 'both'"):
        hurst_whittle(series, observed="both")
    with pytest.raises(UnsupportedProblemError, match="hurst_likelihood"):
        hurst_quadratic_variations(series, observed="increments", noise=True)


@pytest.mark.skipif(importlib.util.find_spec("statsmodels") is None, reason="the Nile series comes with statsmodels")
def test_nile():
    from statsmodels.datasets import nile

    flow = torch.tensor(nile.load().data["volume"].to_numpy(), dtype=torch.float64)
    estimate = hurst_likelihood(flow - flow.mean(), observed="increments", mean="zero")
    assert float(estimate.hurst) == pytest.approx(0.805, abs=0.001)
    assert float(estimate.std_error) == pytest.approx(0.060, abs=0.001)
    later = flow[28:] - flow[28:].mean()  # most of it is the level shift of 1898
    assert float(hurst_likelihood(later, observed="increments", mean="zero").hurst) == pytest.approx(0.573, abs=0.001)
