"""Split Gibbs: both conditionals, the law of the chains on Gaussians and on nonlinear data, annealing, resuming."""

import pytest
import torch
from diffusion_twins import assert_resumes, bent_posterior, bent_twin, drive, posterior, seeded, small_twin

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.metrics import mcmc
from sciprob.random import Streams
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.solvers.diffusion.proximal import proximal_draw
from sciprob.solvers.diffusion.split_gibbs import SplitGibbs


def assert_moments(ensemble, mean, covariance, bias=0.0):
    """Mean and variances within 4.5 Monte-Carlo standard errors and a stated bias relative to the std."""
    draws, std = ensemble.by_chain(), covariance.diagonal().sqrt()
    assert float(mcmc.rhat(draws).max()) < 1.04
    error = (ensemble.mean - mean).abs()
    assert (error < 4.5 * mcmc.mcse_mean(draws) + bias * std).all()
    square = (draws - mean).square()
    error = (square.mean((0, 1)) - std.square()).abs()
    assert (error < 4.5 * mcmc.mcse_mean(square) + bias * std.square()).all()
    assert (mcmc.mcse_mean(draws) < 0.1 * std).all()


def test_chains_have_the_law_of_blurred_data():
    """p(x) N(y; A x, noise + rho^2 A A^T), exactly but for the SDE's 30 steps (1 % of the variance)."""
    problem, rho = small_twin(), 0.5
    solver = SplitGibbs(chains=200, samples=25, thin=6, burn_in=60, rho_max=5.0, rho_min=rho, prior_calls=30, block=100)
    ensemble = solver.result(problem, drive(solver, problem))
    mean, covariance = posterior(problem, extra=rho**2)
    assert_moments(ensemble, mean, covariance, bias=0.015)
    # and not that of the data themselves, which the blur of 0.5 at noise 0.4 must widen visibly
    sharp = posterior(problem)[1]
    assert float(covariance.trace()) > 1.2 * float(sharp.trace())
    with pytest.raises(AssertionError):
        assert_moments(ensemble, mean, sharp, bias=0.015)


def test_draw_of_the_prior_is_its_posterior_given_a_noisy_point():
    """x given u = x + rho e for x ~ N(0, C): mean D(u), covariance rho^2 C (C + rho^2)^{-1}."""
    problem, rho = small_twin(), 0.7
    latent = latent_problem(problem, None)
    u = torch.tensor([0.5, -0.4, 1.0], dtype=torch.float64).expand(20000, 3)
    draws = SplitGibbs(prior_calls=60).draw_prior(latent, u, rho, seeded(1))
    spectrum, eye = problem.prior.denoiser.spectrum, torch.eye(3, dtype=torch.float64)
    values = rho**2 * spectrum.eigenvalues / (spectrum.eigenvalues + rho**2)
    covariance = spectrum.apply_function(values[None], eye.new_zeros(()), eye)
    std = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - problem.prior.denoiser(u[0], rho)) / std).abs().max() < 0.03
    assert ((draws.T.cov() - covariance) / torch.outer(std, std)).abs().max() < 0.06


def test_draw_of_the_data_is_exact_for_linear_operators():
    problem = small_twin()
    latent, a = latent_problem(problem, None), problem.operator.to_dense()
    centre = torch.tensor([0.3, 0.2, -0.6], dtype=torch.float64)
    draws = proximal_draw(latent, centre.expand(20000, 3), 0.25, seeded(2), 1, 0.5)
    precision = torch.eye(3, dtype=torch.float64) / 0.25 + a.T @ a / 0.16
    covariance = torch.linalg.inv(precision)
    mean = covariance @ (centre / 0.25 + a.T @ problem.data / 0.16)
    std = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean) / std).abs().max() < 4.5 / 20000**0.5
    assert ((draws.T.cov() - covariance) / torch.outer(std, std)).abs().max() < 4.5 * (2 / 20000) ** 0.5


def test_nonlinear_data_by_langevin_steps():
    """Against quadrature of the blurred posterior; Langevin's own bias is the larger part of the tolerance."""
    problem, rho = bent_twin(), 0.3
    solver = SplitGibbs(
        chains=200, samples=30, burn_in=20, rho_max=rho, rho_min=rho, langevin_steps=15, langevin_rate=0.3, block=10
    )
    ensemble = solver.result(problem, drive(solver, problem))
    mean, covariance = bent_posterior(problem, extra=rho**2)
    std = covariance.diagonal().sqrt()
    assert ((ensemble.mean - mean) / std).abs().max() < 0.1
    assert (ensemble.std / std - 1).abs().max() < 0.08


def test_annealing_calls_blocks_and_resuming():
    solver = SplitGibbs(chains=3, samples=4, burn_in=6, rho_max=2.0, rho_min=0.5, decay=0.7, prior_calls=5, thin=2)
    couplings = [solver.rho(i) for i in range(8)]
    assert couplings == pytest.approx([2.0, 1.4, 0.98, 0.686, 0.5, 0.5, 0.5, 0.5])
    problem = small_twin()
    state = drive(solver, problem)
    figures = solver.diagnostics(problem, state)
    assert figures["network_calls"] == 14 * 5
    assert solver.result(problem, state).samples.shape == (12, 3)
    assert_resumes(solver, problem)
    plain, scaled = (drive(solver, small_twin(scale=s)).draws for s in (1.0, 1e-3))
    assert torch.allclose(plain, scaled, rtol=1e-8)


def test_refusals():
    with pytest.raises(UnsupportedProblemError, match="rho_min"):
        drive(SplitGibbs(rho_min=1e-3), small_twin())
    with pytest.raises(ConfigError, match="rho_max"):
        SplitGibbs(rho_max=0.01)
    problem, solver = small_twin(), SplitGibbs(burn_in=5)
    state = solver.init(problem, Streams(0))
    with pytest.raises(UnsupportedProblemError, match="resume"):
        solver.result(problem, state)
