"""The parallel filter and smoother against the sequential ones, and against dense conditioning."""

import pytest
import torch

from sciprob.errors import DataError
from sciprob.sde import AffineSDE, MarkovPathPosterior, PathData, geometric_rates, rates_for_times
from sciprob.sde.kalman import kalman_filter, smooth
from sciprob.sde.parallel_kalman import parallel_filter, parallel_smooth, scan
from sciprob.sde.states import affine_states, noise_of


def model_of(h, n, kind="I", theta=1.0):
    times = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)).sort().values
    rates = rates_for_times(horizon=1.0, resolution=0.5 / n, kind=kind)
    sde = AffineSDE(h, theta, scale=1.3, initial_std=0.4, kind=kind)
    return affine_states(sde, noise_of(sde, rates, 1.0), times)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 33])
def test_scan_gives_all_prefixes(n):
    matrices = torch.randn(n, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (found,) = scan(lambda one, two: (one[0] @ two[0],), (matrices,))
    product = torch.eye(3, dtype=torch.float64)
    for i in range(n):
        product = product @ matrices[i]
        torch.testing.assert_close(found[i], product)


@pytest.mark.parametrize("kind", ["I", "II"])
@pytest.mark.parametrize("n", [1, 2, 50, 129])
@pytest.mark.parametrize("gaps", [False, True])
def test_agrees_with_the_sequential_ones(kind, n, gaps):
    h = torch.tensor([0.15, 0.5, 0.85], dtype=torch.float64)
    model = model_of(h, n, kind)
    observed = [None if gaps and i % 3 == 1 else i for i in range(n)]
    values = torch.randn(2, 3, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = 0.01 * torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 1e-4
    reference = kalman_filter(model, values, noise, observed)
    mean, variance = smooth(model, reference)
    ours = parallel_filter(model, values, noise, observed)
    ours_mean, ours_variance = parallel_smooth(ours)
    torch.testing.assert_close(ours.log_evidence, reference.log_evidence, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours_mean, mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours_variance, variance.expand(2, 3, n), rtol=0, atol=1e-10)


def test_exact_values_are_met():
    model = model_of(torch.tensor(0.3, dtype=torch.float64), 20)
    values = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(20, dtype=torch.float64)
    reference = kalman_filter(model, values, zero, list(range(20)))
    ours = parallel_filter(model, values, zero, list(range(20)))
    torch.testing.assert_close(ours.log_evidence, reference.log_evidence, rtol=1e-10, atol=0)
    mean, variance = parallel_smooth(ours)
    torch.testing.assert_close(mean, values, rtol=0, atol=1e-9)
    assert float(variance.abs().max()) < 1e-9
    times = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with pytest.raises(DataError, match="already known exactly"):
        MarkovPathPosterior(AffineSDE(0.3), PathData(times, times, 0.0), geometric_rates(0.1, 10.0, 3))


def test_gradients():
    n = 9
    values = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def evidence(h, theta):
        model = model_of(h, n, theta=theta)
        noise = torch.full((n,), 0.01, dtype=torch.float64)
        filtered = parallel_filter(model, values, noise, [None, *range(1, n)])
        return filtered.log_evidence, parallel_smooth(filtered)[0]

    inputs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, 0.8)]
    assert torch.autograd.gradcheck(evidence, inputs, rtol=1e-5)


def test_the_posterior_does_not_depend_on_which_runs():
    """One path runs in parallel, a batch of five copies in sequence."""
    times = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    values = times.sin()
    rates = geometric_rates(1e-2, 1e3, 6)
    one = MarkovPathPosterior(AffineSDE(0.3), PathData(times, values, 0.1), rates)
    many = MarkovPathPosterior(AffineSDE(0.3), PathData(times, values.expand(5, 20), 0.1), rates)
    query = torch.tensor([0.111, 0.5], dtype=torch.float64)
    assert float(one.log_evidence) == pytest.approx(float(many.log_evidence[4]), abs=1e-10)
    torch.testing.assert_close(one.at(query)[0], many.at(query)[0][3], rtol=0, atol=1e-10)
    torch.testing.assert_close(one.at(query)[1], many.at(query)[1][3], rtol=0, atol=1e-10)
