"""The expected error of a member: least squares in closed form, true errors, points outside the box, consistency."""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from rgnp_cases import seeded, trained

from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp import linearised_error as module
from sciprob.solvers.rgnp.calibration import ErrorScale
from sciprob.solvers.rgnp.linearised_error import correction, member_points


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def draw(family: ProblemFamily, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(seed)
    return family.unknown.sample(n, generator), family.known.sample(n, generator)


def test_the_correction_solves_its_least_squares() -> None:
    residuals, leading, rest = randn(3, 20, 2), randn(3, 20, 2, 6, seed=1), 5 * randn(3, 20, 2, 4, seed=2)
    found = correction(residuals, leading, rest)
    noise = module._SHARE * rest.square().sum(-1) + module._FLOOR * leading.square().sum(-1).mean(1, keepdim=True)
    for i in range(3):
        weight = torch.diag(1 / noise[i].flatten())
        rows = leading[i].flatten(0, 1)
        expected = -torch.linalg.solve(
            rows.T @ weight @ rows + torch.eye(6).double(), rows.T @ weight @ residuals[i].flatten()
        )
        assert torch.allclose(found[i], expected, rtol=1e-9)


def test_a_residual_in_the_span_is_corrected_and_units_of_equations_do_not_matter() -> None:
    leading, a = randn(2, 30, 2, 5), 1e3 * randn(2, 5, seed=1)
    residuals = -torch.einsum("bmek,bk->bme", leading, a)
    rest = torch.zeros(2, 30, 2, 1, dtype=torch.float64)
    assert torch.allclose(correction(residuals, leading, rest), a, rtol=1e-4)
    units = torch.tensor([1e-4, 1e3], dtype=torch.float64)
    rest = randn(2, 30, 2, 3, seed=2)
    scaled = correction(residuals * units, leading * units[:, None], rest * units[:, None])
    assert torch.allclose(scaled, correction(residuals, leading, rest), rtol=1e-8)


def test_it_finds_the_size_of_true_errors_without_any_reference() -> None:
    """One decade of sizes over members, known to within some ten per cent; Laplace's sd alone knows far less."""
    model, family = trained(), trained().family
    z, w = draw(family, 40, seed=5)
    x = torch.linspace(-0.98, 0.98, 50, dtype=torch.float64).unsqueeze(-1)
    errors = (model.mean(z, w, x) - family.solve(z, w, x)).square().mean(1).sqrt()
    expected, domain = model.expected_errors(z, w)
    typical = domain.square().mean(1).sqrt()
    assert (errors / expected).log().std() < 0.25
    assert (errors / typical).log().std() > 2 * (errors / expected).log().std()
    assert 0.8 < (errors / expected).log().mean().exp() < 1.25


def test_batches_and_chunks_do_not_change_it(monkeypatch) -> None:
    model = trained()
    z, w = draw(model.family, 5)
    whole = model.expected_errors(z, w)
    monkeypatch.setattr(module, "CHUNK", 1)
    for found, one in zip(model.expected_errors(z, w), whole, strict=True):
        assert torch.allclose(found, one, rtol=1e-9)
        assert model.expected_errors(z[:0], w[:0])[0].shape == (0, 1)
    assert torch.allclose(model.expected_errors(z, w[0])[0][:1], whole[0][:1], rtol=1e-9)


def test_points_follow_the_domain() -> None:
    for name, n in (("poisson-family", 64), ("burgers-family", 1024), ("cavity-family", 512)):
        family = trained(name, steps=2, cases=0).family
        points = member_points(family)
        assert points.shape == (n, family.domain.dim)
        assert bool(family.domain.contains(points).all())


def test_all_laws_have_the_calibrated_standard_deviation() -> None:
    """`predict`, `std`, `condition` without data, `factors`: for exponents that change the shape, positive definite."""
    for name in ("poisson-family", "cavity-family"):
        model = trained(name, steps=2, cases=0)
        fields = model.family.n_fields
        model = replace(model, scale=ErrorScale((0.3,) * fields, (0.7,) * fields, (0.5,) * fields))
        z, w = draw(model.family, 2)
        x = model.family.domain.sample(6, seeded(1))
        law, std = model.predict(z[0], w[0], x), model.std(z[0], w[0], x)
        assert torch.allclose(law.std, std, rtol=1e-6)
        covariance = law.covariance()
        assert torch.linalg.eigvalsh(covariance).min() > -1e-12 * covariance.diagonal().max()
        plain = replace(model, scale=ErrorScale()).predict(z[0], w[0], x).covariance()
        correlations = [c / (c.diagonal()[:, None] * c.diagonal()).sqrt() for c in (covariance, plain)]
        assert torch.allclose(*correlations, rtol=1e-6, atol=1e-9)
        vague = model.condition(x[:1], torch.zeros(1, fields).double(), 1e9, z[0], w[0], at=x)
        assert torch.allclose(vague.std, std, rtol=1e-5)
        factors = model.factors(z, w, x)
        assert torch.allclose(factors[0].square().sum(-1).sqrt(), std, rtol=0.2)


def test_an_uncalibrated_map_has_the_size_of_its_errors_and_one_knows_more_outside_the_box() -> None:
    model = trained(cases=0)
    family = model.family
    z, w = draw(family, 30, seed=3)
    x = torch.linspace(-0.95, 0.95, 20, dtype=torch.float64).unsqueeze(-1)
    errors = model.mean(z, w, x) - family.solve(z, w, x)
    inside = torch.stack([model.std(a, b, x) for a, b in zip(z, w, strict=True)])
    assert 0.9 < float((errors.abs() < 2 * inside).double().mean()) < 1
    assert 0.5 < float(inside.square().mean().sqrt() / errors.square().mean().sqrt()) < 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outside = torch.stack([model.std(a, b, x) for a, b in zip(1.5 * torch.sign(z), w, strict=True)])
    assert outside.square().mean().sqrt() > 3 * inside.square().mean().sqrt()
