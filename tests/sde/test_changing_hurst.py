"""A Hurst index that changes with time: value form against the exact process, and against constant indices."""

import math

import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.sde import (
    AffineSDE,
    DensePathPosterior,
    MarkovPathPosterior,
    PathData,
    geometric_rates,
    rates_for_times,
    sample_gaussian,
)
from sciprob.sde.gaussian_paths import MultifractionalPath
from sciprob.sde.hurst_curve import HurstFormula, HurstKnots
from sciprob.sde.states import affine_states, multifractional_states, noise_of


def real(*values):
    return torch.tensor(values, dtype=torch.float64)


def state_covariance(model):
    """Covariance of the first components of a state space, by recursion."""
    n, size = len(model.which), model.initial.shape[-1]
    cross = model.initial.new_zeros(n, n)
    columns, p = [], model.initial
    for i in range(n):
        f, q = model.matrix[model.which[i]], model.noise[model.which[i]]
        columns = [f @ c for c in columns]
        p = f @ p @ f.mT + q
        columns.append(p[:, 0].clone())
        for j, c in enumerate(columns):
            cross[i, j] = cross[j, i] = c[0]
    assert size == len(p)
    return cross


SINE = HurstFormula("0.5 + 0.25*sin(2*pi*t)")
TWENTY = torch.arange(1, 21, dtype=torch.float64) / 20


@pytest.mark.parametrize(
    ("lowest", "highest", "count", "error"),
    [(0.05, 20.0, 5, 0.0077), (0.05, 2000.0, 5, 0.0018), (0.02, 3000.0, 8, 3e-4)],
)
def test_error_of_the_value_form(lowest, highest, count, error):
    """Relative Frobenius error of the covariance; reference values computed independently of this package."""
    path = MultifractionalPath(SINE, normalisation="gamma")
    ours = state_covariance(multifractional_states(path, geometric_rates(lowest, highest, count), TWENTY, 1.0))
    exact = path.covariance(TWENTY, TWENTY)
    assert float((ours - exact).norm() / exact.norm()) == pytest.approx(error, rel=0.2)


def test_variance_depends_on_the_index_of_the_moment_alone():
    """0.9207 at t = 1 for H(t) = .35 + .25 t in value form; integrating the increments would give 1.1852."""
    path = MultifractionalPath(HurstFormula("0.35 + 0.25*t"), normalisation="gamma")
    times = torch.arange(1, 41, dtype=torch.float64) / 40
    ours = state_covariance(multifractional_states(path, geometric_rates(0.02, 3000.0, 8), times, 1.0))
    assert float(path.covariance(times, times)[-1, -1]) == pytest.approx(0.9207, abs=5e-5)
    assert float(ours[-1, -1]) == pytest.approx(0.9208, abs=2e-4)


@pytest.mark.parametrize("h", [0.3, 0.8])
def test_a_constant_curve_is_a_constant_index(h):
    times, rates = real(0.1, 0.4, 0.45, 1.0), geometric_rates(0.1, 1e3, 6)
    path = MultifractionalPath(HurstKnots(real(h, h, h), 1.0), scale=1.3, initial_std=0.4, normalisation="gamma")
    sde = AffineSDE(h, scale=1.3, initial_std=0.4, kind="II", normalisation="gamma")
    torch.testing.assert_close(path.covariance(times, times), sde.covariance(times, times), rtol=1e-11, atol=1e-12)
    ours = state_covariance(multifractional_states(path, rates, times, 1.0))
    constant = state_covariance(affine_states(sde, noise_of(sde, rates, 1.0), times))
    torch.testing.assert_close(ours, constant, rtol=1e-9, atol=1e-11)


def test_markov_posterior_is_the_exact_one():
    times = torch.arange(1, 41, dtype=torch.float64) / 40
    path = MultifractionalPath(SINE, scale=1.2, initial_mean=0.3, initial_std=0.5)
    generator = torch.Generator().manual_seed(0)
    values = 0.3 + sample_gaussian(path.covariance(times, times), generator=generator)
    data = PathData(times, values, 0.1)
    rates = rates_for_times(horizon=1.0, resolution=1 / 40, kind="II")
    exact, ours = DensePathPosterior(path, data), MarkovPathPosterior(path, data, rates)
    assert float(ours.log_evidence) == pytest.approx(float(exact.log_evidence), abs=0.05)
    query = real(0.03, 0.5, 0.512, 0.99)
    (mean, std), (exact_mean, exact_std) = ours.at(query), exact.at(query)
    assert float(((mean - exact_mean) / exact_std).abs().max()) < 0.02
    assert float((std / exact_std - 1).abs().max()) < 0.01
    draws = ours.sample(query, generator=torch.Generator().manual_seed(1), shape=(2000,))
    assert float(((draws.mean(0) - mean) / std).abs().max()) < 4 / math.sqrt(2000)


def test_gradients_in_the_knots():
    times = torch.arange(1, 9, dtype=torch.float64) / 8
    values = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rates = geometric_rates(0.1, 100.0, 4)

    def evidence(knots, posterior):
        path = MultifractionalPath(HurstKnots(knots, 1.0))
        return posterior(path, PathData(times, values, 0.3))

    knots = torch.tensor([[0.3, 0.6, 0.7], [0.5, 0.4, 0.8]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: evidence(k, DensePathPosterior).log_evidence, (knots,), rtol=1e-5)
    markov = lambda path, data: MarkovPathPosterior(path, data, rates)  # noqa: E731
    assert torch.autograd.gradcheck(lambda k: evidence(k, markov).log_evidence, (knots,), rtol=1e-5)


def test_knots_interpolate_and_formulas_are_checked():
    curve = HurstKnots(real(0.2, 0.4, 0.8), horizon=2.0)
    torch.testing.assert_close(curve(real(0.0, 0.5, 1.0, 1.5, 2.0, 3.0)), real(0.2, 0.3, 0.4, 0.6, 0.8, 0.8))
    with pytest.raises(ConfigError, match=r"between 0 and 1, got 1\.5 at 1"):
        HurstFormula("0.5 + t")(real(0.1, 1.0))
