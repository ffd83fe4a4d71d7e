"""The move `renoised`: exact on Gaussians, near quadrature on curved data, its linear algebra, its refusals."""

import math
from dataclasses import replace

import pytest
import torch
from solver_cases import bent_problem, dense_bayes, drive, linear_problem, quadrature, same_state, solve

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DenseMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.diffusion.spectrum import FourierSpectrum
from sciprob.problems.problem import Problem
from sciprob.solvers.diffusion import renoised
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.ensemble_setup import EnsembleMethod, EnsembleSetup
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.renoised import DenoisedCovariance, particle_conjugate_gradients

N = 3000


def gaussian_twin(d=5, m=3):
    """A correlated Gaussian known by its denoiser, with itself as surrogate; and the same as a `GaussianPrior`."""
    g = torch.Generator().manual_seed(0)
    eye = torch.eye(d, dtype=torch.float64)
    root = torch.randn(d, d, generator=g, dtype=torch.float64) / 2 + eye / 2
    prior = GaussianPrior(torch.randn(d, generator=g, dtype=torch.float64), DenseMap(root))
    operator = DenseMap(torch.randn(m, d, generator=g, dtype=torch.float64), domain=prior.space)
    exact = Problem("gaussian", prior, Likelihood(operator, GaussianNoise(operator.codomain, 0.4))).simulate(g)
    learned = DiffusionPrior(GaussianDenoiser.of_prior(prior), surrogate=prior)
    return Problem("twin", learned, exact.likelihood, data=exact.data), exact


@pytest.mark.parametrize(("steps", "correctors"), [(3, 0), (12, 0), (3, 2)])
def test_a_gaussian_twin_is_exact_for_any_number_of_steps(steps, correctors):
    problem, exact = gaussian_twin()
    mean, covariance, _ = dense_bayes(exact)
    solver = DiffusionEnsemble(particles=N, steps=steps, move="renoised", correctors=correctors)
    posterior, figures = solve(solver, problem)
    std = covariance.diagonal().sqrt()
    assert bool(((posterior.mean - mean).abs() < 4.5 * std / math.sqrt(N)).all())
    assert torch.allclose(posterior.std, std, rtol=4.5 / math.sqrt(2 * N))
    assert figures["weights"] == "equal"
    assert "log_evidence" not in figures


def test_a_whitened_prior_of_the_package_is_such_a_twin():
    problem = linear_problem(unknowns=6, measurements=4, white=9)
    mean, covariance, _ = dense_bayes(problem)
    posterior, _ = solve(DiffusionEnsemble(particles=N, steps=4, move="renoised"), problem)
    std = covariance.diagonal().sqrt()
    assert bool(((posterior.mean - mean).abs() < 4.5 * std / math.sqrt(N)).all())
    assert torch.allclose(posterior.std, std, rtol=4.5 / math.sqrt(2 * N))


@pytest.mark.parametrize("std", [0.3, 1.0])
def test_curved_data_against_quadrature(std):
    problem = bent_problem(std)
    mean, covariance, _ = quadrature(problem)
    exact = covariance.diagonal().sqrt()

    def shift(**settings):
        posterior, _ = solve(DiffusionEnsemble(particles=N, **settings), problem)
        assert torch.allclose(posterior.std, exact, rtol=0.06)
        return float(((posterior.mean - mean) / exact).abs().max())

    monte_carlo = 2.5 / math.sqrt(N)
    assert shift(steps=20) < 0.25
    assert shift(steps=20, correctors=3) < 0.05 + monte_carlo  # Gibbs steps repair what linearisation does


def prior_of_another_width(share, d=4):
    """N(a, share C) by its denoiser with the surrogate N(a, C), C = I / 2; N(a, share C) as a `GaussianPrior`."""
    g = torch.Generator().manual_seed(5)
    eye, centre = torch.eye(d, dtype=torch.float64), torch.randn(d, generator=g, dtype=torch.float64)
    surrogate, prior = (GaussianPrior(centre, DenseMap(math.sqrt(c / 2) * eye)) for c in (1.0, share))
    operator = DenseMap(torch.randn(2, d, generator=g, dtype=torch.float64), domain=prior.space)
    exact = Problem("width", prior, Likelihood(operator, GaussianNoise(operator.codomain, 0.4))).simulate(g)
    learned = DiffusionPrior(GaussianDenoiser.of_prior(prior), surrogate=surrogate)
    return Problem("wide", learned, exact.likelihood, data=exact.data), exact


def renoised_move(problem, sets=None):
    return EnsembleSetup(LatentProblem(problem, data=sets), EnsembleMethod("renoised", "surrogate"), 100).move(None)


