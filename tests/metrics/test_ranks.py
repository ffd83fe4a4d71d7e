import numpy as np
import pytest
import torch
from scipy import stats

from sciprob.errors import DataError
from sciprob.metrics.ranks import rank_test, uniform_band, verdict


def ranks_of(width: float, shift: float = 0.0, n: int = 300, draws: int = 99, seed: int = 0) -> torch.Tensor:
    """Ranks of standard normal truths among draws of N(shift, width^2)."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(n, 1, generator=generator)
    sample = shift + width * torch.randn(n, draws, generator=generator)
    return (sample < truth).sum(1)


def test_p_values_of_uniform_ranks_are_uniform():
    generator = torch.Generator().manual_seed(1)
    p = [rank_test(torch.randint(20, (100,), generator=generator), 19).p_value for _ in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 300 * 0.02 < sum(value < 0.05 for value in p) < 300 * 0.09


def test_the_band_holds_all_of_a_uniform_sample_as_often_as_it_says():
    n, draws, generator = 100, 19, torch.Generator().manual_seed(2)
    low, high = uniform_band(n, draws, 0.9)
    r = torch.randint(draws + 1, (2000, n), generator=generator)
    share = (r[:, None, :] < torch.arange(1, draws + 1)[:, None]).double().mean(-1)
    inside = ((share >= low) & (share <= high)).all(1).double().mean()
    assert abs(float(inside) - 0.9) < 0.03  # steps of a discrete distribution, and four standard errors


@pytest.mark.parametrize(
    ("width", "shift", "word"),
    [(1.0, 0.0, "calibrated"), (0.7, 0.0, "over-confident"), (1.5, 0.0, "under-confident"), (1.0, 0.5, "biased")],
)
def test_the_verdict_names_what_is_wrong(width, shift, word):
    tests = {"a": rank_test(ranks_of(1.0, seed=3), 99), "b": rank_test(ranks_of(width, shift, seed=4), 99)}
    assert verdict(tests, ["a", "b"]).startswith(word)


def test_quantities_that_are_not_linear_do_not_tell_the_direction():
    tests = {"a": rank_test(ranks_of(1.0, seed=3), 99), "norm": rank_test(ranks_of(0.5, seed=4), 99)}
    assert verdict(tests, ["a"]).startswith("miscalibrated (")


def test_dispersion_and_bias_have_the_signs_they_state():
    assert rank_test(ranks_of(0.5), 99).dispersion > 1.2
    assert rank_test(ranks_of(2.0), 99).dispersion < 0.8
    assert rank_test(ranks_of(1.0, shift=1.0), 99).bias_z < -5  # draws above the truth
    z = [rank_test(ranks_of(1.0, seed=s), 99).dispersion_z for s in range(200)]
    assert np.std(z) == pytest.approx(1.0, abs=0.2)


def test_too_few_or_impossible_ranks_are_refused():
    with pytest.raises(DataError, match="at least 10 ranks"):
        rank_test(torch.arange(5), 9)
    with pytest.raises(DataError, match="between 0 and 9"):
        rank_test(torch.arange(20), 9)
