"""Ensembles: weights, quantiles, resampling, samplers."""

from __future__ import annotations

import math

import pytest
import torch

from sciprob.errors import DataError, NonFiniteError, ShapeError
from sciprob.operators.linear import DenseMap
from sciprob.posteriors import Ensemble, SamplerPosterior
from sciprob.spaces import Space


def test_importance_weights_move_a_normal():
    # Mid-point nodes of N(0, 1), weighted to N(1, 1): the ESS is n/e.
    n = 20_001
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    ensemble = Ensemble(Space(()), z, log_weights=z - 0.5)
    assert float(ensemble.mean) == pytest.approx(1.0, abs=2e-3)
    assert float(ensemble.std) == pytest.approx(1.0, abs=2e-2)
    assert ensemble.ess == pytest.approx(n / math.e, rel=0.02)
    assert float(ensemble.quantile(0.3)) == pytest.approx(1 - 0.5244005127, abs=2e-3)


def test_importance_weights_of_random_draws():
    n = 20_001
    z = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ensemble = Ensemble(Space(()), z, log_weights=z)
    # Var of the self-normalised mean: E w^2 (z - 1)^2 / n = 2 e / n.
    assert abs(float(ensemble.mean) - 1) < 3 * math.sqrt(2 * math.e / n)
    assert ensemble.ess == pytest.approx(n / math.e, rel=0.06)


