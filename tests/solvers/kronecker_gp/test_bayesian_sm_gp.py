"""Sampling of kernel parameters: gradients, quadrature over one parameter, spread of the mixture, resumption."""

import math
from dataclasses import replace

import gp_problems as cases
import pytest
import torch

from sciprob.errors import ConvergenceError
from sciprob.metrics import mcmc
from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.kernels import GaussianMixture
from sciprob.priors.kernels.hyperpriors import KernelPrior
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.random import Streams
from sciprob.solvers.kronecker_gp import bayesian, kernel_density
from sciprob.solvers.kronecker_gp.bayesian import KernelSampler, figures, mixture
from sciprob.solvers.kronecker_gp.hyperparameters import softened
from sciprob.solvers.kronecker_gp.kernel_density import KernelDensity
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra
from sciprob.solvers.state import pack, settle, unpack
from sciprob.spaces import GridSpace

pytest.importorskip("pyro")
STD = 0.1
GRID = TensorPoints((torch.linspace(0, 1, 9, dtype=torch.float64),))
SPACE = GridSpace((9,), "u", ("x",), lower=(0.0,), upper=(1.0,), centring="node")


def measured(n=12, std=STD):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(n, 1, generator=g, dtype=torch.float64)
    values = torch.sin(5 * x[:, 0]) + std * torch.randn(n, generator=g, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    return Functionals("sensors", ("x",), ScatteredPoints(x), {"": one}, values, std * one)


def density(free=("log_decay",), rows=None, kernel=None):
    """Regression with one component whose width is free, and more if asked."""
    kernel = kernel or GaussianMixture([0.6], [0.0], [4.0])
    for name, p in kernel.named_parameters():
        p.requires_grad_(name in free)
    prior = KernelPrior.around(kernel, 1.0)
    return KernelDensity(LinearAlgebra(1e-13, 0), (kernel,), rows or [measured()], (prior,))


def sampled(target, samples=60, seed=0):
    sampler, streams = KernelSampler(target, GRID, samples, warm_up=30), Streams(seed)
    state = sampler.begin(streams)
    while not sampler.finished(state):
        state = sampler.step(state, streams)
    return state


def test_kernels_too_narrow_to_factorise_are_refused_before_work_is_done(monkeypatch):
    """Leapfrog steps that are too long end there; without a limit one step asked for 170 GB in two dimensions."""
    target = density()
    wide, narrow = target.origin, target.origin + 6
    monkeypatch.setattr(kernel_density, "LARGEST_RANK", 11)
    assert math.isfinite(target.value_and_slope(wide)[0])
    with pytest.raises(ConvergenceError, match="rank"):
        target.value_and_slope(narrow)


@pytest.fixture(scope="module")
def chains():
    return sampled(density())


def k(a, b, log_decay):
    return 0.6 * torch.exp(-log_decay.exp() * (a - b.T).square())


def by_quadrature(target):
    """Weights on a line of log decay, and mean and variance of u on the grid for each, all from dense matrices."""
    rows, points = target.functionals[0], torch.linspace(-4, 7, 221, dtype=torch.float64)
    x, y = rows.points.points, rows.values
    logs, means, variances = [], [], []
    for log_decay in points:
        kernel = target.at(log_decay.reshape(1))[0]

        data = torch.distributions.MultivariateNormal(
            torch.zeros_like(y), k(x, x, log_decay) + STD**2 * torch.eye(len(y))
        )
        logs.append(data.log_prob(y) + target.priors[0].log_prior(kernel).detach())
        grid = GRID.lines[0][:, None]
        gain = k(grid, x, log_decay) @ torch.linalg.inv(data.covariance_matrix)
        means.append(gain @ y)
        variances.append(0.6 - (gain * k(grid, x, log_decay)).sum(1))
    weights = torch.softmax(torch.stack(logs), 0)
    return points, weights, torch.stack(means), torch.stack(variances)


def test_parameter_and_field_agree_with_quadrature(chains):
    points, weights, means, variances = by_quadrature(density())
    mean = float(weights @ points)
    std = math.sqrt(float(weights @ (points - mean).square()))
    error = float(mcmc.mcse_mean(chains.parameters)[0])
    assert abs(float(chains.parameters.mean()) - mean) < 4 * error < std
    assert 0.7 < float(chains.parameters.std()) / std < 1.4
    posterior = mixture(SPACE, chains)
    total = weights @ (variances + means.square()) - (weights @ means).square()
    errors = mcmc.mcse_mean(chains.fields.mean(2)) + 1e-9
    assert bool(((posterior.mean - weights @ means).abs() < 5 * errors).all())
    torch.testing.assert_close(posterior.std, total.sqrt(), rtol=0.3, atol=0)
    assert 0.85 < float(posterior.std.mean() / total.sqrt().mean()) < 1.15


def test_gradient_by_differences_with_an_exact_row_beside_noisy_ones():
    one = torch.ones((), dtype=torch.float64)
    end = ScatteredPoints(torch.zeros(1, 1, dtype=torch.float64))
    exact = Functionals("end", ("x",), end, {"": one}, 0.3 * one.reshape(1), 1e-10 * one)
    kernel = GaussianMixture([0.4, 0.2], [0.1, 1.3], [4.0, 2.0])
    target = density(("log_weights", "frequencies", "log_decay"), softened([kernel], [exact, measured()]), kernel)
    theta = target.origin
    slope = target.value_and_slope(theta)[1]
    for i in range(len(theta)):
        move = torch.zeros_like(theta)
        move[i] = 1e-3
        rise = target.value_and_slope(theta + move)[0] - target.value_and_slope(theta - move)[0]
        assert abs(float(rise / 2e-3 - slope[i])) < 1e-3 * (1 + float(slope.abs().max()))


def test_potential_has_the_slope_of_the_density_through_the_coordinates():
    target = density(("log_weights", "log_decay"))
    root = target.whitening()
    z = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    theta = target.origin + root @ z
    (found,) = torch.autograd.grad(target.potential(theta), z)
    torch.testing.assert_close(found, -root.T @ target.value_and_slope(theta.detach())[1])


def test_whitened_curvature_is_one():
    """At the mode second differences of the potential along the columns of the root are one."""
    target = density()
    points, weights, _, _ = by_quadrature(target)
    mode = float(points[weights.argmax()].exp())
    target = density(kernel=GaussianMixture([0.6], [0.0], [mode]))
    root, step = target.whitening()[0], 0.02
    values = [target.value_and_slope(target.origin + s * root)[0] for s in (-step, 0.0, step)]
    assert float(2 * values[1] - values[0] - values[2]) / step**2 == pytest.approx(1, rel=0.02)


def test_mixture_is_wider_than_its_members_on_average(chains):
    target = density()
    members = [target.process(theta).std(GRID).square() for theta in chains.parameters.flatten(0, 1)[::4]]
    spread = mixture(SPACE, chains).std
    assert float(spread.mean()) > float(torch.stack(members).mean(0).sqrt().mean())
    assert float(spread.mean()) >= float(target.process(target.origin).std(GRID).mean())


def test_pairs_are_mirrored_at_the_conditional_means(chains):
    theta = chains.parameters[1, 7]
    torch.testing.assert_close(chains.fields[1, 7].mean(0), density().process(theta).mean(GRID))


def test_resumed_chains_equal_uninterrupted_ones():
    sampler, streams = KernelSampler(density(), GRID, 12, warm_up=12), Streams(5)
    state = settle(sampler.begin(streams))
    while not sampler.finished(state):
        tensors, numbers = {}, {k: v.clone() for k, v in streams.state_dict().items()}
        tree = pack(state, "state", tensors)
        tensors = {k: v.clone() for k, v in tensors.items()}
        state = settle(sampler.step(state, streams))
        again = Streams(5)
        again.load_state_dict(numbers)
        loaded = unpack(tree, tensors, torch.device("cpu"), [bayesian.__name__])
        loaded = settle(sampler.step(loaded, again))
        assert torch.equal(loaded.positions, state.positions)
        assert torch.equal(loaded.fields, state.fields)
        assert torch.equal(loaded.parameters, state.parameters)
    assert state.kept == 12


def test_figures_tell_of_convergence(chains):
    found = figures(chains)
    assert found["hyperparameters"] == 1
    assert found["rhat_max"] < 1.2
    assert found["divergences"] <= 2
    assert found["gradients"] > 2 * 90


def test_frozen_parameters_and_the_given_kernels_stay():
    target = density()
    before = {name: p.clone() for name, p in target.kernels[0].named_parameters()}
    moved = target.at(target.origin + 1)[0]
    assert torch.equal(moved.log_weights, before["log_weights"])
    torch.testing.assert_close(moved.log_decay, before["log_decay"] + 1)
    assert all(torch.equal(p, before[name]) for name, p in target.kernels[0].named_parameters())


def test_values_that_are_not_finite_are_refused_with_a_reason():
    with pytest.raises(ConvergenceError, match="singular"):
        density().value_and_slope(torch.tensor([800.0], dtype=torch.float64))


def test_softened_rows_keep_larger_noise():
    row = measured()
    (same,) = softened([GaussianMixture([0.6], [0.0], [4.0])], [row])
    assert torch.equal(same.std, row.std)
    (soft,) = softened([GaussianMixture([0.25], [0.0], [4.0])], [replace(row, std=row.std * 1e-12)])
    assert float(soft.std) == pytest.approx(0.5e-6)


def test_solver_returns_the_mixture_with_diagnostics_of_its_chains(monkeypatch):
    monkeypatch.setattr(bayesian, "_DEPTH", 2)  # what is tested is the way through the solver
    c = cases.collocation(lambda x: torch.sin(5 * x), points=(9,), upper=(1.0,))
    given = collocation_problem(
        "noisy", replace(c, sensors=(measured(),), std=5.0), kernels=[GaussianMixture([0.6], [0.0], [4.0])]
    )
    posterior = cases.solved(given, hyperparameters="nuts", samples=4, warm_up=10, evidence_steps=0)
    found = posterior.meta["diagnostics"]
    assert isinstance(posterior, Ensemble)
    assert len(posterior) == 16
    assert found["hyperparameters"] == 3
    assert {"rhat_max", "ess_bulk_min", "divergences"} <= set(found)
    assert float((posterior.mean - torch.sin(5 * GRID.lines[0])).abs().max()) < 0.3
