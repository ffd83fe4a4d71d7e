"""Affine equations with fractional noise: closed forms, dense reference, filter and smoother, calibration."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from sciprob.errors import ConfigError, ConvergenceError, DataError, UnsupportedProblemError
from sciprob.operators.observe_time import TimeObservation
from sciprob.sde import (
    AffineSDE,
    DensePathPosterior,
    MarkovPathPosterior,
    PathData,
    geometric_rates,
    markov_noise,
    path_space,
    published_rates,
    rates_for_times,
    sample_gaussian,
)
from sciprob.sde.fractional_ou import stationary_covariance
from sciprob.sde.transition import transition


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def irregular(n, seed=0, end=1.0):
    generator = torch.Generator().manual_seed(seed)
    times = torch.rand(n, dtype=torch.float64, generator=generator).sort().values * end
    return times, torch.randn(n, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(
    ("h", "theta", "values"),
    [(0.7, 1.0, (0.62108, 0.50502, 0.39448, 0.25175)), (0.9, 2.0, (0.24072, 0.21388, 0.18853, 0.15998))],
)
def test_stationary_covariance(h, theta, values):
    r = stationary_covariance(real(0.0, 0.5, 1.0, 2.0), scalar(h), scalar(theta))
    torch.testing.assert_close(r, real(*values), rtol=0, atol=6e-6)
    start = math.gamma(2 * h + 1) / (2 * theta ** (2 * h))
    assert float(r[0]) == pytest.approx(start, rel=1e-12)


@pytest.mark.parametrize(
    ("h", "values"), [(0.65, (0.27801, 0.48830, 0.68472, 0.16036)), (0.25, (0.49442, 0.52919, 0.51449, 0.05863))]
)
def test_covariance_from_a_known_start(h, values):
    c = AffineSDE(h, reversion=0.8).covariance(real(0.5, 1.0, 2.0), real(0.5, 1.0, 2.0))
    torch.testing.assert_close(torch.stack([c[0, 0], c[1, 1], c[2, 2], c[0, 2]]), real(*values), rtol=0, atol=6e-6)


def test_index_one_half_is_ornstein_uhlenbeck():
    t, theta = real(0.0, 0.3, 1.0, 60.0), 1.7
    exact = (torch.exp(-theta * (t[:, None] - t).abs()) - torch.exp(-theta * (t[:, None] + t))) / (2 * theta)
    sde = AffineSDE(0.5, theta, scale=3.0, intercept=2.0, initial_mean=-1.0, initial_std=0.5)
    start = 0.25 * torch.exp(-theta * (t[:, None] + t))
    # terms of 9 t / 2 = 270 cancel at t = 60
    torch.testing.assert_close(sde.covariance(t, t), 9 * exact + start, rtol=0, atol=270 * 1e-13)
    torch.testing.assert_close(sde.mean(t), 2 / theta + (-1 - 2 / theta) * torch.exp(-theta * t))


@pytest.mark.parametrize("theta", [-0.4, 0.0, 0.3, 1.0, 1.0 + 1e-9, 1.01, 1.03])
def test_transition_is_the_matrix_exponential(theta):
    """Against van Loan's block exponential, in steps short enough for it; gamma = 1 is on the grid."""
    rates, weights, sigma = geometric_rates(0.1, 10.0, 3), real(0.7, -0.2, 1.3), 1.4
    steps = real(0.0, 0.01, 0.6)
    ours = transition(steps, rates, weights, scalar(theta), scalar(sigma))
    g, w, root = rates.numpy(), weights.numpy(), np.sqrt(2 * rates.numpy())
    drift = np.zeros((4, 4))
    drift[0, 0], drift[0, 1:] = -theta, -sigma * w * g / root
    drift[1:, 1:] = -np.diag(g)
    push = np.r_[sigma * w.sum(), root][:, None]
    for i, h in enumerate(steps.tolist()):
        block = expm(np.block([[-drift, push @ push.T], [np.zeros((4, 4)), drift.T]]) * h)
        matrix = block[4:, 4:].T
        np.testing.assert_allclose(ours.matrix[i].numpy(), matrix, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.noise[i].numpy(), matrix @ block[:4, 4:], rtol=0, atol=1e-11)


