"""Reliability, Brier score, probabilities of posteriors; the CRPS of ensembles against scoringrules."""

import numpy as np
import pytest
import torch

from sciprob.errors import DataError, ShapeError
from sciprob.metrics.probabilities import brier_score, probability_above, reliability
from sciprob.metrics.scores import coverage, crps_ensemble
from sciprob.operators.linear import DiagonalMap
from sciprob.operators.parameterise import Bounded
from sciprob.posteriors import Ensemble, GaussianPosterior, SamplerPosterior, TransformedPosterior
from sciprob.spaces import Space

N = 40_000


def uniform(seed=0):
    return torch.rand(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_right_probabilities_lie_on_the_diagonal():
    p = uniform()
    diagram = reliability(p, uniform(1) < p)
    band = 4 * (diagram.forecast * (1 - diagram.forecast) / diagram.counts).sqrt()
    assert bool(((diagram.observed - diagram.forecast).abs() < band).all())
    assert diagram.calibration_error < 0.01
    assert int(diagram.counts.sum()) == N


def test_over_confidence_shows():
    p = uniform()
    event = uniform(1) < p
    bold = (p > 0.5).double() * 0.98 + 0.01
    assert reliability(bold, event).calibration_error == pytest.approx(0.24, abs=0.01)  # 3/4 right, 0.99 claimed
    assert brier_score(bold, event) > brier_score(p, event)


def test_the_brier_score_is_that_of_scikit_learn():
    peer = pytest.importorskip("sklearn.metrics")
    p = uniform()
    event = uniform(1) < p**2
    assert brier_score(p, event) == pytest.approx(peer.brier_score_loss(event.numpy(), p.numpy()))


def gaussian(std=0.7):
    space = Space((3,))
    scale = torch.full((3,), std, dtype=torch.float64)
    mean = torch.tensor([-1.0, 0.2, 2.0], dtype=torch.float64)
    return GaussianPosterior(space, mean=mean, root=DiagonalMap(scale, space), variance=scale.square())


def test_probabilities_of_all_posteriors_agree():
    base = gaussian()
    expected = torch.distributions.Normal(base.mean, base.std)
    transformed = TransformedPosterior(base, Bounded(base.space))
    exact = probability_above(base, 0.0)
    torch.testing.assert_close(exact, 1 - expected.cdf(torch.zeros(3).double()))
    torch.testing.assert_close(probability_above(transformed, 0.5), exact)
    assert bool((probability_above(transformed, -0.1) == 1).all())
    assert bool((probability_above(transformed, 1.0) == 0).all())
    sampler = SamplerPosterior(base.space, lambda shape, g: base.sample(shape, generator=g), n_moments=5_000)
    torch.testing.assert_close(probability_above(sampler, 0.0), exact, atol=0.03, rtol=0)


def weighted_ensemble():
    """Members from a wide proposal, with weights that make them the Gaussian."""
    base = gaussian()
    wide = base.mean + 1.5 * base.std * torch.randn(4_000, 3, generator=torch.Generator().manual_seed(0)).double()
    z = (wide - base.mean) / base.std
    log_weights = (-0.5 * z.square() + 0.5 * (z / 1.5).square()).sum(1)
    return base, Ensemble(base.space, wide, log_weights)


def test_weights_count():
    base, ensemble = weighted_ensemble()
    torch.testing.assert_close(probability_above(ensemble, 0.0), probability_above(base, 0.0), atol=0.03, rtol=0)
    truths = base.sample((40,), generator=torch.Generator().manual_seed(1))
    inside = [coverage(ensemble, truth, levels=(0.8,))["0.8"] for truth in truths]
    assert np.mean(inside) == pytest.approx(0.8, abs=4 * (0.16 / 120) ** 0.5)


def test_the_crps_is_that_of_scoringrules():
    peer = pytest.importorskip("scoringrules")
    _, ensemble = weighted_ensemble()
    truth = torch.tensor([-0.3, 0.4, 5.0], dtype=torch.float64)
    members, weights = ensemble.samples[:500], ensemble.weights[:500] / ensemble.weights[:500].sum()
    few, y = members.numpy(), truth.numpy()
    fair = peer.crps_ensemble(y, few, m_axis=0, estimator="fair")
    np.testing.assert_allclose(crps_ensemble(members, truth).numpy(), fair, rtol=1e-8)
    quantile = peer.crps_ensemble(y, few, m_axis=0, ens_w=np.tile(weights.numpy()[:, None], 3), estimator="nrg")
    ours = crps_ensemble(members, truth, weights)
    distance = torch.tensordot(weights, (members - truth).abs(), dims=1)
    plain = distance - (distance - ours) * (1 - weights.square().sum())  # ours divides by 1 - sum w^2 to be fair
    np.testing.assert_allclose(plain.numpy(), quantile, rtol=1e-8)


def test_bad_input_is_refused():
    with pytest.raises(ShapeError, match="one shape"):
        brier_score(torch.rand(3), torch.ones(2))
    for wrong in (torch.tensor([0.5, 1.5]), torch.tensor([0.5, torch.nan]), torch.zeros(0)):
        with pytest.raises(DataError, match=r"\[0, 1\]"):
            reliability(wrong, torch.ones(len(wrong)) > 0)
