"""Temperature and conformal factor on errors of known distribution; scores of a calibrated Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from rgnp_cases import seeded, trained

from sciprob.errors import ConfigError, DataError
from sciprob.metrics.scores import crps_gaussian
from sciprob.solvers.rgnp.calibration import ErrorScale, conformal_factor, field_scores


def test_scores_of_a_calibrated_gaussian_have_their_closed_forms() -> None:
    """1e5 errors: coverage of two sd, mean CRPS 1 / sqrt(pi), negative log likelihood, spread over skill."""
    errors = torch.randn(100_000, generator=seeded(), dtype=torch.float64)
    std = torch.ones_like(errors)
    assert float((errors.abs() < 2 * std).double().mean()) == pytest.approx(0.9545, abs=0.003)
    assert float(crps_gaussian(torch.zeros_like(errors), std, errors).mean()) == pytest.approx(0.5642, abs=0.005)
    log_likelihood = torch.distributions.Normal(0.0, 1.0).log_prob(errors)
    assert float(-log_likelihood.mean()) == pytest.approx(1.4189, abs=0.01)
    assert float(std.square().mean().sqrt() / errors.square().mean().sqrt()) == pytest.approx(1.0, abs=0.01)


def synthetic(
    members: int, points: int, factor: float, b: float, p: float, fields: int = 1, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """Errors with the law of `ErrorScale`, members' sizes over three decades: e, s, s over the domain, and X."""
    generator = seeded(seed)

    def spread(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    typical, size = (0.5 * spread(members, fields)).exp(), (1.5 * spread(members, fields)).exp()
    shape = (0.7 * spread(members, points, fields)).exp()
    shape = shape / shape.square().mean(1, keepdim=True).sqrt()
    std = typical.unsqueeze(1) * shape
    sd = factor * (typical * size**b).unsqueeze(1) * shape**p / (shape**p).square().mean(1, keepdim=True).sqrt()
    return sd * spread(members, points, fields), std, std, typical * size


@pytest.mark.parametrize(("factor", "b", "p"), [(0.02, 0.0, 1.0), (1.0, 1.0, 0.5), (30.0, 0.6, 1.4)])
def test_the_law_of_the_errors_is_recovered(factor: float, b: float, p: float) -> None:
    found = ErrorScale.fit(*synthetic(200, 500, factor, b, p, fields=2))
    assert found.factors == pytest.approx([factor, factor], rel=0.05)
    assert found.correction == pytest.approx([b, b], abs=0.03)
    assert found.shape == pytest.approx([p, p], abs=0.03)


def test_a_few_members_are_enough_for_new_ones() -> None:
    """Fitted to 16 members, judged on 500: coverage, spread over error, and against one temperature."""
    found = ErrorScale.fit(*synthetic(16, 64, 0.8, 0.9, 0.6, seed=1))
    errors, std, domain, expected = synthetic(500, 64, 0.8, 0.9, 0.6, seed=2)
    sd = std * found.ratio(std, domain, expected)
    assert 0.93 < float((errors.abs() < 2 * sd).double().mean()) < 0.98
    assert 0.8 < float(sd.square().mean().sqrt() / errors.square().mean().sqrt()) < 1.25
    scaled = std * (errors / std).square().mean().sqrt()
    gain = torch.distributions.Normal(0, sd).log_prob(errors) - torch.distributions.Normal(0, scaled).log_prob(errors)
    assert gain.mean() > 1


def test_units_do_not_matter() -> None:
    """Errors, Laplace's sd and expected errors in other units: sd in these units, for the same coefficients."""
    errors, std, domain, expected = synthetic(20, 50, 0.5, 0.8, 0.7)
    found, other = (ErrorScale.fit(*(c * part for part in (errors, std, domain, expected))) for c in (1.0, 1e-3))
    for name in ("factors", "correction", "shape"):
        assert getattr(other, name) == pytest.approx(getattr(found, name), rel=1e-6)
    ratio = found.ratio(std, domain, expected)
    assert torch.allclose(found.ratio(1e-3 * std, 1e-3 * domain, 1e-3 * expected), ratio, rtol=1e-9)
    louder = ErrorScale.fit(7 * errors, std, domain, expected)
    assert torch.allclose(louder.ratio(std, domain, expected), 7 * ratio, rtol=1e-6)


def test_exponents_stay_in_their_ranges_and_need_members() -> None:
    errors, std, domain, expected = synthetic(40, 50, 1.0, 0.5, 1.0)
    against = ErrorScale.fit(
        errors, std, domain, domain.square().mean(1) / expected
    )  # sizes that fall where errors rise
    assert against.correction == (0.0,)
    few = ErrorScale.fit(errors[:7], std[:7], domain[:7], expected[:7])
    assert (few.correction, few.shape) == ((1.0,), (1.0,))
    alike = ErrorScale.fit(errors, std, domain, 3 * domain.square().mean(1).sqrt())
    assert alike.correction == (1.0,)
    assert alike.factors[0] > 0


def test_coverage_and_spread_are_both_near_where_errors_are_not_normal() -> None:
    """Laplace errors: the factor lies between those that get one of both right."""
    _, std, domain, expected = synthetic(200, 500, 1.0, 1.0, 1.0)
    errors = (
        std
        * torch.distributions.Laplace(0.0, 0.5**0.5).sample(std.shape)
        * (expected / domain.square().mean(1).sqrt()).unsqueeze(1)
    )
    found = ErrorScale.fit(errors, std, domain, expected)
    assert 1.0 < found.factors[0] < float(-(0.5**0.5) * math.log(1 - 0.9545)) / 2


def test_prescribed_values_do_not_count() -> None:
    errors, std, domain, expected = synthetic(10, 30, 1.0, 1.0, 1.0)
    nothing = torch.zeros(10, 5, 1, dtype=torch.float64)
    with_walls = torch.cat([nothing, errors], dim=1), torch.cat([nothing, std], dim=1)
    found = ErrorScale.fit(*with_walls, domain, expected)
    assert found == ErrorScale.fit(errors, std, domain, expected)
    for p in (0.5, 1.5):
        law = ErrorScale(found.factors, found.correction, (p,))
        assert torch.equal(law.ratio(with_walls[1], domain, expected)[:, :5], nothing)
    with pytest.raises(DataError, match="not prescribed"):
        ErrorScale.fit(nothing, nothing, domain, expected)
    with pytest.raises(DataError, match="finite"):
        ErrorScale.fit(errors.log().log(), std, domain, expected)


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
    """Fitted to 40 solutions, judged on 40 others; better than one standard deviation for all."""
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