def test_transitions_compose_for_extreme_rates():
    """Chapman and Kolmogorov, where a matrix exponential of both signs overflows."""
    rates, weights = geometric_rates(1e-6, 1e6, 9), torch.linspace(-1, 1, 9, dtype=torch.float64)
    one = transition(real(0.3, 0.4, 0.7), rates, weights, real(0.5, 3.0), real(1.0, 2.0))
    first, second, whole = (one.matrix[:, i] for i in range(3))
    q = [one.noise[:, i] for i in range(3)]
    torch.testing.assert_close(second @ first, whole, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(second @ q[0] @ second.mT + q[1], q[2], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("h", [0.2, 0.5, 0.85])
def test_filter_and_smoother_are_dense_conditioning(kind, h):
    """The dense covariance of the approximation knows nothing of states: evidence, mean and deviation to 1e-8."""
    times, values = irregular(40)
    # from where the kind remembers: slower ones of type II have weights of 2000 that cancel in the dense covariance
    rates = geometric_rates(1e-3 if kind == "I" else 0.1, 1e3, 7)
    sde = AffineSDE(h, scale=1.3, intercept=0.4, initial_mean=0.2, initial_std=0.7, kind=kind)
    std = 0.1 + 0.2 * torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    posterior = MarkovPathPosterior(sde, PathData(times, values, std), rates, horizon=1.5)
    noise = markov_noise(h, rates, horizon=1.5, kind=kind, normalisation="unit")
    query = torch.cat([torch.linspace(0, 1.5, 11, dtype=torch.float64), times[:3]])

    def covariance(s, t):
        return 1.3**2 * noise.covariance(s, t) + 0.49

    def mean(t):
        return 0.2 + 0.4 * t

    k = covariance(times, times) + torch.diag(std**2)
    dense = torch.distributions.MultivariateNormal(mean(times), k)
    assert float(posterior.log_evidence) == pytest.approx(float(dense.log_prob(values)), abs=1e-8)
    gain = torch.linalg.solve(k, covariance(times, query)).mT
    expected = mean(query) + gain @ (values - mean(times))
    variance = (covariance(query, query) - gain @ covariance(times, query)).diagonal()
    ours_mean, ours_std = posterior.at(query)
    torch.testing.assert_close(ours_mean, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(ours_std, variance.sqrt(), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("h", "theta"), [(0.25, 0.0), (0.25, 2.0), (0.7, 0.0), (0.7, 2.0), (0.9, 0.5)])
def test_wide_grids_give_the_fractional_posterior(h, theta):
    """Markov against the exact Gaussian process, on a path drawn from it."""
    times = torch.linspace(1 / 64, 1, 64, dtype=torch.float64)
    sde = AffineSDE(h, theta, scale=2.0, normalisation="gamma")
    path = sample_gaussian(sde.covariance(times, times), generator=torch.Generator().manual_seed(3))
    data = PathData(times, path, 0.1)
    exact = DensePathPosterior(sde, data)
    ours = MarkovPathPosterior(sde, data, rates_for_times(horizon=1.0, resolution=1 / 64, kind="I"))
    assert float(ours.log_evidence) == pytest.approx(float(exact.log_evidence), abs=0.1)
    query = real(0.011, 0.5, 0.507, 0.9)
    (mean, std), (exact_mean, exact_std) = ours.at(query), exact.at(query)
    assert float(((mean - exact_mean) / exact_std).abs().max()) < 0.05
    assert float((std / exact_std - 1).abs().max()) < 0.02


@pytest.mark.parametrize(
    ("h", "theta", "loss"),
    [(0.1, 0.0, 2.880), (0.3, 0.0, 2.666), (0.7, 0.0, 2.642), (0.9, 0.0, 2.695), (0.8, 1.0, 1.893), (0.9, 2.0, 1.431)],
)
def test_bridge(h, theta, loss):
    """-log evidence of the bridge on the published grid, without its normaliser; theta = 1 is one of the rates."""
    sde = AffineSDE(h, theta, normalisation="gamma")
    posterior = MarkovPathPosterior(sde, PathData(real(2.0), real(0.0), 0.1), published_rates(), horizon=6.0)
    ours = -float(posterior.log_evidence) - math.log(2 * math.pi * 0.01) / 2
    assert ours == pytest.approx(loss, abs=6e-4)
    if theta == 0:
        assert float(posterior.at(real(2.0))[1]) == pytest.approx(0.0998, abs=2e-4)


def test_gradients_of_the_evidence():
    times, values = irregular(12)
    rates = geometric_rates(1e-2, 1e2, 4)

    def exact(h, theta, sigma, std):
        sde = AffineSDE(h, theta, scale=sigma)
        return DensePathPosterior(sde, PathData(times, values, std[..., None])).log_evidence

    def markov(h, theta, sigma, std):
        sde = AffineSDE(h, theta, scale=sigma, kind="II")
        return MarkovPathPosterior(sde, PathData(times, values, std[..., None]), rates).log_evidence

    inputs = [real(*pair).requires_grad_() for pair in ((0.3, 0.8), (0.6, 2.0), (1.3, 0.5), (0.2, 0.3))]
    assert torch.autograd.gradcheck(exact, inputs, rtol=1e-5)
    assert torch.autograd.gradcheck(markov, inputs, rtol=1e-5)


def test_samples_have_the_posterior_law():
    times, values = irregular(8)
    data = PathData(times, values, 0.3)
    sde = AffineSDE(0.3, 1.0, initial_std=0.2)
    query = real(0.1, 0.6, 1.0)
    count = 4000
    for posterior in (
        DensePathPosterior(sde, data),
        MarkovPathPosterior(sde, data, geometric_rates(1e-2, 1e3, 6), horizon=1.0),
    ):
        draws = posterior.sample(query, generator=torch.Generator().manual_seed(0), shape=(count,))
        mean, std = posterior.at(query)
        assert draws.shape == (count, 3)
        assert float(((draws.mean(0) - mean) / std).abs().max()) < 4 / math.sqrt(count)
        assert float((draws.std(0) / std - 1).abs().max()) < 4 / math.sqrt(2 * count)


def test_draws_agree_with_dense_correlations():
    """Neighbouring times move together as the dense posterior says."""
    times, values = irregular(8)
    data, sde = PathData(times, values, 0.3), AffineSDE(0.7)
    query = real(0.5, 0.52, 0.9)
    dense = DensePathPosterior(sde, data)
    rates = rates_for_times(horizon=1.0, resolution=0.02, kind="I")
    draws = MarkovPathPosterior(sde, data, rates, horizon=1.0).sample(
        query, generator=torch.Generator().manual_seed(2), shape=(4000,)
    )
    reference = dense.sample(query, generator=torch.Generator().manual_seed(3), shape=(4000,))
    torch.testing.assert_close(torch.corrcoef(draws.T), torch.corrcoef(reference.T), rtol=0, atol=0.08)


@pytest.mark.parametrize("h", [0.25, 0.7])
def test_intervals_cover(h):
    """400 paths of the exact process, every fourth of 40 times observed: 90 % bands cover 90 +- 2 %."""
    times = 2 * torch.arange(1, 41, dtype=torch.float64) / 40
    sde = AffineSDE(h, reversion=1.0)
    generator = torch.Generator().manual_seed(7)
    paths = sample_gaussian(sde.covariance(times, times), generator=generator, shape=(400,))
    seen = torch.arange(3, 40, 4)
    values = paths[:, seen] + 0.05 * torch.randn(400, 10, dtype=torch.float64, generator=generator)
    data = PathData(times[seen], values, 0.05)
    rates = rates_for_times(horizon=2.0, resolution=0.05, kind="I")
    for posterior in (DensePathPosterior(sde, data), MarkovPathPosterior(sde, data, rates)):
        mean, std = posterior.at(times)
        inside = ((paths - mean).abs() <= 1.6449 * std).double().mean()
        assert float(inside) == pytest.approx(0.9, abs=0.02)


def test_any_batch():
    times, values = irregular(6)
    rates = published_rates()
    sde = AffineSDE(real(0.3, 0.7), reversion=1.0)
    batch = values.expand(4, 1, 6)
    posterior = MarkovPathPosterior(sde, PathData(times, batch, 0.1), rates)
    mean, std = posterior.at(times[:3])
    assert posterior.log_evidence.shape == (4, 2)
    assert mean.shape == std.shape == (4, 2, 3)
    one = MarkovPathPosterior(AffineSDE(0.7, reversion=1.0), PathData(times, values, 0.1), rates)
    torch.testing.assert_close(posterior.log_evidence[2, 1], one.log_evidence)
    torch.testing.assert_close(std[0, 1], one.at(times[:3])[1])
    draws = posterior.sample(times[:2], generator=torch.Generator().manual_seed(0), shape=(5,))
    assert draws.shape == (5, 4, 2, 2)
    for kind in (MarkovPathPosterior, DensePathPosterior):
        arguments = (rates,) if kind is MarkovPathPosterior else ()
        empty = kind(sde, PathData(times, values.expand(0, 1, 6), 0.1), *arguments)
        assert empty.log_evidence.shape == (0, 2)
        assert empty.at(times)[0].shape == (0, 2, 6)
        assert empty.sample(times, generator=torch.Generator(), shape=(3,)).shape == (3, 0, 2, 6)


def test_repeated_times_are_repeated_measurements():
    times, values = irregular(5)
    twice, doubled = times.repeat_interleave(2), values.repeat_interleave(2)
    sde, rates = AffineSDE(0.4), published_rates()
    mean, std = MarkovPathPosterior(sde, PathData(twice, doubled, 0.2), rates, horizon=1.0).at(times)
    once = MarkovPathPosterior(sde, PathData(times, values, 0.2 / math.sqrt(2)), rates, horizon=1.0).at(times)
    torch.testing.assert_close(mean, once[0])
    torch.testing.assert_close(std, once[1])


def test_paths_are_a_space_that_operators_know():
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    space = path_space(times, name="volatility")
    observe = TimeObservation(space, real(0.25, 0.6), order=2)
    torch.testing.assert_close(observe(2 * times), real(0.5, 1.2))


def test_errors_name_the_row_and_the_remedy():
    times, values = irregular(4)
    with pytest.raises(DataError, match="row 1 before row 0; sort"):
        PathData(times.flip(0), values, 0.1)
    with pytest.raises(DataError, match="not in row 2"):
        PathData(times, values.index_fill(0, torch.tensor([2]), torch.nan), 0.1)
    with pytest.raises(DataError, match="not before 0"):
        PathData(times - 5, values, 0.1)
    with pytest.raises(DataError, match="standard deviation"):
        PathData(times, values, -0.1)
    with pytest.raises(DataError, match="end in the 4 times"):
        PathData(times, values[:3], 0.1)
    with pytest.raises(UnsupportedProblemError, match="use the Markov form"):
        DensePathPosterior(AffineSDE(0.3, 1.0, kind="II"), PathData(times, values, 0.1))
    exact_twice = PathData(times.repeat_interleave(2), values.repeat_interleave(2), 0.0)
    with pytest.raises(ConvergenceError, match="positive `noise_std`"):
        DensePathPosterior(AffineSDE(0.3), exact_twice)
    posterior = MarkovPathPosterior(AffineSDE(0.3), PathData(times, values, 0.1), published_rates())
    with pytest.raises(ConfigError, match="set `horizon`"):
        posterior.at(real(1.0))
    with pytest.raises(DataError, match="row 0 is exact"):
        MarkovPathPosterior(AffineSDE(0.3), PathData(real(0.0, 1.0), real(0.0, 1.0), 0.0), published_rates())
