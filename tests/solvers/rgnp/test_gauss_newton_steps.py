"""Gauss-Newton steps: the least-squares problem they solve, their samples, and what a short training reaches."""

from __future__ import annotations

import math

import pytest
import torch

import sciprob
from sciprob.errors import ConfigError
from sciprob.random import Streams
from sciprob.solvers.rgnp.gauss_newton import GaussNewton, gauss_newton_step, weights
from sciprob.solvers.rgnp.network import NetworkShape
from sciprob.solvers.rgnp.residuals import mean_field, weighted_residuals
from sciprob.solvers.rgnp.sampling import Collocation, choose_large, sobol_collocation
from sciprob.solvers.rgnp.store import new_network


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_direction_minimises_its_damped_least_squares_problem(momentum: float) -> None:
    """argmin |J phi - r|^2 + lam |phi - mu phi'|^2, solved here by stacked rows."""
    jacobian, r, last = randn(6, 11), randn(6, seed=1), randn(11, seed=2)
    method = GaussNewton(momentum=momentum, damping=0.03)
    lam = 0.03 * (jacobian @ jacobian.T).diagonal().mean()
    rows = torch.cat([jacobian, lam.sqrt() * torch.eye(11, dtype=torch.float64)])
    right = torch.cat([r, lam.sqrt() * momentum * last])
    expected = torch.linalg.lstsq(rows, right.unsqueeze(-1)).solution[:, 0]
    assert torch.allclose(method.direction(r, jacobian, last), expected, rtol=1e-10, atol=1e-12)


def test_a_short_step_lowers_every_residual_of_its_samples_by_its_rate() -> None:
    """With more weights than samples, little damping and no momentum: r -> (1 - rate) r + O(rate^2)."""
    family = sciprob.load_family("burgers-family")
    network = new_network(family, NetworkShape(12, 2, 1), seeded())
    method = GaussNewton(points=20, rate=1e-4, momentum=0.0, damping=1e-10, warmup=0)
    batch = method.samples(family, network, 0, seeded(7))
    before = weighted_residuals(family, network, batch).detach()
    start = torch.zeros_like(weights(network))
    _, rms = gauss_newton_step(method, family, network, start, 0, seeded(7))
    after = weighted_residuals(family, network, batch).detach()
    assert rms == pytest.approx(float(before.square().mean().sqrt()))
    assert (before - after - 1e-4 * before).norm() < 0.05 * 1e-4 * before.norm()


def test_direction_in_single_precision_solves_its_system_in_double() -> None:
    jacobian, r, last = randn(40, 60), randn(40, seed=1), torch.zeros(60, dtype=torch.float64)
    jacobian = jacobian * torch.logspace(0, -4, 60, dtype=torch.float64)  # ill-conditioned, as residual Jacobians are
    method = GaussNewton(damping=1e-3)
    exact = method.direction(r, jacobian, last)
    single = method.direction(r.float(), jacobian.float(), last.float())
    assert single.dtype == torch.float32
    assert (single.double() - exact).norm() <= 1e-3 * exact.norm()


def test_rate_rises_stays_and_falls_to_zero() -> None:
    method = GaussNewton(steps=100, warmup=10, rate=0.5)
    assert method.rate_at(0) == pytest.approx(0.05)
    assert method.rate_at(9) == method.rate_at(49) == pytest.approx(0.5)
    assert method.rate_at(75) == pytest.approx(0.25)
    assert 0 < method.rate_at(99) < method.rate_at(98)


def test_samples_fill_domain_and_boxes_jointly() -> None:
    family = sciprob.load_family("burgers-family")
    batch = sobol_collocation(family, 1024, seeded(), torch.float64)
    assert bool(family.domain.contains(batch.points).all() and family.unknown.contains(batch.z).all())
    unit = torch.cat(
        [family.domain.unit(batch.points), family.unknown.unit(batch.z), family.known.unit(batch.w)], dim=-1
    )
    correlation = torch.corrcoef(unit.T) - torch.eye(unit.shape[-1], dtype=torch.float64)
    assert correlation.abs().max() < 0.02  # independent draws: about 3 / sqrt(1024) = 0.09
    assert (unit.mean(0).abs() < 5e-3).all()
    assert torch.allclose(unit.var(0), torch.full_like(unit[0], 1 / 3), rtol=0.02)
    other = sobol_collocation(family, 1024, seeded(1), torch.float64)
    assert not torch.equal(other.points, batch.points)


