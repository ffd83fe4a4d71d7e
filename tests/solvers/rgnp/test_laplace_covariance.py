"""The Laplace covariance against dense formulas, and conditioning against Gaussian process regression."""

from __future__ import annotations

import pytest
import torch
from rgnp_cases import seeded, trained
from torch import Tensor

import sciprob
from sciprob.errors import ConfigError
from sciprob.solvers.rgnp.conditioning import condition_root
from sciprob.solvers.rgnp.jacobian import sample_jacobian
from sciprob.solvers.rgnp.laplace import (
    LaplaceCovariance,
    field_root,
    field_variance,
    principal_directions,
    sample_rows,
)
from sciprob.solvers.rgnp.network import NetworkShape
from sciprob.solvers.rgnp.residuals import weighted_residuals
from sciprob.solvers.rgnp.sampling import sobol_collocation
from sciprob.solvers.rgnp.store import new_network


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ["poisson-family", "cavity-family"])
@pytest.mark.parametrize("precision", [1.0, 4.0])
def test_covariance_of_weights_is_the_inverse_of_the_damped_gauss_newton_matrix(name: str, precision: float) -> None:
    """Also with more rows than weights; noise is estimated for each equation by itself."""
    family = sciprob.load_family(name)
    network = new_network(family, NetworkShape(3, 1, 1), seeded())
    batch = sobol_collocation(family, 64, seeded(1), torch.float64)
    covariance = LaplaceCovariance.of(family, network, batch, precision)
    r, jacobian = sample_jacobian(network, lambda: weighted_residuals(family, network, batch))
    hessian = precision * torch.eye(jacobian.shape[-1], dtype=torch.float64)
    for k in range(r.shape[-1]):
        hessian += jacobian[:, k].T @ jacobian[:, k] / r[:, k].square().mean()
    root = covariance.apply_root(torch.eye(covariance.size, dtype=torch.float64))
    expected = torch.linalg.inv(hessian)
    assert (root @ root.T - expected).norm() <= 1e-8 * expected.norm()
    assert torch.allclose(root, root.T, atol=1e-12)


def test_roots_of_fields_are_joint_and_their_rows_give_the_variances() -> None:
    model = trained()
    family, network, covariance = model.family, model.network, model.covariance
    z, w, x = (
        family.unknown.sample(1, seeded())[0],
        family.known.sample(1, seeded(1))[0],
        family.domain.sample(9, seeded(2)),
    )
    root = field_root(family, network, covariance, x, z, w)
    assert root.shape == (9, 9)
    batch = sobol_collocation(family, 9, seeded(), torch.float64)
    batch = type(batch)(x, z.expand(9, -1), w.expand(9, -1))
    rows = covariance.apply_root(sample_rows(family, network, batch)[:, 0])
    assert torch.allclose(root @ root.T, rows @ rows.T, rtol=1e-9, atol=1e-14)
    variance = field_variance(family, network, covariance, x, z, w)
    assert torch.allclose(variance[:, 0], root.square().sum(-1), rtol=1e-9)
    assert (root @ root.T - torch.diag(variance[:, 0])).abs().max() > 0.1 * variance.max()  # neighbours move together


def test_draws_have_the_covariance_and_are_functions() -> None:
    """1e5 draws within three to four standard errors; slopes of a draw match those of its neighbours."""
    model = trained()
    z, w = model.family.unknown.sample(1, seeded(4))[0], model.family.known.sample(1, seeded(5))[0]
    x = torch.tensor([[-0.5], [0.1], [0.1001]], dtype=torch.float64)
    law = model.predict(z, w, x)
    draws = law.sample((100_000,), generator=seeded(6))[..., 0] - law.mean[:, 0]
    exact = law.covariance()
    empirical = draws.T @ draws / len(draws)
    variances = exact.diagonal()
    standard = ((variances[:, None] * variances + exact.square()) / len(draws)).sqrt()
    assert ((empirical - exact).abs() < 4 * standard).all()
    assert (draws[:, 2] - draws[:, 1]).std() < 0.02 * draws[:, 1].std()  # no white noise


