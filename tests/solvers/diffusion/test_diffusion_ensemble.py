"""`diffusion-ensemble` and `tds`: exact cases, unbiased evidence, rates of convergence, resuming, bad input."""

import itertools
import math

import pytest
import torch
from solver_cases import bent_problem, dense_bayes, drive, linear_problem, quadrature, same_state, solve

import sciprob
from sciprob.errors import ConfigError, DataError, SciprobWarning, ShapeError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DenseMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.levels import karras_levels
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.problems.problem import Problem
from sciprob.solvers.diffusion import particle_solver
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.ensemble_setup import EnsembleMethod, EnsembleSetup
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.level_step import advance
from sciprob.solvers.diffusion.particles import resample
from sciprob.solvers.diffusion.tds import TwistedDiffusion


def normal(g, *shape):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def gaussian_problem(d=5, m=3, seed=0):
    """A Gaussian known by its denoiser, with itself as surrogate; and the same as a `GaussianPrior`."""
    g = torch.Generator().manual_seed(seed)
    prior = GaussianPrior(normal(g, d), DenseMap(normal(g, d, d) / 2 + torch.eye(d, dtype=torch.float64) / 2))
    denoiser = GaussianDenoiser.of_prior(prior)
    operator = DenseMap(normal(g, m, d), domain=prior.space)
    likelihood = Likelihood(operator, GaussianNoise(operator.codomain, 0.4))
    exact = Problem("gaussian", prior, likelihood).simulate(g)
    return Problem("twin", DiffusionPrior(denoiser, surrogate=prior), likelihood, data=exact.data), exact


def mixture_problem(d=2, m=1, seed=0, std=0.2, shift=None, surrogate=True):
    g = torch.Generator().manual_seed(seed)
    means = 1.5 * normal(g, 4, d)
    shift = torch.zeros(d, dtype=torch.float64) if shift is None else shift
    denoiser = MixtureDenoiser(torch.tensor([0.4, 0.3, 0.2, 0.1]), means + shift, 0.05 * torch.eye(d).expand(4, d, d))
    root = torch.linalg.cholesky(denoiser.covariance)
    gaussian = GaussianPrior(denoiser.mean, DenseMap(root))
    prior = DiffusionPrior(denoiser, surrogate=gaussian if surrogate else None, sigma_max=30.0)
    operator = DenseMap(normal(g, m, d), domain=denoiser.space)
    data = operator(means[1] + 0.2 * normal(g, d) + shift)
    return Problem("mixture", prior, Likelihood(operator, GaussianNoise(operator.codomain, std)), data=data)


def mixture_posterior(problem):
    """Weights, means and covariances of the exact posterior mixture, and log p(y)."""
    denoiser, noise = problem.prior.denoiser, problem.likelihood.noise
    a = problem.operator.to_dense()
    weights, means, parts = [], [], []
    for k in range(len(denoiser.means)):
        prior = GaussianPrior(denoiser.means[k], DenseMap(denoiser.vectors[k] * denoiser.eigenvalues[k].sqrt()))
        one = Problem("one", prior, Likelihood(DenseMap(a), noise), data=problem.data)
        mean, covariance, log_evidence = dense_bayes(one)
        weights.append(log_evidence + denoiser.log_weights[k])
        means.append(mean)
        parts.append(covariance)
    log_weights = torch.stack(weights)
    return log_weights.softmax(0), torch.stack(means), torch.stack(parts), float(log_weights.logsumexp(0))


def run_sets(problem, sets, particles, steps, method, seed=0, sigma_max=20.0, threshold=0.5):
    """Independent ensembles for copies of one data set, in one batch; the final particles."""
    g = torch.Generator().manual_seed(seed)
    latent = LatentProblem(problem, data=problem.data.expand(sets, *problem.data.shape))
    setup = EnsembleSetup(latent, method, 1000)
    levels = [s * s for s in karras_levels(steps, sigma_max, 0.01).tolist()]
    state = setup.start(particles, levels[0], None, g)
    for after in levels[1:]:
        state, _ = advance(state, setup.move(None), lambda *_, v=after: v, g)
        state, _ = resample(state, threshold, g)
    return state, levels


@pytest.mark.parametrize(("move", "kappa"), [("conditioned", None), ("continuous", 1.0)])
@pytest.mark.parametrize("steps", [3, 12])
def test_a_gaussian_twin_has_equal_weights_and_the_exact_evidence(move, kappa, steps):
    problem, exact = gaussian_problem()
    mean, covariance, log_evidence = dense_bayes(exact)
    posterior, figures = solve(DiffusionEnsemble(particles=2000, steps=steps, move=move, kappa=kappa), problem)
    assert float(posterior.log_weights.std()) < 1e-9
    assert figures["log_evidence"] == pytest.approx(float(log_evidence), abs=1e-8)
    if move == "conditioned":  # the law of the particles is exact too, for any number of steps
        error = 4.5 * (covariance.diagonal() / 2000).sqrt()
        assert bool(((posterior.mean - mean).abs() < error).all())
        assert torch.allclose(posterior.std, covariance.diagonal().sqrt(), rtol=4.5 / math.sqrt(4000))


