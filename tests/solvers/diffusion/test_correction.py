"""The final Metropolis correction."""

import math

import pytest
import torch
from solver_cases import bent_problem, dense_bayes, linear_problem, quadrature, solve

from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.solvers.diffusion.correction import log_density_ratio
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble


def test_the_score_along_a_segment_gives_the_ratio_of_densities():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, 3, generator=g, dtype=torch.float64) for _ in range(2))
    gaussian = GaussianDenoiser.of_covariance(torch.diag(torch.tensor([1.0, 0.1, 3.0], dtype=torch.float64)))
    exact = gaussian.log_prob(y, 0.2) - gaussian.log_prob(x, 0.2)
    assert torch.allclose(log_density_ratio(gaussian, x, y, 0.2), exact, rtol=1e-11)
    eye = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    mixture = MixtureDenoiser(torch.tensor([0.3, 0.7]), torch.stack([x[0], y[0]]), eye)
    near = x + (y - x) / 4  # quadrature errs on long segments of a mixture, by 1e-3 here
    exact = mixture.log_prob(near, 0.5) - mixture.log_prob(x, 0.5)
    assert torch.allclose(log_density_ratio(mixture, x, near, 0.5), exact, atol=1e-6)


def test_chains_repair_particles_that_are_too_few_levels_away():
    # Three Euler steps leave a far too wide ensemble; the chains do not inherit that
    problem = linear_problem(unknowns=4, measurements=3)
    mean, covariance, _ = dense_bayes(problem)
    solver = DiffusionEnsemble(particles=100, steps=3, move="continuous", kappa=1.0, corrections=120, sigma_min=0.01)
    posterior, figures = solve(solver, problem)
    std = covariance.diagonal().sqrt()
    assert figures["acceptance"] == pytest.approx(0.57, abs=0.1)
    assert figures["rhat_max"] < 1.1
    assert bool(((posterior.mean - mean).abs() < 4.5 * std / math.sqrt(figures["ess_bulk_min"])).all())
    assert torch.allclose(posterior.std, std, rtol=0.12)
    plain, _ = solve(DiffusionEnsemble(particles=200, steps=3, move="continuous", kappa=1.0, sigma_min=0.01), problem)
    assert float((plain.std / std).max()) > 1.3


def test_nonlinear_chains_against_quadrature():
    problem = bent_problem()
    mean, covariance, _ = quadrature(problem)
    solver = DiffusionEnsemble(particles=200, steps=6, corrections=40, sigma_min=0.01)
    posterior, figures = solve(solver, problem)
    std = covariance.diagonal().sqrt()
    assert bool(((posterior.mean - mean).abs() < 4.5 * std / math.sqrt(figures["ess_bulk_min"])).all())
    assert torch.allclose(posterior.std, std, rtol=0.1)
