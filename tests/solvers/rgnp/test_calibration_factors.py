"""Temperature and conformal factor on errors of known distribution; scores of a calibrated Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from rgnp_cases import seeded, trained

from sciprob.errors import ConfigError, DataError
from sciprob.metrics.scores import crps_gaussian
from sciprob.solvers.rgnp.calibration import conformal_factor, field_scores, temperature


def test_scores_of_a_calibrated_gaussian_have_their_closed_forms() -> None:
    """1e5 errors: coverage of two sd, mean CRPS 1 / sqrt(pi), negative log likelihood, spread over skill."""
    errors = torch.randn(100_000, generator=seeded(), dtype=torch.float64)
    std = torch.ones_like(errors)
    assert float((errors.abs() < 2 * std).double().mean()) == pytest.approx(0.9545, abs=0.003)
    assert float(crps_gaussian(torch.zeros_like(errors), std, errors).mean()) == pytest.approx(0.5642, abs=0.005)
    log_likelihood = torch.distributions.Normal(0.0, 1.0).log_prob(errors)
    assert float(-log_likelihood.mean()) == pytest.approx(1.4189, abs=0.01)
    assert float(std.square().mean().sqrt() / errors.square().mean().sqrt()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("factor", [0.02, 1.0, 30.0])
def test_temperature_finds_the_scale_of_gaussian_errors(factor: float) -> None:
    std = torch.rand(40, 500, 2, generator=seeded(), dtype=torch.float64) + 0.1
    errors = factor * std * torch.randn(std.shape, generator=seeded(1), dtype=torch.float64)
    assert float(temperature(errors, std)) == pytest.approx(factor, rel=0.02)


def test_prescribed_values_do_not_count() -> None:
    std = torch.tensor([[[0.0], [1.0], [1.0]]], dtype=torch.float64)
    errors = torch.tensor([[[0.0], [2.0], [2.0]]], dtype=torch.float64)
    assert float(temperature(errors, std)) == pytest.approx(1.0)
    with pytest.raises(DataError, match="not prescribed"):
        temperature(errors[:, :1], std[:, :1])
    with pytest.raises(DataError, match="finite"):
        temperature(errors.log().log(), std)


def test_conformal_factor_is_the_stated_order_statistic() -> None:
    scores = torch.arange(1.0, 20.0)  # 19 scores: ceil(20 * 0.9) = 18
    assert conformal_factor(scores[torch.randperm(19, generator=seeded())], 0.9) == 18.0
    assert conformal_factor(scores[:9], 0.9) == 9.0
    with pytest.raises(DataError, match="at least 9 reference solutions, got 8"):
        conformal_factor(scores[:8], 0.9)


def test_conformal_factor_covers_new_scores_of_any_distribution() -> None:
    generator = seeded(3)
    covered = 0
    for _ in range(2000):
        scores = torch.rand(20, generator=generator).pow(-2)  # heavy tails
        covered += bool(scores[-1] <= conformal_factor(scores[:-1], 0.9))
    assert covered / 2000 == pytest.approx(
        0.9, abs=3 * math.sqrt(0.09 / 2000)
    )  # 18 / 20 exactly, as scores have no ties


def test_field_scores_are_levels_of_each_field() -> None:
    errors = torch.stack([torch.linspace(0, 1, 101), torch.linspace(0, 2, 101)]).unsqueeze(-1)
    assert torch.allclose(field_scores(errors, torch.ones_like(errors), 0.8), torch.tensor([0.8, 1.6]))


def test_calibrated_intervals_cover_new_solutions() -> None:
    """Fitted to 40 solutions, judged on 40 others; without a temperature nearly everything is inside."""
    model, generator = trained(), seeded(11)
    family = model.family
    x = torch.linspace(-0.95, 0.95, 25, dtype=torch.float64).unsqueeze(-1)
    z, w = family.unknown.sample(80, generator), family.known.sample(80, generator)
    u = family.solve(z, w, x)
    fitted = model.calibrate(z[:40], w[:40], x, u[:40])
    errors = (u - fitted.mean(z, w, x))[40:]
    std = torch.stack([fitted.std(a, b, x) for a, b in zip(z[40:], w[40:], strict=True)])
    assert 0.88 < float((errors.abs() < 2 * std).double().mean()) < 0.995
    log_likelihood = torch.distributions.Normal(0.0, std).log_prob(errors).mean()
    alike = (
        torch.distributions.Normal(0.0, (u - fitted.mean(z, w, x))[:40].square().mean().sqrt()).log_prob(errors).mean()
    )
    assert log_likelihood > alike + 0.5  # it knows where it errs
    wide = fitted.calibrate(z[:40], w[:40], x, u[:40], confidence=0.9)
    inside = []
    for a, b, truth in zip(z[40:], w[40:], u[40:], strict=True):
        low, high = wide.band(a, b, x)
        inside.append(bool(((truth >= low) & (truth <= high)).double().mean() >= 0.9))
    assert sum(inside) >= 30  # of 40, at least 0.9 expected
    with pytest.raises(ConfigError, match="no band of confidence"):
        wide.band(z[0], w[0], x, 0.5)
    with pytest.raises(DataError, match="at least one reference solution"):
        model.calibrate(z[:0], w[:0], x, u[:0])
