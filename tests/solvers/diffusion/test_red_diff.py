"""RED-diff: its gradient, stationary point on a Gaussian, least squares without weight, units, no network gradient."""

import pytest
import torch
from diffusion_twins import assert_resumes, bent_twin, drive, normal, posterior, small_twin, twin

from sciprob.errors import ConfigError
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.solvers.diffusion.red_diff import RedDiff


def covariance_of(problem):
    spectrum, eye = problem.prior.denoiser.spectrum, torch.eye(3, dtype=torch.float64)
    return spectrum.apply_function(spectrum.eigenvalues[None], eye.new_zeros(()), eye)


def test_expected_gradient():
    """A^T r + weight sigma^2 (C + sigma^2)^{-1} mu, in the mean over the noise."""
    problem, solver, sigma = small_twin(), RedDiff(weight=1.7), 0.6
    latent, a = latent_problem(problem, None), problem.operator.to_dense()
    mu = torch.tensor([0.4, -1.0, 0.7], dtype=torch.float64)
    e = normal(3, 40000, 3)
    e = torch.cat([e, -e])  # antithetic: the mean of a linear function is exact
    gradient, misfit = solver.gradient(latent, mu.expand(80000, 3), sigma, e)
    c = covariance_of(problem)
    pull = torch.linalg.solve(c + sigma**2 * torch.eye(3, dtype=torch.float64), mu)
    expected = a.T @ (a @ mu - problem.data) / 0.16 + 1.7 * sigma**2 * pull
    assert torch.allclose(gradient.mean(0), expected, atol=1e-11)
    assert torch.allclose(misfit[0], (a @ mu - problem.data).square().sum() / 0.16)


def test_stationary_point_on_a_gaussian():
    """With random levels: (A^T A / s^2 + weight mean sigma^2 (C + sigma^2)^{-1}) mu = A^T y / s^2."""
    problem = small_twin()
    solver = RedDiff(samples=400, steps=1500, weight=1.3, learning_rate=0.005, times="random", block=500)
    mean = solver.result(problem, drive(solver, problem)).mean
    latent, a = latent_problem(problem, None), problem.operator.to_dense()
    c, eye = covariance_of(problem), torch.eye(3, dtype=torch.float64)
    levels = solver.levels(latent)
    pull = sum(s**2 * torch.linalg.inv(c + s**2 * eye) for s in levels.tolist()) / len(levels)
    expected = torch.linalg.solve(a.T @ a / 0.16 + 1.3 * pull, a.T @ problem.data / 0.16)
    assert (mean - expected).norm() < 0.02 * expected.norm()
    assert (posterior(problem)[0] - expected).norm() > 0.05 * expected.norm()  # not the posterior mean


def test_falling_levels_end_without_regularisation():
    """The last gradients know no prior: the data are fitted beyond their noise."""
    problem = small_twin()
    state = drive(RedDiff(samples=4, steps=1500, block=500), problem)
    figures = RedDiff().diagnostics(problem, state)
    assert figures["mean_misfit"] < 0.2 * figures["data"]
    mean = posterior(problem)[0]
    a = problem.operator.to_dense()
    expected_misfit = float((a @ mean - problem.data).square().sum() / 0.16)
    assert figures["mean_misfit"] < expected_misfit


def test_without_weight_it_is_least_squares():
    matrix = normal(4, 5, 3)
    problem = twin(matrix, torch.eye(3), normal(5, 5), 0.4, sigma_max=20.0)
    state = drive(RedDiff(samples=2, steps=1500, weight=0.0, learning_rate=0.003, block=500), problem)
    expected = torch.linalg.lstsq(matrix, problem.data[:, None]).solution[:, 0]
    assert torch.allclose(state.mu, expected.expand(2, 3), atol=1e-3)


def test_no_derivative_of_the_network_is_taken():
    """The gradient is not that of the surrogate loss differentiated through the network."""
    problem = small_twin()
    latent = latent_problem(problem, None)
    solver, sigma = RedDiff(), 0.8
    mu, e = normal(6, 2, 3).requires_grad_(), normal(7, 2, 3)
    noisy = mu + sigma * e
    predicted = (noisy - problem.prior.denoiser(noisy, sigma)) / sigma
    loss = latent.residual(mu).square().sum() / 2 + sigma * ((predicted - e) * mu).sum()
    (through,) = torch.autograd.grad(loss, mu, retain_graph=True)
    stopped = latent.residual(mu).square().sum() / 2 + sigma * ((predicted - e).detach() * mu).sum()
    (expected,) = torch.autograd.grad(stopped, mu)
    gradient, _ = solver.gradient(latent, mu.detach(), sigma, e)
    assert torch.allclose(gradient, expected, atol=1e-12)
    assert not torch.allclose(gradient, through, rtol=0.05)


def test_units_nonlinear_data_calls_and_resuming():
    solver = RedDiff(samples=3, steps=30, block=7)
    plain, scaled = (drive(solver, small_twin(scale=s)) for s in (1.0, 1e-3))
    assert torch.allclose(plain.mu, scaled.mu, rtol=1e-6)
    state = drive(solver, bent_twin())
    assert state.network_calls == 30
    assert solver.result(bent_twin(), state).samples.shape == (3, 2)
    assert_resumes(solver, bent_twin())


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="times"):
        RedDiff(times="ascending")
    with pytest.raises(ConfigError, match="learning_rate"):
        RedDiff(learning_rate=0.0)