def test_principal_directions_keep_most_of_the_variance_and_never_add_any() -> None:
    model = trained()
    family, network, covariance = model.family, model.network, model.covariance
    batch = sobol_collocation(family, 50, seeded(9), torch.float64)
    exact = covariance.apply_root(sample_rows(family, network, batch)).square().sum(-1)
    shares = []
    for count in (16, 64, 256):
        found = principal_directions(family, network, covariance, count, others=200)
        kept, rest = (
            sample_rows(family, network, batch, part).square().sum(-1) for part in (found.leading, found.rest)
        )
        shares.append(kept / exact)
        assert ((kept + rest).mean() / exact.mean() - 1).abs() < 3 * (
            2 / 200
        ) ** 0.5 * rest.mean() / exact.mean() + 1e-9
    assert all(bool((share <= 1 + 1e-9).all()) for share in shares)
    assert bool((shares[0] <= shares[1] + 1e-12).all() or shares[0].mean() < shares[1].mean())
    assert shares[2].mean() > 0.95


def test_covariance_rises_outside_the_box() -> None:
    model = trained()
    inside, w = model.family.unknown.sample(20, seeded(1)), model.family.known.sample(1, seeded(2))[0]
    x = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64).unsqueeze(-1)
    near = torch.stack([model.std(z, w, x) for z in inside]).mean()
    outside = 2.5 * torch.sign(inside)
    with pytest.warns(UserWarning, match="lie outside the box"):
        far = torch.stack([model.std(z, w, x) for z in outside]).mean()
    assert far > 2 * near


def test_conditioning_equals_gaussian_process_regression() -> None:
    data_root, root, misfit, noise = randn(5, 8), randn(7, 8, seed=1), randn(5, seed=2), 0.1 + randn(5, seed=3).abs()
    shift, conditioned = condition_root(data_root, root, misfit, noise)
    gain = root @ data_root.T @ torch.linalg.inv(data_root @ data_root.T + torch.diag(noise**2))
    assert torch.allclose(shift, gain @ misfit, rtol=1e-8, atol=1e-10)
    expected = root @ root.T - gain @ data_root @ root.T
    assert torch.allclose(conditioned @ conditioned.T, expected, rtol=1e-8, atol=1e-10)


def test_more_data_never_raise_a_variance_and_exact_data_are_interpolated() -> None:
    model = trained()
    z, w = model.family.unknown.sample(1, seeded(4))[0], model.family.known.sample(1, seeded(5))[0]
    x = model.family.domain.sample(12, seeded(6))
    at = torch.linspace(-0.95, 0.95, 31, dtype=torch.float64).unsqueeze(-1)
    u = model.family.solve(z, w, torch.cat([x, at]))
    before = model.predict(z, w, at)
    few = model.condition(x[:4], u[:4], 1e-3, z, w, at)
    many = model.condition(x, u[:12], 1e-3, z, w, at)
    slack = 1e-12 * before.variance.max()
    assert bool((few.variance <= before.variance + slack).all() and (many.variance <= few.variance + slack).all())
    assert many.std.mean() < 0.5 * before.std.mean()
    at_data = model.condition(x[:4], u[:4], 1e-7, z, w)
    assert (at_data.mean - u[:4]).abs().max() < 1e-5
    assert at_data.std.max() < 2e-7
    assert (many.mean - u[12:]).abs().mean() < (before.mean - u[12:]).abs().mean()


def test_endless_noise_changes_nothing() -> None:
    model = trained()
    z, w, x = (
        model.family.unknown.sample(1, seeded())[0],
        model.family.known.sample(1, seeded())[0],
        randn(3, 1).clamp(-1, 1),
    )
    free, vague = model.predict(z, w, x), model.condition(x, torch.ones(3, 1).double(), 1e6, z, w)
    assert torch.allclose(free.mean, vague.mean, atol=1e-10)
    assert torch.allclose(free.std, vague.std, rtol=1e-8, atol=1e-14)


def test_a_covariance_needs_samples() -> None:
    model = trained()
    empty = sobol_collocation(model.family, 2, seeded(), torch.float64)[:0]
    with pytest.raises(ConfigError, match="needs collocation samples"):
        LaplaceCovariance.of(model.family, model.network, empty)
