"""Scores against closed forms and numerical integration."""

from __future__ import annotations

import math

import pytest
import torch

from sciprob.errors import DataError, ShapeError
from sciprob.metrics.scores import coverage, crps, crps_ensemble, interval_score, relative_error, score
from sciprob.operators.linear import DiagonalMap
from sciprob.operators.parameterise import Bounded, Exp
from sciprob.posteriors import Ensemble, GaussianPosterior, SamplerPosterior, TransformedPosterior
from sciprob.spaces import Space


def gaussian(mean: torch.Tensor, std: torch.Tensor) -> GaussianPosterior:
    space = Space(tuple(mean.shape))
    return GaussianPosterior(space, mean=mean, root=DiagonalMap(std, space), variance=std.square())


def integral(cdf, y: float, low: float, high: float) -> float:
    """Integral of (F(x) - 1[x >= y])^2 dx, split at the jump."""
    total = 0.0
    for a, b, jump in ((low, y, 0.0), (y, high, 1.0)):
        x = torch.linspace(a, b, 40_001, dtype=torch.float64)
        total += float(torch.trapezoid((cdf(x) - jump).square(), x))
    return total


def test_gaussian_crps_is_the_integral():
    mean = torch.tensor([0.3, 0.3, -1.0], dtype=torch.float64)
    std = torch.tensor([1.0, 0.2, 2.0], dtype=torch.float64)
    truth = torch.tensor([0.0, 1.5, -1.0], dtype=torch.float64)
    values = crps(gaussian(mean, std), truth)
    for m, s, y, value in zip(mean, std, truth, values, strict=True):
        normal = torch.distributions.Normal(m, s)
        assert float(value) == pytest.approx(
            integral(normal.cdf, float(y), float(m - 9 * s), float(m + 9 * s)), rel=1e-6
        )
    certain = crps(gaussian(torch.ones(1), torch.zeros(1)), torch.tensor([3.5]))
    assert float(certain) == pytest.approx(2.5)  # a point forecast: the absolute error


@pytest.mark.parametrize("y", [0.2, 1.0, 5.0])
def test_transformed_crps_is_the_integral(y):
    base = gaussian(torch.tensor([0.1], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64))
    log_normal = torch.distributions.LogNormal(torch.tensor(0.1).double(), torch.tensor(0.7).double())
    value = float(crps(TransformedPosterior(base, Exp(base.space)), torch.tensor([y], dtype=torch.float64)))
    assert value == pytest.approx(integral(lambda x: log_normal.cdf(x.clamp_min(1e-300)), y, 0.0, 100.0), rel=1e-3)


def test_transformed_crps_outside_the_range():
    base = gaussian(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    posterior = TransformedPosterior(base, Bounded(base.space, lower=0.0, upper=1.0))
    inside, outside = (crps(posterior, torch.tensor([y], dtype=torch.float64)) for y in (1.0, 3.0))
    assert float(outside - inside) == pytest.approx(2.0, rel=1e-6)  # beyond all mass it grows as the distance


def test_fair_ensemble_crps_is_the_double_sum():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(7, 2, 3, generator=g, dtype=torch.float64)
    y = torch.randn(2, 3, generator=g, dtype=torch.float64)
    w = torch.rand(7, generator=g, dtype=torch.float64)
    w = w / w.sum()
    pairs = (x[:, None] - x[None]).abs()
    fair = (x - y).abs().mean(0) - pairs.sum((0, 1)) / (2 * 7 * 6)
    torch.testing.assert_close(crps_ensemble(x, y), fair)
    double = torch.einsum("i,j,ij...->...", w, w, pairs) / (1 - w.square().sum())
    weighted = torch.tensordot(w, (x - y).abs(), dims=1) - double / 2
    torch.testing.assert_close(crps_ensemble(x, y, w), weighted)
    torch.testing.assert_close(crps(Ensemble(Space((2, 3)), x, w.log()), y), weighted)


def test_fair_ensemble_crps_is_unbiased():
    # Three members per ensemble only: the plain estimate would be too large by E|x - x'| / 6 = 0.19.
    x = torch.randn(3, 200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = crps_ensemble(x, torch.full((200_000,), 0.4, dtype=torch.float64))
    exact = crps(gaussian(torch.zeros(1).double(), torch.ones(1).double()), torch.tensor([0.4]).double())
    assert float(values.mean()) == pytest.approx(float(exact), abs=4 * float(values.std()) / math.sqrt(200_000))


def test_crps_rewards_the_truth():
    # Properness: averaged over data of the true distribution, no other std does better.
    y = torch.randn(20_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    zero = torch.zeros_like(y)
    scores = {s: float(crps(gaussian(zero, zero + s), y).mean()) for s in (0.7, 1.0, 1.4)}
    assert scores[1.0] < min(scores[0.7], scores[1.4])
    ranked = {s: float(interval_score(gaussian(zero, zero + s), y).mean()) for s in (0.7, 1.0, 1.4)}
    assert ranked[1.0] < min(ranked[0.7], ranked[1.4])


def test_coverage_of_a_calibrated_posterior_is_the_level():
    n = 40_000
    truth = torch.randn(n, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    zero = torch.zeros_like(truth)
    fractions = coverage(gaussian(zero, zero + 1), truth)
    assert list(fractions) == ["0.5", "0.8", "0.9", "0.95"]
    for level, fraction in fractions.items():
        p = float(level)
        assert abs(fraction - p) < 4 * math.sqrt(p * (1 - p) / n)
    narrow = coverage(gaussian(zero, zero + 0.5), truth, [0.9])["0.9"]  # overconfident by a factor 2
    assert narrow == pytest.approx(2 * float(torch.special.ndtr(torch.tensor(0.8224))) - 1, abs=0.01)


def test_score_is_what_the_metrics_file_holds():
    truth = torch.tensor([3.0, 4.0], dtype=torch.float64)
    result = score(gaussian(truth + torch.tensor([0.0, 0.5]), torch.ones(2).double()), truth)
    assert result["relative_error"] == pytest.approx(0.1)
    assert result["coverage"] == {"0.5": 1.0, "0.8": 1.0, "0.9": 1.0, "0.95": 1.0}
    assert isinstance(result["crps"], float)
    assert set(score(gaussian(torch.ones(2), torch.ones(2)), torch.zeros(2))) == {"coverage", "crps"}


def test_samplers_are_scored_by_their_draws():
    posterior = SamplerPosterior(Space((1,)), lambda s, g: torch.randn(*s, 1, generator=g, dtype=torch.float64), 20_000)
    exact = crps(gaussian(torch.zeros(1).double(), torch.ones(1).double()), torch.ones(1).double())
    assert float(crps(posterior, torch.ones(1).double())) == pytest.approx(float(exact), abs=0.02)


def test_bad_truths_are_refused():
    posterior = gaussian(torch.zeros(2), torch.ones(2))
    with pytest.raises(ShapeError, match="truth"):
        coverage(posterior, torch.zeros(3))
    with pytest.raises(DataError, match="zero everywhere"):
        relative_error(torch.ones(2), torch.zeros(2))
    with pytest.raises(DataError, match="two members"):
        crps_ensemble(torch.zeros(1, 2), torch.zeros(2))
