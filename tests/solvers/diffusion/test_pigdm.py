"""PiGDM: the paper's algorithm in its own variables, exactness for standard normal priors, and where that ends."""

import math
from itertools import pairwise

import pytest
import torch
from diffusion_twins import (
    affine_law,
    assert_resumes,
    bent_twin,
    drive,
    normal,
    posterior,
    scalar_twin,
    seeded,
    small_twin,
    twin,
)

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.solvers.diffusion import pigdm as pigdm_module
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.solvers.diffusion.pigdm import PiGDM
from sciprob.solvers.setup import check_capabilities


def standard_twin(variance=1.0, sigma_max=40.0):
    return twin(normal(2, 2, 3), variance * torch.eye(3), [0.8, -1.1], 0.4, sigma_max=sigma_max)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_step_is_the_papers_algorithm(eta, monkeypatch):
    """x_s = sqrt(a_s) x_0 + c_1 e + c_2 e_theta + sqrt(a_s a_t) r^2 grad_{x_t} log N(y; A x_0, noise + r^2 A A^T)."""
    problem = small_twin()
    latent, a = latent_problem(problem, None), problem.operator.to_dense()
    draw = torch.randn(5, 3, generator=seeded(8), dtype=torch.float64)
    monkeypatch.setattr(pigdm_module, "randn", lambda shape, like, generator: draw)
    start, end = 1.4, 0.9
    bar_t, bar_s = 1 / (1 + start**2), 1 / (1 + end**2)
    r2 = start**2 / (1 + start**2)
    z = start * torch.randn(5, 3, generator=seeded(7), dtype=torch.float64)
    x = (math.sqrt(bar_t) * z).requires_grad_()
    clean = problem.prior.denoiser(x / math.sqrt(bar_t), start)
    spread = 0.4**2 * torch.eye(2, dtype=torch.float64) + r2 * a @ a.T
    law = torch.distributions.MultivariateNormal(clean @ a.T, spread)
    (gradient,) = torch.autograd.grad(law.log_prob(problem.data).sum(), x)
    noise = ((x - math.sqrt(bar_t) * clean) / math.sqrt(1 - bar_t)).detach()
    c1 = eta * math.sqrt((1 - bar_t / bar_s) * (1 - bar_s) / (1 - bar_t))
    c2 = math.sqrt(1 - bar_s - c1**2)
    expected = math.sqrt(bar_s) * clean.detach() + c1 * draw + c2 * noise + math.sqrt(bar_s * bar_t) * r2 * gradient
    moved = PiGDM(eta=eta).move(latent, z, start, end, seeded())
    assert torch.allclose(math.sqrt(bar_s) * moved, expected, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_score_weighting_is_exact_for_standard_normal_priors(eta, monkeypatch):
    """First order in the step, and to the posterior."""
    problem = standard_twin(sigma_max=1000.0)  # so that the data matter little to the law at the start
    mean, covariance = posterior(problem)
    errors = []
    for steps in (100, 400):
        solver = PiGDM(eta=eta, weighting="score", steps=steps)
        reached, law = affine_law(solver, problem, monkeypatch)
        errors.append(float((reached - mean).abs().max() + (law - covariance).abs().max()))
    assert errors[1] < 0.35 * errors[0]
    assert errors[1] < 0.02


def test_other_variances_are_wrong_in_the_documented_direction(monkeypatch):
    """Members of a narrower prior hardly see the data; those of a wider one see them too sharply."""
    for variance, wider in ((0.05, True), (9.0, False)):
        problem = standard_twin(variance)
        _, covariance = posterior(problem)
        _, law = affine_law(PiGDM(eta=0.0, weighting="score", steps=600), problem, monkeypatch)
        a = problem.operator.to_dense()
        seen, truth = (torch.linalg.matrix_norm(a @ c @ a.T, 2) for c in (law, covariance))
        assert (float(seen) > 1.02 * float(truth)) == wider, (float(seen), float(truth))


def test_adaptive_weights_grow_more_confident_with_steps(monkeypatch):
    """The numbers of the docstring, with the recursion written out for one unknown."""
    problem, variances = scalar_twin(), []
    for steps in (20, 100, 1000):
        _, law = affine_law(PiGDM(steps=steps), problem, monkeypatch)
        levels, variance = PiGDM(steps=steps).levels(problem.prior).tolist(), 80.0**2
        for start, end in pairwise(levels):
            gain, r2 = 1 / (1 + start**2), start**2 / (1 + start**2)
            churn2 = end**2 * (1 - (end / start) ** 2)
            rest = math.sqrt(end**2 - churn2) / start
            variance = (gain + rest * (1 - gain) - r2 * gain**2 / (0.09 + r2)) ** 2 * variance + churn2
        assert float(law) == pytest.approx(variance, rel=1e-9)
        variances.append(variance / float(posterior(problem)[1]))
    assert variances == pytest.approx([0.335, 0.171, 0.053], abs=2e-3)


def test_units_calls_and_resuming():
    solver = PiGDM(steps=30, samples=4, block=7)
    plain, scaled = (drive(solver, small_twin(scale=s)) for s in (1.0, 1e-3))
    assert torch.allclose(plain.z, scaled.z, rtol=1e-9)
    assert plain.network_calls == 30
    assert_resumes(solver, small_twin())


def test_refusals():
    with pytest.raises(UnsupportedProblemError, match="linear"):
        check_capabilities(PiGDM(), bent_twin())
    assert Capability.LINEAR in PiGDM.needs
    with pytest.raises(ConfigError, match="weighting"):
        PiGDM(weighting="none")