@pytest.mark.parametrize("share", [0.3, 2.0])
def test_the_spread_of_the_prior_takes_the_place_of_a_surrogate_that_is_too_wide_or_too_narrow(share):
    problem, exact = prior_of_another_width(share)
    mean, covariance, _ = dense_bayes(exact)
    posterior, _ = solve(DiffusionEnsemble(particles=N, steps=6, move="renoised"), problem)
    std = covariance.diagonal().sqrt()
    assert bool(((posterior.mean - mean).abs() < 4.5 * std / math.sqrt(N)).all())
    assert torch.allclose(posterior.std, std, rtol=4.5 / math.sqrt(2 * N))


def test_the_estimated_spread_is_that_of_the_denoiser():
    g = torch.Generator().manual_seed(6)
    means = 1.5 * torch.randn(4, 3, generator=g, dtype=torch.float64)
    mixture = MixtureDenoiser(torch.ones(4), means, 0.05 * torch.eye(3, dtype=torch.float64).expand(4, 3, 3))
    twin, _ = gaussian_twin(d=3, m=2)
    problem = replace(twin, prior=DiffusionPrior(mixture, surrogate=twin.prior.surrogate))
    sets = twin.data.expand(2, *twin.data.shape)
    move = renoised_move(problem, sets)
    for v in (0.1, 2.0):
        z = means[torch.arange(2 * N) % 4] + math.sqrt(v) * torch.randn(2 * N, 3, generator=g, dtype=torch.float64)
        z = z.reshape(2, N, 3).requires_grad_()
        denoised = mixture(z, math.sqrt(v))
        trace = sum(torch.autograd.grad(denoised[..., i].sum(), z, retain_graph=True)[0][..., i] for i in range(3))
        c = twin.prior.surrogate.root.to_dense()
        c = c @ c.T
        whole = torch.trace(v * c @ torch.linalg.inv(c + v * torch.eye(3, dtype=torch.float64)))
        exact = v * float(trace.mean()) / float(whole)
        assert 0.05 < exact < 4
        assert move.spread(z.detach(), denoised.detach(), v, g) == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(("share", "bound"), [(1e-3, 0.05), (1e3, 4.0)])
def test_an_estimated_spread_that_cannot_be_true_is_bounded(share, bound):
    problem, _ = prior_of_another_width(share)
    move, g = renoised_move(problem), torch.Generator().manual_seed(7)
    z = torch.randn(10, 4, generator=g, dtype=torch.float64)
    assert move.spread(z, problem.prior.denoiser(z, 3.0), 9.0, g) == bound


def test_particles_start_from_the_surrogate_with_noise():
    problem, exact = gaussian_twin()
    move, v = renoised_move(problem), 0.5
    z = move.start(40_000, v, torch.Generator().manual_seed(8)).z
    root = exact.prior.root.to_dense()
    expected = root @ root.T + v * torch.eye(5, dtype=torch.float64)
    assert bool(((z.mean(0) - exact.prior.mean).abs() < 4.5 * (expected.diagonal() / len(z)).sqrt()).all())
    assert float((torch.cov(z.T) - expected).abs().max()) < 5 * float(expected.diagonal().max()) * math.sqrt(2 / len(z))


def test_particles_in_parts_are_drawn_as_at_once(monkeypatch):
    problem, g = bent_problem(), torch.Generator().manual_seed(9)
    sets = torch.tensor([[0.8, 0.7], [-1.5, 0.2]], dtype=torch.float64)
    move, z = renoised_move(problem, sets), torch.randn(2, 7, 2, generator=g, dtype=torch.float64)
    whole = move.draw(z, 0.4, torch.Generator().manual_seed(1))
    monkeypatch.setattr(renoised, "_AT_ONCE", 12)  # three particles of two data sets
    parts = move.draw(z, 0.4, torch.Generator().manual_seed(1))
    assert torch.allclose(parts, whole, rtol=1e-12)
    assert len({tuple(row.tolist()) for row in whole.reshape(-1, 2)}) == 14