def test_a_whitened_prior_of_the_package_is_such_a_twin():
    problem = linear_problem(unknowns=6, measurements=4, white=9)
    mean, covariance, log_evidence = dense_bayes(problem)
    posterior, figures = solve(DiffusionEnsemble(particles=2000, steps=4), problem)
    assert figures["log_evidence"] == pytest.approx(float(log_evidence), abs=1e-8)
    assert figures["ess_smallest"] == pytest.approx(2000)
    assert bool(((posterior.mean - mean).abs() < 4.5 * (covariance.diagonal() / 2000).sqrt()).all())
    assert torch.allclose(posterior.std, covariance.diagonal().sqrt(), rtol=4.5 / math.sqrt(4000))


@pytest.mark.parametrize(
    "method",
    [
        DiffusionEnsemble(particles=2000, steps=60),
        DiffusionEnsemble(particles=2000, steps=150, twist="inflation"),
        DiffusionEnsemble(particles=2000, steps=60, move="denoised"),
        DiffusionEnsemble(particles=2000, steps=150, move="continuous"),
        DiffusionEnsemble(particles=2000, steps=150, move="continuous", kappa=0.5, twist="isotropic"),
        DiffusionEnsemble(particles=2000, steps=40, move="flow", correctors=2, corrector="langevin"),
        DiffusionEnsemble(particles=2000, steps=40, correctors=1),
        DiffusionEnsemble(particles=2000, steps=30, tempering=0.9),
        TwistedDiffusion(particles=2000, steps=150),
    ],
    ids=lambda m: f"{m.name}-{getattr(m, 'move', '')}-{getattr(m, 'twist', '')}-{getattr(m, 'correctors', '')}",
)
def test_mixtures(method):
    problem = mixture_problem()
    weights, means, covariances, log_evidence = mixture_posterior(problem)
    posterior, figures = solve(method, problem)
    mean = weights @ means
    second = torch.einsum("k,kij->ij", weights, covariances + means[:, :, None] * means[:, None])
    std = (second - torch.outer(mean, mean)).diagonal().sqrt()
    assert bool(((posterior.mean - mean).abs() < 0.1 * std).all())
    assert torch.allclose(posterior.std, std, rtol=0.1)
    assert figures["log_evidence"] == pytest.approx(log_evidence, abs=0.15)
    assert not figures["degenerate"]


def chain_evidence(problem, levels, spread, transition):
    """log p(y) under the discretised chain z' = z + (1 - v'/v)(D - z) + T^{1/2} e of a Gaussian prior, at its end."""
    denoiser = problem.prior.denoiser
    eye = torch.eye(denoiser.space.size, dtype=torch.float64)
    mean, covariance = torch.zeros(len(eye), dtype=torch.float64), (spread + levels[0]) * eye
    for v, after in itertools.pairwise(levels):
        origin = denoiser(0 * mean, math.sqrt(v))
        jacobian = denoiser(eye, math.sqrt(v)) - origin
        move = (after / v) * eye + (1 - after / v) * jacobian.T
        mean = move @ mean + (1 - after / v) * origin
        covariance = move @ covariance @ move.T + transition(v, after) * eye
    a = problem.operator.to_dense()
    noise = problem.likelihood.noise.std.square() * torch.eye(len(a), dtype=torch.float64)
    predictive = torch.distributions.MultivariateNormal(a @ mean, a @ covariance @ a.T + noise)
    return float(predictive.log_prob(problem.data))


def inner(v, after):
    """Of a surrogate N(0, I)."""
    return (v - after) * after / v + ((v - after) / v) ** 2 * v / (1 + v)


@pytest.mark.parametrize(
    ("method", "transition"),
    [
        (EnsembleMethod("conditioned", "surrogate"), inner),
        (EnsembleMethod("conditioned", "inflation"), lambda v, after: (v - after) * after / v),
        (EnsembleMethod("denoised", "surrogate"), inner),
        (EnsembleMethod("twisted", "surrogate"), lambda v, after: (v - after) * after / v),
        (EnsembleMethod("twisted", "constant"), lambda v, after: (v - after) * after / v),
    ],
    ids=lambda x: f"{x.move}-{x.twist}" if isinstance(x, EnsembleMethod) else "",
)
def test_path_weights_estimate_the_evidence_of_the_chain_without_bias(method, transition):
    problem, _ = gaussian_problem(d=2, m=1, seed=1)
    problem = Problem("chain", DiffusionPrior(problem.prior.denoiser), problem.likelihood, data=problem.data)
    state, levels = run_sets(problem, 2000, 30, 4, method, sigma_max=3.0)
    normaliser = float(LatentProblem(problem).log_normaliser)
    ratio = (state.evidence + normaliser - chain_evidence(problem, levels, 1.0, transition)).exp()
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean()) - 1) < 4 * error
    assert error < 0.05  # so that the test can see a bias


