"""Optimal weights against arbitrary precision, the published error tables, and the properties of the process."""

import math

import mpmath
import pytest
import torch
from scipy.integrate import quad

from sciprob.errors import ConfigError
from sciprob.sde import (
    fbm_covariance,
    geometric_rates,
    markov_noise,
    published_rates,
    rates_for_hurst,
    rates_for_times,
    riemann_liouville_covariance,
)
from sciprob.sde.markov_integrals import cross_variance, gram_matrix, target_vector


def real(value):
    return torch.tensor(value, dtype=torch.float64)


def exact_target(z, h, kind):
    """b at T = 1 from the formula as it stands, in 120 digits."""
    a, z = mpmath.mpf(h) + mpmath.mpf(1) / 2, mpmath.mpf(z)
    if kind == "I":
        upper = mpmath.exp(z) * mpmath.gammainc(a, z, regularized=True)
        return 2 / z**a - 1 / (z * mpmath.gamma(a + 1)) + (mpmath.exp(-z) - upper) / z ** (a + 1)
    first, second = (mpmath.gammainc(b, 0, z, regularized=True) for b in (a, a + 1))
    return (z * first - a * second) / z ** (a + 1)


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("z", [1e-9, 1e-6, 1e-2, 0.99, 1.01, 88.0, 120.0, 1e4, 1e6])
def test_targets_and_their_derivatives_in_the_index(kind, z):
    """Central differences in 120 digits are exact to 1e-20."""
    with mpmath.workdps(120):
        for h in (0.05, 0.3, 0.5, 0.7, 0.95):
            index = real(h).requires_grad_()
            value = target_vector(real([z]), index, kind)
            (slope,) = torch.autograd.grad(value.sum(), index)
            step = mpmath.mpf(10) ** -15
            difference = exact_target(z, mpmath.mpf(h) + step, kind) - exact_target(z, mpmath.mpf(h) - step, kind)
            assert float(value.detach()) == pytest.approx(float(exact_target(z, h, kind)), rel=1e-12)
            assert float(slope) == pytest.approx(float(difference / (2 * step)), rel=1e-10)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_integrals_are_the_quadratures_of_their_moments(kind):
    """b is the integral of E[B Y], A that of E[Y Y]; E[B Y] itself is the integral of the kernels."""
    z, h = real([0.05, 0.8, 3.0, 60.0]), real(0.35)
    for k, rate in enumerate(z):
        value, _ = quad(lambda t, r=rate: float(cross_variance(r[None], real([t]), h, kind)), 0, 1, epsrel=1e-10)
        assert float(target_vector(z, h, kind)[k]) == pytest.approx(value, rel=1e-9)
        for j, other in enumerate(z):

            def moment(t, r=float(rate), s=float(other)):
                if kind == "II":
                    return -math.expm1(-(r + s) * t) / (r + s)
                return -(math.expm1(-r * t) + math.expm1(-s * t)) / (r + s)

            value, _ = quad(moment, 0, 1, epsabs=0, epsrel=1e-12)
            assert float(gram_matrix(z, kind)[k, j]) == pytest.approx(value, rel=1e-11)
    t, rate = 0.7, 3.0
    kernel, _ = quad(lambda v: math.exp(-rate * v ** (1 / 0.85)) / 0.85, 0, t**0.85, epsabs=0, epsrel=1e-11)
    if kind == "I":  # the past: int_0^inf [(t + u)^p - u^p] (e^{-r (t + u)} - e^{-r u}) du, u = v^{1 / 0.85}

        def past(v):
            u, p = v ** (1 / 0.85), -0.15
            return ((1 + t / u) ** p - 1) * math.exp(-rate * u) * math.expm1(-rate * t) / 0.85

        kernel += quad(past, 0, math.inf, epsabs=0, epsrel=1e-10, limit=500)[0]
    expected = kernel / math.gamma(0.85)
    assert float(cross_variance(real([rate]), real([t]), h, kind)) == pytest.approx(expected, rel=1e-8)


PUBLISHED = {  # path error and error at T for 1, 2, 5 published rates
    "I": {
        0.05: ((0.861, 0.833), (0.756, 0.727), (0.751, 0.717)),
        0.3: ((0.346, 0.377), (0.191, 0.202), (0.129, 0.109)),
        0.5: ((0.514, 0.607), (0.128, 0.157), (0.113, 0.138)),
        0.7: ((0.811, 0.863), (0.450, 0.487), (0.313, 0.349)),
        0.9: ((0.975, 0.987), (0.838, 0.856), (0.714, 0.738)),
    },
    "II": {
        0.05: ((0.799, 0.772), (0.704, 0.674), (0.695, 0.673)),
        0.3: ((0.177, 0.171), (0.106, 0.110), (0.0881, 0.0752)),
        0.5: ((0.215, 0.296), (0.0096, 0.0142), (4.1e-6, 9.5e-6)),
        0.7: ((0.392, 0.461), (0.111, 0.135), (0.0116, 0.0086)),
        0.9: ((0.521, 0.578), (0.219, 0.250), (0.0077, 0.0053)),
    },
}


