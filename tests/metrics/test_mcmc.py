"""Chain diagnostics against ArviZ and against chains whose answer is known."""

import math

import pytest
import torch

from sciprob.errors import DataError
from sciprob.metrics import mcmc


def chains(rho, shape=(4, 400, 3), seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = [noise[:, 0]]
    for t in range(1, shape[1]):
        x.append(rho * x[-1] + math.sqrt(1 - rho**2) * noise[:, t])
    return torch.stack(x, 1)


def cases():
    sticky = chains(0.5, seed=3)
    sticky[:, 1::2] = sticky[:, ::2]  # repeated draws, as after rejections
    apart = chains(0.3, (4, 101, 2), seed=4)
    apart[0] += 2
    return {
        "independent": chains(0.0),
        "correlated": chains(0.9),
        "antithetic": chains(-0.6),
        "repeated": sticky,
        "apart-odd": apart,
        "short": chains(0.2, (2, 5, 4), seed=5),
        "heavy": chains(0.7, (3, 200, 2), seed=6).pow(3),
    }


@pytest.mark.parametrize("name", list(cases()))
def test_agrees_with_arviz(name):
    stats = pytest.importorskip("arviz_stats.base").array_stats
    x = cases()[name]
    array = x.movedim(-1, 0).numpy()  # event first, chains and draws last
    pairs = [
        (mcmc.rhat(x), stats.rhat(array)),
        (mcmc.ess_bulk(x), stats.ess(array, method="bulk")),
        (mcmc.ess_tail(x), stats.ess(array, method="tail", prob=(0.05, 0.95))),
        (mcmc.ess_mean(x), stats.ess(array, method="mean")),
        (mcmc.mcse_mean(x), stats.mcse(array, method="mean")),
    ]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=1e-8, atol=1e-10)


def test_autoregression_has_the_known_sample_size():
    """An AR(1) chain with coefficient rho has n (1 - rho) / (1 + rho) effective draws."""
    x = chains(0.8, (4, 4000, 5), seed=1)
    expected = 16000 * 0.2 / 1.8
    assert (mcmc.ess_mean(x) / expected - 1).abs().max() < 0.2


def test_chains_apart_are_seen():
    x = chains(0.0, seed=2)
    assert mcmc.rhat(x).max() < 1.02
    assert mcmc.rhat(x + torch.arange(4.0)[:, None, None]).min() > 1.3
    assert mcmc.rhat(x * (1 + 3 * torch.arange(4.0))[:, None, None]).min() > 1.1  # only the spread differs


def test_events_chunks_and_constants(monkeypatch):
    x = chains(0.4, (3, 60, 7))
    whole = mcmc.ess_bulk(x)
    monkeypatch.setattr(mcmc, "_CHUNK", 3 * 60 * 2)
    torch.testing.assert_close(mcmc.ess_bulk(x), whole, rtol=0, atol=0)
    assert mcmc.rhat(x.reshape(3, 60, 7, 1)).shape == (7, 1)
    assert mcmc.rhat(x[..., 0]).shape == ()
    still = torch.cat([x, torch.ones(3, 60, 1, dtype=torch.float64)], -1)
    assert mcmc.rhat(still)[-1].isnan()
    assert mcmc.ess_bulk(still)[-1] == 180
    assert mcmc.summary(still) == mcmc.summary(x)


def test_too_few_or_broken_draws_are_refused():
    with pytest.raises(DataError, match="at least 4 draws"):
        mcmc.rhat(torch.zeros(2, 3))
    with pytest.raises(DataError, match="finite"):
        mcmc.rhat(torch.full((2, 10), math.nan))


def test_advice_is_given_to_chains_that_disagree_or_stand_still():
    draws = torch.randn(4, 400, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert mcmc.advice(mcmc.summary(draws)) == {}
    apart = mcmc.summary(draws + torch.arange(4.0)[:, None, None])
    assert "longer chains" in mcmc.advice(apart)["advice"]
    assert "R-hat reaches" in mcmc.advice(mcmc.summary(draws[:, :10]))["advice"]