def test_several_data_sets_are_conditioned_each_on_its_own():
    problem = bent_problem()
    sets = torch.tensor([[0.8, 0.7], [-1.5, 0.2]], dtype=torch.float64)
    setup = EnsembleSetup(LatentProblem(problem, data=sets), EnsembleMethod("renoised", "surrogate", correctors=2), 100)
    g = torch.Generator().manual_seed(0)
    particles = setup.start(N, 400.0, None, g)
    z, v = particles.z, particles.v
    for after in (100.0, 9.0, 1.0, 0.3, 0.1, 0.02, 0.0):
        prepared = setup.move(None).prepare(replace(particles, z=z, v=v))
        z, increments, _ = prepared.move(after, g)
        z, v = setup.corrector(None)(z, after, g) if after > 0 else z, after
        assert not increments.any()
    for found, data in zip(z.mean(1), sets, strict=True):
        mean, covariance, _ = quadrature(replace(problem, data=data))
        assert bool(((found - mean).abs() < 0.25 * covariance.diagonal().sqrt()).all())


def test_a_data_set_is_drawn_as_if_there_were_no_other():
    g = torch.Generator().manual_seed(10)
    sets = torch.tensor([[0.8, 0.7], [-1.5, 0.2]], dtype=torch.float64)
    move, z = renoised_move(bent_problem(), sets), torch.randn(2, 50, 2, generator=g, dtype=torch.float64)
    elsewhere = torch.stack([z[0], z[1] + 3.0])
    first, second = (move.draw(particles, 2.0, torch.Generator().manual_seed(1)) for particles in (z, elsewhere))
    assert torch.allclose(first[0], second[0], rtol=1e-12)
    assert not torch.allclose(first[1], second[1])


def test_traces_count_the_modes_that_a_half_spectrum_leaves_out():
    wave = torch.linspace(1, 0, 5, dtype=torch.float64)
    covariance = DenoisedCovariance(FourierSpectrum((8,), 1 + wave))
    dense = covariance.apply(torch.eye(8, dtype=torch.float64), 0.7)
    assert covariance.trace(0.7) == pytest.approx(float(dense.trace()), rel=1e-12)
    draws = covariance.noise(dense.new_zeros(40_000, 8), 0.7, torch.Generator().manual_seed(2), 3.0)
    error = 5 * 3 * float(dense.diagonal().max()) * math.sqrt(2 / len(draws))
    assert float((torch.cov(draws.T) - 3 * dense).abs().max()) < error


def test_conjugate_gradients_of_particles_that_differ_in_everything():
    g = torch.Generator().manual_seed(1)
    roots = torch.randn(2, 4, 6, 6, generator=g, dtype=torch.float64)
    matrices = roots @ roots.mT + torch.eye(6, dtype=torch.float64)
    rhs = torch.randn(2, 4, 6, generator=g, dtype=torch.float64)
    rhs[0, 1] = 0

    def apply(w):
        return (matrices @ w[..., None])[..., 0]

    solved = particle_conjugate_gradients(apply, rhs, 1e-12, 30)
    assert torch.allclose(solved, torch.linalg.solve(matrices, rhs), atol=1e-9)
    stopped = particle_conjugate_gradients(apply, rhs, 1e-12, 2)
    alone = particle_conjugate_gradients(lambda w: (matrices[1, 2] @ w[..., None])[..., 0], rhs[1, 2], 1e-12, 2)
    assert torch.allclose(stopped[1, 2], alone)


def test_too_few_products_leave_data_unfitted():
    problem, _ = gaussian_twin()

    def misfit(products):
        posterior, _ = solve(DiffusionEnsemble(particles=200, steps=4, move="renoised", products=products), problem)
        return float((problem.operator(posterior.mean) - problem.data).norm())

    assert misfit(1) > 1.2 * misfit(3)  # three data: exact after three products
    assert misfit(3) == pytest.approx(misfit(30), rel=0.05)
    with pytest.raises(ConfigError, match="products"):
        DiffusionEnsemble(products=0)


def test_an_interrupted_run_goes_on_bit_for_bit():
    solver = DiffusionEnsemble(particles=20, steps=6, correctors=1)
    same_state(drive(solver, bent_problem()), drive(solver, bent_problem(), interrupted_after=3))


def test_a_final_correction_goes_without_a_shared_linearisation():
    problem = bent_problem()
    mean, covariance, _ = quadrature(problem)
    posterior, figures = solve(DiffusionEnsemble(particles=200, steps=10, corrections=40), problem)
    assert figures["corrections"] == 40
    assert bool(((posterior.mean - mean).abs() < 0.3 * covariance.diagonal().sqrt()).all())


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="no weights"):
        DiffusionEnsemble(move="renoised", weights="path")
    with pytest.raises(ConfigError, match="no weights"):
        DiffusionEnsemble(move="renoised", twist="inflation")
    with pytest.raises(UnsupportedProblemError, match='move="renoised"'):
        drive(
            DiffusionEnsemble(move="continuous", kappa=0.5, twist="isotropic", correctors=1, corrector="langevin"),
            bent_problem(),
        )
