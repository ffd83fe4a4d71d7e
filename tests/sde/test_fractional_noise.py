"""Covariances against quadrature and closed forms, samplers against covariances."""

import math

import mpmath
import pytest
import torch
from scipy.integrate import quad

from sciprob.errors import ConfigError, ConvergenceError, DataError, ShapeError
from sciprob.sde import (
    fbm_covariance,
    fgn_autocovariance,
    multifractional_covariance,
    riemann_liouville_covariance,
    sample_fbm,
    sample_fgn,
    sample_gaussian,
)
from sciprob.sde.parameters import gamma_variance
from sciprob.sde.special import (
    exponential_moments,
    lower_convolution,
    power_integral,
    scaled_lower_series,
    scaled_upper_gamma,
)


def real(value):
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("a", [0.51, 1.0, 1.45, 2.9])
@pytest.mark.parametrize("z", [1e-6, 0.5, 1.0, 9.9, 88.0, 1e3, 1e6])
def test_incomplete_gammas(a, z):
    with mpmath.workdps(40):
        upper = float(mpmath.exp(z) * mpmath.gammainc(a, z))
        lower = float(mpmath.exp(z) * mpmath.gammainc(a, 0, z, regularized=True) / mpmath.mpf(z) ** a)
        convolution = float(mpmath.mpf(z) ** a / a * mpmath.hyp1f1(1, a + 1, -z))
    assert float(scaled_upper_gamma(real(a), real(z))) == pytest.approx(upper, rel=1e-13)
    if z <= 10:
        assert float(scaled_lower_series(real(a), real(z))) == pytest.approx(lower, rel=1e-14)
    if a >= 1:
        assert float(lower_convolution(real(a), real(z))) == pytest.approx(convolution, rel=1e-12)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("rate", [-3.0, -1e-3, 0.0, 1e-9, 0.76, 0.78, 100.0])
def test_exponential_moments(order, rate):
    expected, _ = quad(lambda t: t**order * math.exp(-rate * t), 0, 1.3, epsabs=0, epsrel=1e-13)
    assert float(exponential_moments(order, real(rate), real(1.3))) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", [-0.45, 0.0, 0.4])
@pytest.mark.parametrize("q", [-0.45, 0.1, 0.45])
@pytest.mark.parametrize("gap", [1.0, 0.5, 0.499, 1e-3, 1e-15, 0.0])
def test_power_integral(p, q, gap):
    with mpmath.workdps(40):
        x = 1 - mpmath.mpf(gap)
        expected = 1 / (mpmath.mpf(p) + q + 1) if gap == 0 else mpmath.hyp2f1(-p, 1, q + 2, x) / (mpmath.mpf(q) + 1)
    assert float(power_integral(real(p), real(q), real(gap))) == pytest.approx(float(expected), rel=1e-12)


def kernel_integral(s, t, hs, ht):
    """int_0^s (t - u)^{ht - 1/2} (s - u)^{hs - 1/2} du with the singularity at u = s taken out by a power."""
    m = 1 / (hs + 0.5)  # u = s - v^m
    value, _ = quad(lambda v: (t - s + v**m) ** (ht - 0.5) * m, 0, s ** (1 / m), epsabs=0, epsrel=1e-12, limit=400)
    return value / (math.gamma(hs + 0.5) * math.gamma(ht + 0.5))


@pytest.mark.parametrize(("hs", "ht"), [(0.3, 0.3), (0.8, 0.8), (0.3, 0.7), (0.9, 0.4)])
def test_multifractional_covariance_is_the_integral_of_its_kernels(hs, ht):
    for s, t in [(0.2, 1.0), (0.9, 1.0), (0.5, 3.0)]:
        value = multifractional_covariance(real([s]), real([t]), real([hs]), real([ht]), normalisation="gamma")
        swapped = multifractional_covariance(real([t]), real([s]), real([ht]), real([hs]), normalisation="gamma")
        assert float(value) == pytest.approx(kernel_integral(s, t, hs, ht), rel=1e-9)
        assert float(swapped) == pytest.approx(float(value), rel=1e-13)


def test_multifractional_variance_follows_the_local_index():
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    h = 0.5 + 0.25 * torch.sin(2 * math.pi * t)
    unit = multifractional_covariance(t, t, h, h, normalisation="unit").diagonal()
    torch.testing.assert_close(unit[1:], t[1:] ** (2 * h[1:]), rtol=1e-12, atol=0)
    assert float(unit[0]) == 0
    # the value form with H = .35 + .25 t has variance .9207 at t = 1 (the noise form has 1.185)
    one, h_one = real([1.0]), real([0.6])
    value = multifractional_covariance(one, one, h_one, h_one, normalisation="gamma")
    assert float(value) == pytest.approx(1 / (1.2 * math.gamma(1.1) ** 2), rel=1e-12)


def test_constant_index_is_riemann_liouville():
    t = torch.linspace(0.1, 2, 7, dtype=torch.float64)
    h = real([0.2, 0.8])
    constant = h[:, None].expand(2, 7)
    torch.testing.assert_close(
        riemann_liouville_covariance(t, t, h, normalisation="gamma"),
        multifractional_covariance(t, t, constant, constant, normalisation="gamma"),
    )


def test_index_one_half_is_brownian():
    t = torch.linspace(0, 2, 6, dtype=torch.float64)
    brownian = torch.minimum(t[:, None], t)
    for normalisation in ("unit", "gamma"):
        for covariance in (fbm_covariance, riemann_liouville_covariance):
            torch.testing.assert_close(covariance(t, t, 0.5, normalisation=normalisation), brownian)


