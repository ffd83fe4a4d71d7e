"""DAPS: its law on Gaussians by recursion, the limit of that, nonlinear data by quadrature, units, resuming."""

import math
from itertools import pairwise

import pytest
import torch
from diffusion_twins import (
    affine_law,
    assert_resumes,
    bent_posterior,
    bent_twin,
    drive,
    posterior,
    scalar_twin,
    seeded,
    small_twin,
)

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.levels import karras_levels
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.solvers.diffusion.daps import DAPS
from sciprob.solvers.diffusion.proximal import largest_curvature, proximal_draw


def recursion(problem, levels, flow):
    """Mean and covariance of the members, with the flow as a function of sigma -> matrix."""
    a, std = problem.operator.to_dense(), float(problem.likelihood.noise.std)
    eye = torch.eye(a.shape[1], dtype=torch.float64)
    mean, covariance = torch.zeros(a.shape[1], dtype=torch.float64), levels[0] ** 2 * eye
    for start, end in pairwise(levels):
        local = torch.linalg.inv(eye / start**2 + a.T @ a / std**2)
        carry = local @ flow(start) / start**2
        mean = carry @ mean + local @ a.T @ problem.data / std**2
        covariance = carry @ covariance @ carry.T + local + end**2 * eye
    return mean, covariance


def test_members_have_the_law_of_the_recursion(monkeypatch):
    """The flow by Euler steps in sigma, the draw given the data, and fresh noise, written out with dense matrices."""
    problem, solver = small_twin(), DAPS(steps=30, flow_calls=4)
    spectrum, eye = problem.prior.denoiser.spectrum, torch.eye(3, dtype=torch.float64)

    def flow(sigma):
        matrix = eye
        stops = karras_levels(4, sigma, 0.002).tolist() if sigma > 0.002 else [sigma, 0.0]
        for start, end in pairwise(stops):
            gain = spectrum.eigenvalues / (spectrum.eigenvalues + start**2)
            slope = spectrum.apply_function(((1 - gain) / start)[None], eye.new_zeros(()), eye)
            matrix = (eye + (end - start) * slope) @ matrix
        return matrix

    mean, covariance = recursion(problem, solver.levels(problem.prior).tolist(), flow)
    reached, law = affine_law(solver, problem, monkeypatch)
    assert torch.allclose(reached, mean, atol=1e-10)
    assert torch.allclose(law, covariance, atol=1e-10)


def test_limit_is_the_posterior_of_a_prior_with_twice_the_covariance(monkeypatch):
    problem = small_twin()
    spectrum, eye = problem.prior.denoiser.spectrum, torch.eye(3, dtype=torch.float64)

    def exact_flow(sigma):
        ratio = (spectrum.eigenvalues / (spectrum.eigenvalues + sigma**2)).sqrt()
        return spectrum.apply_function(ratio[None], eye.new_zeros(()), eye)

    for steps, tolerance in ((2000, 0.01), (500, 0.04)):
        mean, covariance = recursion(problem, karras_levels(steps, 20.0, 0.002).tolist(), exact_flow)
        doubled_mean, doubled = posterior(problem, prior_factor=2.0)
        assert (mean - doubled_mean).abs().max() < tolerance
        assert (covariance - doubled).abs().max() < tolerance * float(doubled.max())
    # the solver with a good flow is near that limit, and far from the posterior
    _, law = affine_law(DAPS(steps=150, flow_calls=25), problem, monkeypatch)
    truth = posterior(problem)[1]
    assert float((law - doubled).abs().max()) < 0.3 * float((truth - doubled).abs().max())


def test_well_measured_directions_are_right(monkeypatch):
    problem = scalar_twin(std=0.1)
    mean, covariance = posterior(problem)
    reached, law = affine_law(DAPS(steps=100), problem, monkeypatch)
    assert float(reached) == pytest.approx(float(mean), rel=0.006)
    assert float(law) == pytest.approx(float(covariance), rel=0.006)


def test_members_draw_the_same_law_by_the_driver():
    """Monte-Carlo bands at 4.5 standard errors around the law of the impulses."""
    problem, solver = scalar_twin(), DAPS(steps=20, samples=4000)
    with pytest.MonkeyPatch.context() as patch:
        mean, variance = (float(value) for value in affine_law(solver, problem, patch))
    draws = solver.result(problem, drive(solver, problem)).samples
    assert float(draws.mean()) == pytest.approx(mean, abs=4.5 * math.sqrt(variance / 4000))
    assert float(draws.var()) == pytest.approx(variance, rel=4.5 * math.sqrt(2 / 4000))


def test_langevin_draws_for_nonlinear_data():
    """Around one centre, against quadrature of the likelihood times N(centre, I): the posterior of a shifted prior."""
    problem = bent_twin()
    latent = latent_problem(problem, None)
    mean, covariance = bent_posterior(problem)
    draws = proximal_draw(latent, torch.zeros(3000, 2, dtype=torch.float64), 1.0, seeded(3), 150, 0.15)
    assert ((draws.mean(0) - mean) / covariance.diagonal().sqrt()).abs().max() < 0.1
    assert ((draws.T.cov() - covariance) / covariance.diagonal().max()).abs().max() < 0.1


def test_curvature_estimate():
    """The largest singular value of the Jacobian, from below by power iterations."""
    latent = latent_problem(bent_twin(std=0.5), None)
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda m: latent.operator(m) / 0.5, x[0])
    exact = float(torch.linalg.matrix_norm(jacobian, 2) ** 2)
    estimate = largest_curvature(latent, x, seeded())
    assert 0.5 * exact < estimate <= exact * (1 + 1e-12)


def test_nonlinear_run_units_calls_and_resuming():
    problem, solver = bent_twin(), DAPS(steps=12, samples=5, langevin_steps=10, flow_calls=3, block=5)
    state = drive(solver, problem)
    assert solver.diagnostics(problem, state)["network_calls"] == 12 * 3 - 2  # the last level needs one call
    assert_resumes(solver, problem)
    plain, scaled = (drive(DAPS(steps=15, samples=3), small_twin(scale=s)).z for s in (1.0, 1e-3))
    assert torch.allclose(plain, scaled, rtol=1e-9)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="langevin_rate"):
        DAPS(langevin_rate=2.0)
    with pytest.raises(ConfigError, match="flow_calls"):
        DAPS(flow_calls=0)
