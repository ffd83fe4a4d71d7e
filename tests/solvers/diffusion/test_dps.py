"""DPS: its step against the paper's formulas, its law and over-confidence on Gaussians, units, resuming, refusals."""

import math
from itertools import pairwise

import pytest
import torch
from diffusion_twins import (
    affine_law,
    assert_resumes,
    bent_twin,
    drive,
    posterior,
    scalar_twin,
    seeded,
    small_twin,
    twin,
)
from scipy.integrate import solve_ivp

from sciprob.errors import ConfigError
from sciprob.solvers.diffusion import dps as dps_module
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.solvers.diffusion.dps import DPS


def test_step_is_the_papers_algorithm(monkeypatch):
    """Ancestral step of DDPM in x, then x_s - zeta' / |y - A x_0| grad_{x_t} |y - A x_0|^2, written with alpha-bar."""
    problem = small_twin()
    latent, a = latent_problem(problem, None), problem.operator.to_dense()
    draw = torch.randn(5, 3, generator=seeded(8), dtype=torch.float64)
    monkeypatch.setattr(dps_module, "randn", lambda shape, like, generator: draw)
    for start, end, scale in ((4.0, 3.0, 0.7), (0.3, 0.25, 0.2)):
        bar_t, bar_s = 1 / (1 + start**2), 1 / (1 + end**2)
        z = start * torch.randn(5, 3, generator=seeded(7), dtype=torch.float64)
        x = (math.sqrt(bar_t) * z).requires_grad_()
        clean = problem.prior.denoiser(x / math.sqrt(bar_t), start)
        gap = problem.data - clean @ a.T
        energy = gap.square().sum(-1)
        (gradient,) = torch.autograd.grad(energy.sum(), x)
        step = bar_t / bar_s  # alpha_t of DDPM, beta_t = 1 - step
        mean = (
            math.sqrt(bar_s) * (1 - step) / (1 - bar_t) * clean + math.sqrt(step) * (1 - bar_s) / (1 - bar_t) * x
        ).detach()
        spread = math.sqrt((1 - bar_s) / (1 - bar_t) * (1 - step))
        expected = mean + spread * draw - scale / energy.detach().sqrt()[:, None] * gradient
        moved = DPS(scale=scale).move(latent, z, start, end, seeded())
        assert torch.allclose(math.sqrt(bar_s) * moved, expected, atol=1e-12)


def limit_of_the_flow(std, data, start, end):
    """Mean and variance of the likelihood-guided flow for x ~ N(0, 1), by scipy."""

    def velocity(log_sigma, state):
        v = math.exp(2 * log_sigma)
        gain = 1 / (1 + v)
        rate = gain + v * -(gain**2) / std**2  # slope of D + v grad
        push = v * gain * data / std**2
        return [state[0] - (rate * state[0] + push), state[1] - rate * state[1]]

    span = (math.log(start), math.log(end))
    solution = solve_ivp(velocity, span, [0.0, start], method="LSODA", rtol=1e-10, atol=1e-14)
    return solution.y[0, -1], solution.y[1, -1] ** 2


def test_overconfidence_on_a_linear_gaussian_case(monkeypatch):
    """The documented case: posterior N(1.10, 0.083), DPS 1.36 with a variance thousands of times too small."""
    problem = scalar_twin(sigma_min=1e-3)
    mean, covariance = posterior(problem)
    assert float(mean) == pytest.approx(1.100917, abs=1e-6)
    reference_mean, reference_variance = limit_of_the_flow(0.3, 1.2, 80.0, 1e-3)
    assert reference_mean == pytest.approx(1.3628, abs=2e-4)
    errors = []
    for steps in (1000, 4000):
        solver = DPS(guidance="likelihood", ancestral=False, steps=steps)
        reached, law = affine_law(solver, problem, monkeypatch)
        errors.append(abs(float(reached) - reference_mean))
        assert float(law) < float(covariance) / 1000
    assert errors[1] < 0.4 * errors[0]
    assert errors[1] < 0.01
    assert float(covariance) / reference_variance == pytest.approx(5500, rel=0.02)


def test_members_have_the_law_of_the_noisy_recursion(monkeypatch):
    """Ancestral noise does not help: the law of the recursion, still far from the posterior."""
    problem, steps = scalar_twin(sigma_max=20.0), 400
    solver = DPS(guidance="likelihood", steps=steps, samples=4000)
    levels = solver.levels(problem.prior).tolist()
    mean, variance = 0.0, 400.0
    for start, end in pairwise(levels):
        share, gain = (end / start) ** 2, 1 / (1 + start**2)
        slope = share + (1 - share) * (gain - start**2 * gain**2 / 0.09)
        mean = slope * mean + (1 - share) * start**2 * gain * 1.2 / 0.09
        variance = slope**2 * variance + end**2 * (1 - share)
    draws = solver.result(problem, drive(solver, problem)).samples
    assert float(draws.mean()) == pytest.approx(mean, abs=4.5 * math.sqrt(variance / 4000))
    assert float(draws.var()) == pytest.approx(variance, rel=4.5 * math.sqrt(2 / 4000))
    assert variance < 0.75 * float(posterior(problem)[1])


def test_likelihood_guidance_knows_no_units_and_the_normalised_step_does():
    root = DPS(guidance="likelihood", steps=60, samples=4)
    plain, scaled = (drive(root, small_twin(scale=s)).z for s in (1.0, 1000.0))
    assert torch.allclose(plain, scaled, rtol=1e-9)
    normalised = DPS(steps=60, samples=4, scale=0.01)
    plain, scaled = (drive(normalised, small_twin(scale=s)).z for s in (1.0, 10.0))
    assert not torch.allclose(plain, scaled, rtol=1e-2)


def test_calls_blocks_and_resuming():
    problem, solver = bent_twin(), DPS(steps=25, block=10, samples=3, scale=0.1)
    assert solver.max_steps == 3
    assert_resumes(solver, problem)
    state = drive(solver, problem)
    assert solver.diagnostics(problem, state)["network_calls"] == 25
    assert solver.result(problem, state).samples.shape == (3, 2)


def test_no_data_no_guidance(monkeypatch):
    """Scale 0 is the prior's own sampler."""
    problem = twin([[1.0, 0.0]], [[0.5, 0.1], [0.1, 0.3]], [1.0], 0.3, sigma_max=20.0)
    mean, covariance = affine_law(DPS(scale=0.0, steps=600), problem, monkeypatch)
    truth = torch.tensor([[0.5, 0.1], [0.1, 0.3]], dtype=torch.float64)
    assert mean.abs().max() == 0
    assert torch.allclose(covariance, truth, rtol=0.05, atol=0.005)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="guidance"):
        DPS(guidance="strong")
    with pytest.raises(ConfigError, match="samples"):
        DPS(samples=0)
    with pytest.raises(ConfigError, match="scale"):
        DPS(scale=-1.0)