def test_errors_fall_as_the_root_of_the_number_of_particles():
    problem = mixture_problem(seed=2)
    counts, errors = (16, 64, 256), []
    for count in counts:
        state, _ = run_sets(problem, 100, count, 30, EnsembleMethod("conditioned", "surrogate"))
        w = state.log_weights.softmax(-1)
        estimates = torch.einsum("sn,snd->sd", w, state.z)
        errors.append(float(estimates.var(0).sum().sqrt()))
    slope = math.log(errors[-1] / errors[0]) / math.log(counts[-1] / counts[0])
    assert slope == pytest.approx(-0.5, abs=0.12)


def test_euler_steps_converge_at_first_order():
    # with the exact twist and kappa 1 the weights are equal, and the variance of the particles is wrong by O(1/K)
    problem, exact = gaussian_problem(d=1, m=1)
    _, covariance, _ = dense_bayes(exact)
    counts, errors = (24, 96), []
    for steps in counts:
        state, _ = run_sets(problem, 1, 100_000, steps, EnsembleMethod("continuous", "surrogate", kappa=1.0))
        errors.append(float(state.z.var() / covariance - 1))
    slope = math.log(errors[-1] / errors[0]) / math.log(counts[-1] / counts[0])
    assert slope == pytest.approx(-1, abs=0.25)


def test_data_without_information_give_the_prior():
    problem = mixture_problem(std=1e6)
    posterior, figures = solve(DiffusionEnsemble(particles=4000, steps=60), problem)
    denoiser = problem.prior.denoiser
    std = denoiser.covariance.diagonal().sqrt()
    assert figures["ess"] == pytest.approx(4000, rel=1e-6)
    assert bool(((posterior.mean - denoiser.mean).abs() < 4.5 * std / math.sqrt(4000)).all())
    assert torch.allclose(posterior.std, std, rtol=0.05)


@pytest.mark.parametrize("move", ["conditioned", "continuous", "denoised"])
def test_moving_prior_and_data_together_moves_the_posterior(move):
    shift = torch.tensor([0.7, -0.4], dtype=torch.float64)
    solver = DiffusionEnsemble(particles=50, steps=20, move=move)
    first, _ = solve(solver, mixture_problem())
    second, _ = solve(solver, mixture_problem(shift=shift))
    assert torch.allclose(second.samples, first.samples + shift, atol=1e-8)
    assert torch.allclose(second.log_weights, first.log_weights, atol=1e-7)


def test_nonlinear_data_against_quadrature():
    problem = bent_problem()
    mean, covariance, log_evidence = quadrature(problem)
    posterior, figures = solve(DiffusionEnsemble(particles=4000, steps=30, move="denoised"), problem)
    std = covariance.diagonal().sqrt()
    assert figures["log_evidence"] == pytest.approx(log_evidence, abs=0.05)
    assert bool(((posterior.mean - mean).abs() < 0.08 * std).all())
    assert torch.allclose(posterior.std, std, rtol=0.08)


@pytest.mark.parametrize(
    "solver",
    [
        DiffusionEnsemble(particles=20, steps=8),
        DiffusionEnsemble(particles=20, steps=8, tempering=0.8, correctors=1),
        TwistedDiffusion(particles=20, steps=8, threshold=0.9),
    ],
)
def test_an_interrupted_run_goes_on_bit_for_bit(solver):
    problem = mixture_problem(std=0.02)
    same_state(drive(solver, problem), drive(solver, problem, interrupted_after=4))


def test_a_nonlinear_run_is_resumed_from_its_folder(tmp_path):
    problem, solver = bent_problem(), DiffusionEnsemble(particles=30, steps=12)
    whole = sciprob.solve(problem, solver, progress=False)

    class Stop(Exception):
        pass

    def stop(step, state, info):
        if step == 7:
            raise Stop

    with pytest.raises(Stop):
        sciprob.solve(problem, solver, out=tmp_path / "run", progress=False, callbacks=[stop])
    rest = sciprob.resume(tmp_path / "run", problem=problem, solver=solver, progress=False)
    assert torch.equal(rest.samples, whole.samples)
    assert torch.equal(rest.log_weights, whole.log_weights)


