import numpy as np
import pytest
import torch

from sciprob.errors import DataError, ShapeError
from sciprob.metrics.multivariate import (
    classifier_two_sample,
    energy_score,
    maximum_mean_discrepancy,
    variogram_score,
)


def normal(*shape, seed, scale=1.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_scores_agree_with_scoringrules():
    scoringrules = pytest.importorskip("scoringrules")
    samples, truth = normal(40, 2, 3, seed=0), normal(2, 3, seed=1)
    x, y = samples.flatten(1).numpy(), truth.flatten().numpy()
    ours = variogram_score(samples, truth)
    assert 30 * ours == pytest.approx(float(scoringrules.vs_ensemble(y, x, p=0.5)), rel=1e-12)  # theirs: ordered pairs
    fair = scoringrules.es_ensemble(y, x, estimator="fair")
    assert energy_score(samples, truth) == pytest.approx(float(fair), rel=1e-12)


def test_weights_count_members():
    samples, truth = normal(6, 4, seed=2), normal(4, seed=3)
    counts = torch.tensor([1, 2, 1, 3, 1, 2])
    repeated = samples.repeat_interleave(counts, 0)
    weights = counts.double() / counts.sum()
    assert variogram_score(samples, truth, weights) == pytest.approx(variogram_score(repeated, truth), rel=1e-12)
    equal = torch.full((6,), 1 / 6, dtype=torch.float64)
    assert energy_score(samples, truth, equal) == pytest.approx(energy_score(samples, truth), rel=1e-12)


@pytest.mark.parametrize("score", [energy_score, variogram_score])
def test_the_true_law_has_the_best_expected_score(score):
    root = torch.tensor([[1.0, 0.0], [0.9, 0.435]], dtype=torch.float64)  # correlation .9
    truths = normal(400, 2, seed=4) @ root.T
    laws = {"true": normal(300, 2, seed=5) @ root.T, "wide": 2 * normal(300, 2, seed=5) @ root.T,
            "independent": normal(300, 2, seed=5)}  # fmt: skip
    scores = {name: np.mean([score(law, truth) for truth in truths]) for name, law in laws.items()}
    assert min(scores, key=scores.get) == "true"


def test_mmd_is_zero_on_average_for_equal_laws_and_grows_with_the_shift():
    same = [maximum_mean_discrepancy(normal(60, 3, seed=s), normal(50, 3, seed=1000 + s)) for s in range(100)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 10
    shifted = [maximum_mean_discrepancy(normal(60, 3, seed=s), 1 + normal(50, 3, seed=1000 + s)) for s in range(10)]
    assert min(shifted) > 3 * np.std(same)


def test_mmd_of_one_dimensional_gaussians_has_its_closed_form():
    x, y = normal(1200, 1, seed=6), 0.5 + normal(1200, 1, seed=7)
    joint = torch.cat([x, y])
    distance = torch.cdist(joint, joint).square()
    median = float(distance[~torch.eye(2400, dtype=torch.bool)].median())
    factor = (median / (median + 2)) ** 0.5
    exact = 2 * factor * (1 - np.exp(-0.25 / (2 * (median + 2))))
    assert maximum_mean_discrepancy(x, y, lengths=(1.0,)) == pytest.approx(exact, rel=0.2)


def test_a_classifier_is_at_chance_for_equal_laws_and_finds_a_wrong_covariance():
    def accuracy(a, b):
        return classifier_two_sample(a, b, generator=torch.Generator().manual_seed(8))

    equal = [accuracy(normal(200, 4, seed=s), normal(200, 4, seed=500 + s)) for s in range(20)]
    assert abs(np.mean(equal) - 0.5) < 4 * 0.5 / np.sqrt(400 * 20)
    root = torch.tensor([[1.0, 0.0], [0.9, 0.435]], dtype=torch.float64)
    assert accuracy(normal(400, 2, seed=9), normal(400, 2, seed=10) @ root.T) > 0.65  # equal marginals
    # x ~ N(0, 1) against N(2, 1): the best classifier is right with probability Phi(1)
    assert accuracy(normal(2000, 1, seed=11), 2 + normal(2000, 1, seed=12)) == pytest.approx(0.841, abs=0.02)
    assert accuracy(normal(200, 500, seed=13), 3 * normal(200, 500, seed=14)) > 0.9  # more entries than members


def test_mistakes_are_named():
    with pytest.raises(ShapeError, match="as the truth"):
        energy_score(normal(5, 3, seed=0), normal(2, seed=0))
    with pytest.raises(DataError, match="at least two members"):
        energy_score(normal(1, 3, seed=0), normal(3, seed=0))
    with pytest.raises(DataError, match="at least two entries"):
        variogram_score(normal(5, 1, seed=0), normal(1, seed=0))
    with pytest.raises(DataError, match="at least 50 members"):
        classifier_two_sample(normal(20, 1, seed=0), normal(20, 1, seed=0), generator=torch.Generator())
    with pytest.raises(ShapeError):
        maximum_mean_discrepancy(normal(5, 1, seed=0), normal(5, 2, seed=0))