@pytest.mark.parametrize(("h", "v"), [(0.05, 6.7193), (0.1, 3.5245), (0.6, 0.9543), (0.9, 1.9303), (0.95, 3.4982)])
def test_gamma_variance_of_type_one(h, v):
    """Against the kernel's integral: 1/(2H) from [0, 1] plus the past."""

    def past_at(x):  # substitute u = e^x; (1 + u)^p - u^p = u^p expm1(p log(1 + 1/u))
        p = h - 0.5
        return mpmath.exp(x * (2 * p + 1)) * mpmath.expm1(p * mpmath.log1p(mpmath.exp(-x))) ** 2

    past = mpmath.quad(past_at, [-400, -40, -4, 0, 4, 40, 400])
    assert float(gamma_variance(real(h), "I")) == pytest.approx(v, abs=5e-5)
    expected = (float(past) + 1 / (2 * h)) / math.gamma(h + 0.5) ** 2
    assert float(gamma_variance(real(h), "I")) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("normalisation", ["unit", "gamma"])
def test_autocovariance_is_that_of_increments(normalisation):
    h, step, n = real([0.1, 0.5, 0.9]), 0.3, 12
    t = step * torch.arange(n + 1, dtype=torch.float64)
    levels = fbm_covariance(t, t, h, normalisation=normalisation)
    increments = levels.diff(dim=-1).diff(dim=-2)
    r = fgn_autocovariance(n, h, step=step, normalisation=normalisation)
    lag = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    torch.testing.assert_close(increments, r[:, lag], rtol=0, atol=1e-12)


def test_circulant_embedding_is_non_negative_and_exact():
    """The covariance the two FFTs realise, applied to unit vectors, is the wanted one: no statistics needed."""
    n, h = 65, real([0.05, 0.3, 0.5, 0.7, 0.95])
    r = fgn_autocovariance(n + 1, h, normalisation="unit")
    row = torch.cat([r, r[:, 1:-1].flip(-1)], dim=-1)
    spectrum = torch.fft.rfft(row).real
    assert float(spectrum.min()) > 0
    unit = torch.eye(2 * n, dtype=torch.float64)
    root = torch.fft.irfft(torch.fft.rfft(unit) * spectrum.sqrt()[:, None], n=2 * n)[..., :n]
    lag = (torch.arange(n)[:, None] - torch.arange(n)).abs()
    torch.testing.assert_close(root.mT @ root, r[:, lag], rtol=0, atol=1e-12)


@pytest.mark.parametrize("h", [0.1, 0.75])
def test_both_samplers_have_the_law(h):
    n, count = 16, 4000
    generator = torch.Generator().manual_seed(1)
    t = torch.arange(n + 1, dtype=torch.float64) / n
    exact = fbm_covariance(t, t, h, normalisation="gamma")
    fast = sample_fbm(n, h, generator=generator, shape=(count,), step=1 / n, normalisation="gamma")
    slow = sample_gaussian(exact, generator=generator, shape=(count,))
    scale = exact.diagonal().clamp_min(1e-12).sqrt()
    for paths in (fast, slow):
        assert paths.shape == (count, n + 1)
        assert float(paths[:, 0].abs().max()) == 0
        empirical = paths.T @ paths / count
        # sd of an entry is sqrt((c_ii c_jj + c_ij^2) / count)
        sd = ((scale[:, None] * scale) ** 2 + exact**2).sqrt() / math.sqrt(count)
        assert float(((empirical - exact) / sd)[1:, 1:].abs().max()) < 4


def test_samples_are_differentiable_in_the_index():
    def path(h):
        return sample_fgn(20, h, generator=torch.Generator().manual_seed(0), normalisation="gamma")

    assert torch.autograd.gradcheck(path, real([0.3, 0.7]).requires_grad_())


def test_samples_depend_on_the_generator_and_follow_dtype():
    h = torch.full((2, 0), 0.3)
    assert sample_fgn(5, h, generator=torch.Generator(), normalisation="unit").shape == (2, 0, 5)
    first, again, other = (
        sample_fgn(5, torch.tensor(0.3), generator=torch.Generator().manual_seed(seed), normalisation="unit")
        for seed in (1, 1, 2)
    )
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("covariance", [fbm_covariance, riemann_liouville_covariance])
def test_covariances_are_differentiable(covariance):
    t = torch.tensor([0.0, 0.2, 0.21, 0.5, 1.5], dtype=torch.float64)
    for normalisation in ("unit", "gamma"):
        h = real([0.2, 0.7]).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda h, kind=normalisation: covariance(t, t, h, normalisation=kind), h, rtol=1e-5
        )


def test_errors_name_the_remedy():
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    with pytest.raises(ConfigError, match="strictly between 0 and 1, got 1"):
        fbm_covariance(t, t, 1.0, normalisation="unit")
    with pytest.raises(ConfigError, match="'unit' or 'gamma', got 'none'"):
        fbm_covariance(t, t, 0.3, normalisation="none")
    with pytest.raises(DataError, match="got -1 in row 0"):
        riemann_liouville_covariance(t - 1, t, 0.3, normalisation="unit")
    with pytest.raises(ShapeError, match="3 times"):
        multifractional_covariance(t, t, t[:2] + 0.1, t / 2 + 0.1, normalisation="unit")
    with pytest.raises(ConvergenceError, match="positive semi-definite"):
        sample_gaussian(-torch.eye(2) + 2 * torch.ones(2, 2), generator=torch.Generator())
