"""The simulation-free bound: against exact evidence, against simulation, quadrature and gradients."""

import pytest
import torch

from sciprob.sde import AffineSDE, MarkovPathPosterior, PathData, markov_noise, rates_for_times
from sciprob.solvers.fbm_vi.volterra import (
    Prior,
    PseudoData,
    drift_cost,
    expected_log_likelihood,
    quadrature_times,
    simulated_divergence,
    site_moments,
)

HORIZON = 1.0
TIMES = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64)


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def column(*values):
    return real(*values)[:, None]


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def prior(hurst, kind="I", start_std=0.3):
    rates = rates_for_times(horizon=HORIZON, resolution=0.05, kind=kind)
    h = torch.as_tensor(hurst, dtype=torch.float64)
    noise = markov_noise(h, rates, horizon=HORIZON, kind=kind, normalisation="unit")
    return Prior(noise, real(0.8), real(0.2), real(start_std))


def well(t, x):
    return 2 * (x - x**3)


SITES = PseudoData(TIMES, column(0.4, 0.9, -0.3), column(2.0, 1.0, 3.0))


def divergence(p, sites, drift, times, weights):
    moments = site_moments(p, sites, times)
    return moments.divergence + (weights * drift_cost(drift, times, moments)).sum()


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("hurst", [0.2, 0.7])
def test_bound_is_the_evidence_without_a_drift(hurst, kind):
    """Sites equal to the data are then the posterior; moments are those of the exact posterior."""
    p, std = prior(hurst, kind), column(0.2, 0.1, 0.3)
    sites = PseudoData(TIMES, SITES.values, -2 * std.log())
    sde = AffineSDE(hurst, scale=0.8, initial_mean=0.2, initial_std=0.3, kind=kind)
    exact = MarkovPathPosterior(sde, PathData(TIMES, SITES.values[:, 0], std[:, 0]), p.noise.rates)
    at = site_moments(p, sites, TIMES)
    bound = expected_log_likelihood(sites.values, std, at.mean, at.variance) - at.divergence
    assert float(bound) == pytest.approx(float(exact.log_evidence), rel=1e-9)
    between = real(0.9, 0.1, 0.45)
    mean, exact_std = exact.at(between)
    found = site_moments(p, sites, between)
    torch.testing.assert_close(found.mean[:, 0], mean)
    torch.testing.assert_close(found.variance[:, 0].sqrt(), exact_std)


@pytest.mark.parametrize("kind", ["I", "II"])
def test_control_is_the_drift_of_the_noise(kind):
    """With a rate near 0 the noise is Brownian: the mean moves by sigma u dt, the variance by Ito's formula."""
    rates = real(1e-9)
    noise = markov_noise(real(0.5).squeeze(), rates, horizon=1.0, kind=kind, normalisation="unit")
    p = Prior(noise, real(0.8), real(0.2), real(0.3))
    times = torch.linspace(0.31, 0.59, 30, dtype=torch.float64)
    moments = site_moments(p, SITES, times)
    slope = (moments.mean[2:] - moments.mean[:-2]) / (times[2:] - times[:-2])[:, None]
    torch.testing.assert_close(slope, 0.8 * moments.control[1:-1] * float(noise.weights), rtol=1e-6, atol=1e-6)
    change = (moments.variance[2:] - moments.variance[:-2]) / (times[2:] - times[:-2])[:, None]
    ito = 0.64 + 2 * 0.8 * moments.covariance[1:-1]  # d Var = 2 Cov(x, sigma u) dt + sigma^2 dt
    torch.testing.assert_close(change, ito, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("hurst", "kind"), [(0.3, "I"), (0.7, "II")])
def test_quadrature_is_simulation(hurst, kind):
    p = prior(hurst, kind)
    times, weights = quadrature_times(torch.cat([real(0.0), TIMES]), 24)
    exact = divergence(p, SITES, well, times, weights)
    drawn = simulated_divergence(p, SITES, well, HORIZON, step=0.004, paths=2000, generator=source())
    error = float(drawn.std()) / 2000**0.5
    assert error < 0.04
    assert abs(float(drawn.mean() - exact)) < 3 * error


def test_quadrature_converges_and_random_times_are_unbiased():
    p, breaks = prior(0.35), torch.cat([real(0.0), TIMES])
    coarse, fine, finest = (divergence(p, SITES, well, *quadrature_times(breaks, n)) for n in (2, 12, 48))
    assert abs(float(fine - finest)) < 1e-4
    assert abs(float(fine - finest)) < 0.1 * abs(float(coarse - finest))
    generator = source(1)
    draws = torch.stack([divergence(p, SITES, well, *quadrature_times(breaks, 3, generator)) for _ in range(100)])
    assert abs(float(draws.mean() - finest)) < 3 * float(draws.std()) / 10
    assert float(draws.std()) < 0.5


def test_dimensions_add():
    one, two = prior(0.3), prior(0.7)
    hurst = real(0.3, 0.7)
    both = Prior(prior(hurst).noise, real(0.8, 0.8), real(0.2, 0.2), real(0.3, 0.3))
    sites = PseudoData(TIMES, SITES.values.expand(-1, 2), SITES.log_precision.expand(-1, 2))
    rule = quadrature_times(torch.cat([real(0.0), TIMES]), 6)
    apart = sum(divergence(p, SITES, well, *rule) for p in (one, two))
    # 12 nodes in each dimension integrate polynomials of degree 23 exactly
    assert float(divergence(both, sites, well, *rule)) == pytest.approx(float(apart), rel=1e-6)  # weights: 8 digits
    turn = lambda t, x: torch.stack([x[..., 1], -x[..., 0]], dim=-1)  # noqa: E731 - couples the dimensions
    turned = divergence(both, sites, turn, *rule)
    at = site_moments(both, sites, rule[0])
    mean, second = at.mean, at.mean.square() + at.variance
    expected = second.sum(-1) / 2 - mean[:, 1] * at.control[:, 0] + mean[:, 0] * at.control[:, 1]
    assert float(turned) == pytest.approx(float(at.divergence + (rule[1] * expected).sum()), rel=1e-9)


def test_gradient_in_the_hurst_index_and_the_sites():
    rule = quadrature_times(torch.cat([real(0.0), TIMES]), 4)

    def bound(h, values):
        return divergence(prior(h), PseudoData(TIMES, values, SITES.log_precision), well, *rule)

    hurst, values = real(0.35).squeeze().requires_grad_(), SITES.values.clone().requires_grad_()
    by_hurst, by_values = torch.autograd.grad(bound(hurst, values), [hurst, values])
    with torch.no_grad():
        change = (bound(hurst + 1e-5, values) - bound(hurst - 1e-5, values)) / 2e-5
        assert float(by_hurst) == pytest.approx(float(change), rel=1e-5)
        moved = column(0.0, 1e-5, 0.0)
        change = (bound(hurst, values + moved) - bound(hurst, values - moved)) / 2e-5
    assert float(by_values[1]) == pytest.approx(float(change), rel=1e-6)