def test_weights_survive_saving(tmp_path):
    posterior, _ = solve(DiffusionEnsemble(particles=40, steps=8, move="denoised"), mixture_problem())
    again = sciprob.load_posterior(posterior.save(tmp_path / "p"))
    assert torch.equal(again.log_weights, posterior.log_weights)
    assert torch.equal(again.mean, posterior.mean)
    assert torch.equal(again.quantile(0.3), posterior.quantile(0.3))


def test_bad_input_is_refused():
    problem = mixture_problem()
    other = Problem(
        "size",
        problem.prior,
        Likelihood(DenseMap(torch.ones(1, 3).double()), GaussianNoise(problem.operator.codomain, 0.1)),
        data=problem.data,
    )
    with pytest.raises(ShapeError, match="takes \\(3,\\)"):
        drive(DiffusionEnsemble(), other)
    with pytest.raises(DataError, match="finite"):
        problem.observe(torch.tensor([math.nan], dtype=torch.float64))
    with pytest.raises(DataError, match="positive"):
        GaussianNoise(problem.operator.codomain, 0.0)
    with pytest.raises(UnsupportedProblemError, match="not linear"):
        drive(DiffusionEnsemble(move="conditioned"), bent_problem())
    with pytest.raises(UnsupportedProblemError, match='variance="noise"'):
        drive(TwistedDiffusion(), bent_problem())
    with pytest.raises(ConfigError, match="belongs to the continuous"):
        DiffusionEnsemble(move="conditioned", twist="constant")
    with pytest.raises(ConfigError, match="`particles`"):
        DiffusionEnsemble(particles=1)


def test_an_operator_without_derivatives_is_refused():
    class Opaque(type(bent_problem().operator)):
        @property
        def capabilities(self):
            return frozenset()

    problem = bent_problem()
    opaque = Problem("opaque", problem.prior, Likelihood(Opaque(), problem.likelihood.noise), data=problem.data)
    with pytest.raises(UnsupportedProblemError, match="needs derivatives"):
        drive(DiffusionEnsemble(), opaque)


def test_correctors_repair_what_equal_weights_leave_out():
    # 150 unknowns with correlations that no surrogate tells of
    g = torch.Generator().manual_seed(5)
    d, m, n = 150, 150, 100
    prior = GaussianPrior(torch.zeros(d, dtype=torch.float64), DenseMap(normal(g, d, d) / math.sqrt(d)))
    operator = DenseMap(normal(g, m, d) / math.sqrt(d), domain=prior.space)
    exact = Problem("wide", prior, Likelihood(operator, GaussianNoise(operator.codomain, 0.03))).simulate(g)
    learned = DiffusionPrior(GaussianDenoiser.of_prior(prior), sigma_max=20.0, sigma_min=0.01)
    problem = Problem("wide", learned, exact.likelihood, data=exact.data)
    mean, covariance, _ = dense_bayes(exact)
    std = covariance.diagonal().sqrt()

    def errors(**settings):
        posterior, figures = solve(DiffusionEnsemble(particles=n, steps=40, **settings), problem)
        shift = float(((posterior.mean - mean) / std).square().mean().sqrt())  # 0.1 by Monte Carlo alone
        return shift, float((posterior.std / std).mean()), figures

    with pytest.warns(SciprobWarning, match="weights left"):
        _, narrow, figures = errors(weights="path")
    assert figures["degenerate"]
    assert narrow < 0.7
    plain, wide, _ = errors(weights="equal")
    shift, spread, figures = errors(weights="equal", correctors=8)
    assert "log_evidence" not in figures
    assert shift < 0.4 < 0.6 * plain
    assert abs(spread - 1) < 0.12 < wide - 1


def test_an_ensemble_says_when_weights_fail_and_what_it_did(monkeypatch):
    problem = mixture_problem()
    monkeypatch.setattr(particle_solver, "_FAMILIES", 1.0)  # as if the particles had too few ancestors
    solver = DiffusionEnsemble(particles=20, steps=6, weights="path")
    state = drive(solver, problem)
    assert solver.diagnostics(problem, state)["degenerate"]
    with pytest.warns(SciprobWarning, match="the weights left"):
        solver.result(problem, state)
    solver = DiffusionEnsemble(particles=20, steps=6)
    state = drive(solver, problem)
    figures = solver.diagnostics(problem, state)
    assert figures["weights"] == "equal"
    assert figures["weights_given_up_at_sigma"] > 1
    assert not figures["degenerate"]
    with pytest.warns(SciprobWarning, match="were given up"):
        posterior = solver.result(problem, state)
    assert bool((posterior.log_weights == 0).all())
    same_state(state, drive(solver, problem, interrupted_after=4))