def test_mean_square_residual_does_not_depend_on_the_number_of_samples() -> None:
    """Its variance falls as 1/M for independent samples, and faster for the Sobol samples of training."""
    family = sciprob.load_family("poisson-family")
    network = new_network(family, NetworkShape(8, 2, 2), seeded())

    def independent(n: int, generator: torch.Generator) -> Collocation:
        boxes = (family.unknown.sample(n, generator), family.known.sample(n, generator))
        return Collocation(family.domain.sample(n, generator), *boxes)

    def estimates(m: int, seed: int, *, sobol: bool) -> torch.Tensor:
        found, generator = [], seeded(seed)
        for _ in range(60):
            batch = sobol_collocation(family, m, generator, torch.float64) if sobol else independent(m, generator)
            with torch.no_grad():
                found.append(weighted_residuals(family, network, batch).square().mean())
        return torch.stack(found)

    small, large = estimates(16, 1, sobol=False), estimates(256, 2, sobol=False)
    standard = (small.var() / 60 + large.var() / 60).sqrt()
    assert (small.mean() - large.mean()).abs() < 3 * standard
    assert 8 < small.var() / large.var() < 32  # 16 expected; an F test at 60 and 60 degrees of freedom
    assert estimates(256, 3, sobol=True).var() < 0.5 * large.var()


def test_resampling_prefers_large_residuals_in_proportion() -> None:
    n = 20_000
    points = torch.arange(n, dtype=torch.float64).unsqueeze(-1)
    residuals = torch.where(points < n / 2, 3.0, 1.0)
    chosen = choose_large(Collocation(points, points, points), residuals, 1000, seeded())
    share = float((chosen.points < n / 2).double().mean())
    assert share == pytest.approx(0.75, abs=3 * math.sqrt(0.75 * 0.25 / 1000))
    assert len(chosen.points.unique()) == 1000
    everywhere = choose_large(Collocation(points, points, points), torch.zeros(n, 1), 10, seeded())
    assert len(everywhere) == 10  # an exact solution leaves nothing to prefer


def test_a_short_training_solves_the_poisson_family() -> None:
    """Against the collocation reference: a squared relative error of 1e-2 at most in the mean, 1e-3 in the median."""
    family, method = sciprob.load_family("poisson-family"), GaussNewton(points=400, steps=60)
    network = new_network(family, NetworkShape(24, 3, 4), seeded()).float()
    direction, generator, first = torch.zeros_like(weights(network)), seeded(1), math.inf
    for step in range(method.steps):
        direction, residual = gauss_newton_step(method, family, network, direction, step, generator)
        first = residual if step == 0 else first
    assert residual < 0.1 * first
    z, w = family.unknown.sample(20, seeded(2)), family.known.sample(20, seeded(3))
    x = torch.linspace(-1, 1, 81, dtype=torch.float64).unsqueeze(-1)
    u = family.solve(z, w, x)
    with torch.no_grad():
        mean = mean_field(family, network.double(), x, z, w)
    nse = (mean - u).square().sum((1, 2)) / u.square().sum((1, 2))
    assert nse.mean() < 1e-2
    assert nse.median() < 1e-3


def test_steps_depend_on_nothing_but_state_and_streams() -> None:
    family = sciprob.load_family("poisson-family")
    solver = sciprob.solvers.RandomGridNeuralProcess(NetworkShape(6, 1, 1), GaussNewton(points=20, steps=6))
    streams = Streams(3)
    state = solver.init(family, streams)
    for _ in range(4):
        saved = {name: value.clone() for name, value in streams.state_dict().items()}
        before, (state, _) = state, solver.step(family, state, streams)
    streams.load_state_dict(saved)
    again, _ = solver.step(family, before, streams)
    assert torch.equal(again.weights, state.weights)
    assert torch.equal(again.direction, state.direction)


def test_settings_out_of_range_are_named() -> None:
    for settings in ({"points": 0}, {"steps": 0}, {"rate": 0.0}, {"momentum": 1.0}, {"resampled": 1.5}):
        with pytest.raises(ConfigError, match="Gauss-Newton needs"):
            GaussNewton(**settings)  # type: ignore[arg-type]