def test_equal_weights_are_no_weights():
    x = torch.randn(11, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, weighted = Ensemble(Space((3,)), x), Ensemble(Space((3,)), x, torch.full((11,), 2.0, dtype=torch.float64))
    q = torch.tensor([0.01, 0.2, 0.5, 0.99], dtype=torch.float64)
    torch.testing.assert_close(plain.std, x.std(0))
    torch.testing.assert_close(weighted.std, x.std(0))
    torch.testing.assert_close(weighted.quantile(q), plain.quantile(q))
    assert weighted.ess == pytest.approx(11)


def test_quantiles_by_the_mid_point_rule():
    ensemble = Ensemble(Space((1,)), torch.tensor([[3.0], [1.0], [2.0], [4.0]], dtype=torch.float64))
    q = torch.tensor([0.125, 0.25, 0.5, 0.875, 0.05, 0.95], dtype=torch.float64)
    expected = torch.tensor([1.0, 1.5, 2.5, 4.0, 1.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(ensemble.quantile(q)[:, 0], expected)
    # Hazen's plotting positions are the same rule.
    x = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    import numpy as np

    levels = np.linspace(0.01, 0.99, 23)
    torch.testing.assert_close(
        Ensemble(Space(()), x).quantile(torch.from_numpy(levels)),
        torch.from_numpy(np.quantile(x.numpy(), levels, method="hazen")),
    )


def test_weighted_quantiles_count_repeats():
    # Weights 1, 3, 2 stand at levels 1/12, 5/12, 10/12.
    w = torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64).log()
    ensemble = Ensemble(Space((2,)), torch.tensor([[0.0, 9.0], [1.0, 5.0], [2.0, 7.0]], dtype=torch.float64), w)
    torch.testing.assert_close(ensemble.quantile(5 / 12), torch.tensor([1.0, 5 + 2 * 2 / 5], dtype=torch.float64))


def test_quantiles_do_not_depend_on_the_chunks(monkeypatch):
    x = torch.randn(30, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ensemble = Ensemble(Space((4, 5)), x, log_weights=x[:, 0, 0])
    expected = ensemble.quantile(torch.tensor([0.1, 0.6]))
    monkeypatch.setattr("sciprob.posteriors.ensemble._CHUNK", 90)
    torch.testing.assert_close(ensemble.quantile(torch.tensor([0.1, 0.6])), expected)
    assert expected.shape == (2, 4, 5)


def test_systematic_resampling_keeps_weighted_means():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=g, dtype=torch.float64)
    ensemble = Ensemble(Space((2,)), x, log_weights=x.sum(1))
    n = 50_000
    resampled = ensemble.resample(n, generator=g)
    assert resampled.log_weights is None
    # Each member appears n w times, rounded up or down.
    counts = (resampled.samples[:, None, 0] == x[None, :, 0]).sum(0)
    assert bool(((counts - n * ensemble.weights).abs() <= 1).all())
    torch.testing.assert_close(resampled.mean, ensemble.mean, atol=200 * 3 / n, rtol=0)
    # Unbiased over u, at any n.
    few = torch.stack([ensemble.resample(7, generator=g).mean for _ in range(3000)])
    error = few.std(0) / math.sqrt(3000)
    assert bool(((few.mean(0) - ensemble.mean).abs() < 4 * error).all())


def test_resampling_equal_weights_repeats_nobody():
    ensemble = Ensemble(Space(()), torch.arange(100.0))
    thinned = ensemble.ensemble(30, generator=torch.Generator().manual_seed(0))
    assert len(thinned.samples.unique()) == 30
    full = ensemble.resample(generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(full.samples, ensemble.samples)


def test_sample_follows_the_weights():
    ensemble = Ensemble(Space(()), torch.tensor([0.0, 1.0]), torch.tensor([0.2, 0.8]).log())
    draws = ensemble.sample((40, 500), generator=torch.Generator().manual_seed(0))
    assert draws.shape == (40, 500)
    assert float(draws.mean()) == pytest.approx(0.8, abs=4 * 0.4 / math.sqrt(20_000))
    assert ensemble.sample((0,), generator=torch.Generator()).shape == (0,)


def test_push_keeps_weights_and_chains():
    a = torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    x = torch.arange(12.0, dtype=torch.float64).reshape(6, 2)
    ensemble = Ensemble(Space((2,)), x, log_weights=x[:, 0], chains=3)
    pushed = ensemble.push(DenseMap(a))
    torch.testing.assert_close(pushed.mean, a @ ensemble.mean)
    assert pushed.chains == 3
    assert pushed.ess == ensemble.ess
    assert ensemble.by_chain().shape == (3, 2, 2)
    torch.testing.assert_close(ensemble.by_chain()[1], x[2:4])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_unusable_weights_are_refused(bad):
    with pytest.raises(NonFiniteError, match="log weights"):
        Ensemble(Space(()), torch.zeros(2), torch.tensor([0.0, bad]))


def test_unusable_members_are_refused():
    with pytest.raises(DataError, match="n > 0"):
        Ensemble(Space((3,)), torch.zeros(0, 3))
    with pytest.raises(ShapeError, match="samples"):
        Ensemble(Space((3,)), torch.zeros(5, 4))
    with pytest.raises(DataError, match="chains"):
        Ensemble(Space((3,)), torch.zeros(5, 3), chains=2)
    with pytest.raises(DataError, match="one per member"):
        Ensemble(Space((3,)), torch.zeros(5, 3), torch.zeros(4))
    with pytest.raises(DataError, match="at least two members"):
        _ = Ensemble(Space(()), torch.zeros(3), torch.tensor([0.0, -math.inf, -math.inf])).std


def test_sampler_states_its_monte_carlo_error():
    space = Space((2,))

    def draw(shape, generator):
        return 3 + 2 * torch.randn(*shape, 2, generator=generator, dtype=torch.float64)

    posterior = SamplerPosterior(space, draw, 4000, seed=1)
    assert bool(((posterior.mean - 3).abs() < 4 * posterior.mean_error).all())
    torch.testing.assert_close(posterior.mean_error, posterior.std / math.sqrt(4000))
    torch.testing.assert_close(posterior.std, torch.full((2,), 2.0, dtype=torch.float64), rtol=0.05, atol=0)
    torch.testing.assert_close(posterior.mean, SamplerPosterior(space, draw, 4000, seed=1).mean, rtol=0, atol=0)
    assert posterior.sample((2, 3), generator=torch.Generator()).shape == (2, 3, 2)
    assert len(posterior.push(DenseMap(torch.eye(2)))) == 4000
    with pytest.raises(ShapeError):
        SamplerPosterior(Space((3,)), draw).sample((2,), generator=torch.Generator())