@pytest.mark.parametrize("kind", ["I", "II"])
def test_path_errors_are_those_of_the_tables(kind):
    for h, row in PUBLISHED[kind].items():
        for count, (path, end) in zip((1, 2, 5), row, strict=True):
            noise = markov_noise(h, published_rates(count), horizon=1.0, kind=kind, normalisation="gamma")
            assert float(noise.path_error) == pytest.approx(path, rel=0.01)
            assert float(noise.error(real([1.0]))) == pytest.approx(end, rel=0.01)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_path_error_is_the_integral_of_the_error(kind):
    h, horizon = 0.3, 2.5
    noise = markov_noise(h, published_rates(), horizon=horizon, kind=kind, normalisation="unit")

    def square(t):
        return float(noise.error(real([t]))) ** 2 * t ** (2 * h)

    total, _ = quad(square, 0, horizon, epsrel=1e-9)
    assert float(noise.path_error) == pytest.approx(math.sqrt(total * (2 * h + 1) / horizon ** (2 * h + 1)), rel=1e-6)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_weights_are_self_similar(kind):
    rates = geometric_rates(0.05, 200.0, 4)
    one = markov_noise(real([0.2, 0.8]), rates, horizon=1.0, kind=kind, normalisation="gamma")
    other = markov_noise(real([0.2, 0.8]), rates / 7, horizon=7.0, kind=kind, normalisation="gamma")
    torch.testing.assert_close(other.weights, 7 ** (one.hurst - 0.5)[:, None] * one.weights, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(other.path_error, one.path_error, rtol=1e-9, atol=0)


def test_weights_are_optimal_and_differentiable_in_the_index():
    rates = geometric_rates(0.05, 200.0, 4)

    def weights(h):
        return markov_noise(h, rates, horizon=3.0, kind="I", normalisation="unit").weights

    assert torch.autograd.gradcheck(weights, real([0.2, 0.5, 0.8]).requires_grad_(), rtol=1e-6)
    scaled = gram_matrix(rates * 3, "I") @ (weights(real(0.2)) / 3 ** (0.2 - 0.5))
    gamma = markov_noise(0.2, rates, horizon=3.0, kind="I", normalisation="gamma").weights / 3 ** (0.2 - 0.5)
    torch.testing.assert_close(gram_matrix(rates * 3, "I") @ gamma, target_vector(rates * 3, real(0.2), "I"))
    ratio = scaled / target_vector(rates * 3, real(0.2), "I")
    torch.testing.assert_close(ratio, ratio[0].expand(4))


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("normalisation", ["unit", "gamma"])
def test_wide_grids_reach_the_fractional_covariance(kind, normalisation):
    t = torch.linspace(0, 2, 33, dtype=torch.float64)
    exact = fbm_covariance if kind == "I" else riemann_liouville_covariance
    for h in (0.25, 0.5, 0.8):
        rates = rates_for_times(horizon=2.0, resolution=1 / 16, kind=kind)
        noise = markov_noise(h, rates, horizon=2.0, kind=kind, normalisation=normalisation)
        reference = exact(t, t, h, normalisation=normalisation)
        forgotten = 1e-6 ** (2 - 2 * h) if kind == "I" else 0  # what processes slower than the slowest rate hold
        assert float((noise.covariance(t, t) - reference).norm() / reference.norm()) < 1e-3 + forgotten


@pytest.mark.parametrize(("kind", "h", "expected"), [("I", 0.1, 0.107), ("I", 0.9, 0.137), ("II", 0.3, 0.0086)])
def test_rates_of_the_rule_have_its_error(kind, h, expected):
    rates = rates_for_hurst(h, horizon=1.0, count=10, kind=kind)
    noise = markov_noise(h, rates, horizon=1.0, kind=kind, normalisation="gamma")
    assert float(noise.path_error) == pytest.approx(expected, rel=0.01)


def test_brownian_motion_is_one_slow_process():
    noise = markov_noise(0.5, real([8e-7]), horizon=1.0, kind="I", normalisation="unit")
    assert float(noise.weights) == pytest.approx(1, abs=1e-6)
    assert float(noise.path_error) == pytest.approx(5e-4, rel=0.1)
    exact = markov_noise(0.5, published_rates(), horizon=1.0, kind="II", normalisation="unit")
    assert float(exact.weights.sum()) == pytest.approx(1, abs=1e-4)


def test_extreme_rates_stay_finite_with_their_gradients():
    h = real([0.05, 0.5, 0.95]).requires_grad_()
    for kind in ("I", "II"):
        noise = markov_noise(h, geometric_rates(1e-9, 1e9, 19), horizon=1.0, kind=kind, normalisation="unit")
        (slope,) = torch.autograd.grad(noise.weights.sum(), h)
        assert bool(noise.weights.isfinite().all())
        assert bool(slope.isfinite().all())


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="increase from above 0"):
        markov_noise(0.3, real([1.0, 1.0]), horizon=1.0, kind="I", normalisation="unit")
    with pytest.raises(ConfigError, match="positive horizon"):
        markov_noise(0.3, real([1.0]), horizon=0.0, kind="I", normalisation="unit")
    with pytest.raises(ConfigError, match=r"'I' .* or 'II'"):
        markov_noise(0.3, real([1.0]), horizon=1.0, kind="III", normalisation="unit")
    with pytest.raises(ConfigError, match="resolution <= horizon"):
        rates_for_times(horizon=1.0, resolution=2.0, kind="I")
    with pytest.raises(ConfigError, match="lowest <= highest"):
        geometric_rates(2.0, 1.0, 3)
