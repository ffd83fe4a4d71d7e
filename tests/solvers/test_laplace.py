"""Gauss-Newton modes and covariances against closed forms."""

import math

import pytest
import torch
from solver_cases import bent_problem, dense_bayes, drive, linear_problem, quadrature, same_state, solve, tensor

from sciprob.errors import ConfigError, NonFiniteError, UnsupportedProblemError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.likelihoods.level import InverseGamma
from sciprob.likelihoods.poisson import PoissonCounts
from sciprob.operators import DenseMap, FunctionMap
from sciprob.operators.parameterise import Exp
from sciprob.posteriors.ensemble import Ensemble
from sciprob.posteriors.transformed import TransformedPosterior
from sciprob.priors.base import GaussianPrior, Prior
from sciprob.priors.transformed import TransformedPrior
from sciprob.problems.problem import Problem
from sciprob.solvers.base import Status
from sciprob.solvers.baselines.laplace import Laplace
from sciprob.solvers.linear_algebra import block_conjugate_gradients, conjugate_gradients, gram_eigenpairs
from sciprob.solvers.whitened import WhitenedTarget
from sciprob.spaces import Space

SHARP = Laplace(tolerance=1e-11, decrease=0.0, eigenvalue_tolerance=0.0)


@pytest.mark.parametrize(("unknowns", "measurements", "white"), [(12, 8, None), (8, 12, None), (6, 9, 20)])
def test_linear_problems_are_exact(unknowns, measurements, white):
    problem = linear_problem(unknowns, measurements, white)
    mean, covariance, evidence = dense_bayes(problem)
    posterior, figures = solve(SHARP, problem)
    root = posterior.root.to_dense()
    assert (posterior.mean - mean).abs().max() < 1e-8
    assert (root @ root.T - covariance).abs().max() < 1e-9
    assert (posterior.std - covariance.diagonal().sqrt()).abs().max() < 1e-9
    assert abs(figures["log_evidence"] - evidence) < 1e-8
    assert figures["truncated_eigenvalue"] == 0


def test_default_settings_are_close_enough_for_statistics():
    problem = linear_problem(30, 20)
    mean, covariance, _ = dense_bayes(problem)
    posterior, figures = solve(Laplace(), problem)
    std = covariance.diagonal().sqrt()
    assert ((posterior.mean - mean) / std).abs().max() < 1e-2
    assert (posterior.std / std - 1).abs().max() < figures["truncated_eigenvalue"] + 1e-9


def test_block_krylov_finds_the_eigenpairs():
    g = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(tensor(g, n, 60))[0] for n in (70, 90))
    singular = 30 * 0.75 ** torch.arange(60, dtype=torch.float64)
    linear_map = DenseMap((u * singular) @ v.T)
    like = torch.zeros((), dtype=torch.float64)
    pairs = gram_eigenpairs(linear_map, like, g, rank=50, tolerance=0.1, direct_limit=10, block=5)
    above = int((singular.square() > 0.1).sum())
    assert len(pairs.values) == above
    assert not pairs.exact
    torch.testing.assert_close(pairs.values, singular.square()[:above], rtol=1e-4, atol=1e-3)
    assert abs(pairs.truncated / float(singular[above] ** 2) - 1) < 0.2
    torch.testing.assert_close(pairs.vectors @ pairs.vectors.T, torch.eye(above, dtype=torch.float64))
    few = gram_eigenpairs(linear_map, like, g, rank=8, tolerance=0.1, direct_limit=10, block=5)
    assert len(few.values) <= 8
    assert few.truncated > 1  # said honestly
    full = gram_eigenpairs(linear_map, like, g, rank=200, tolerance=0.0, direct_limit=10, block=7)
    torch.testing.assert_close(full.values[:60], singular.square(), rtol=1e-8, atol=1e-10)


def test_conjugate_gradients_leave_no_column_behind():
    g = torch.Generator().manual_seed(1)
    a = tensor(g, 30, 30)
    a = a @ a.T + 0.1 * torch.eye(30, dtype=torch.float64)
    rhs = tensor(g, 4, 30) * torch.tensor([1.0, 1e-6, 0.0, 1e3], dtype=torch.float64)[:, None]
    result = conjugate_gradients(lambda x: x @ a, rhs, 1e-9, 500)
    assert result.converged
    assert (rhs - result.solution @ a).norm(dim=1).max() < 1e-7  # the recursive residual drifts a little
    assert torch.equal(result.solution[2], torch.zeros(30, dtype=torch.float64))
    assert not conjugate_gradients(lambda x: x @ a, rhs, 1e-9, 3).converged


def test_a_block_of_right_hand_sides_shares_its_products():
    g = torch.Generator().manual_seed(1)
    a = torch.linalg.qr(tensor(g, 200, 200))[0]
    a = (a * torch.cat([torch.logspace(1, 5, 30), torch.ones(170)]).double()) @ a.T  # thirty outliers
    rhs = tensor(g, 8, 200)
    rhs[5], rhs[6] = rhs[4] * 2, 0  # dependent columns
    alone = conjugate_gradients(lambda x: x @ a, rhs, 1e-8, 500)
    block = block_conjugate_gradients(lambda x: x @ a, rhs, 1e-8, 500)
    assert block.converged
    assert (rhs - block.solution @ a).norm(dim=1).max() < 1e-6
    torch.testing.assert_close(block.solution, alone.solution, rtol=0, atol=1e-7)
    assert block.iterations < alone.iterations / 3
    many = block_conjugate_gradients(lambda x: x @ a[:4, :4], rhs[:, :4], 1e-6, 9)  # more columns than unknowns
    assert many.converged


def test_low_rank_and_draws_agree_on_larger_problems():
    problem = linear_problem(60, 50, std=2.0)
    _, covariance, _ = dense_bayes(problem)
    krylov, _ = solve(Laplace(covariance="low-rank", direct_limit=0, eigenvalue_tolerance=1e-6), problem)
    std = covariance.diagonal().sqrt()
    assert (krylov.std / std - 1).abs().max() < 1e-3
    sampled, figures = solve(Laplace(covariance="draws", samples=2000, block=500, draw_tolerance=1e-4), problem)
    assert figures["covariance"] == "draws"
    assert (sampled.std / std - 1).abs().max() < 4.5 / math.sqrt(2 * 2000)


def test_evidence_and_mode_of_a_bent_posterior():
    problem = bent_problem(std=0.05)
    mean, covariance, evidence = quadrature(problem, half_width=2.5)
    posterior, figures = solve(SHARP, problem)
    assert figures["mode_converged"]
    std = covariance.diagonal().sqrt()
    assert ((posterior.mean - mean) / std).abs().max() < 0.1  # narrow, so nearly linear
    assert (posterior.std / std - 1).abs().max() < 0.05
    assert abs(figures["log_evidence"] - evidence) < 0.05


def positive_problem(noise):
    g = torch.Generator().manual_seed(2)
    latent = GaussianPrior(tensor(g, 10) / 4, DenseMap(tensor(g, 10, 10) / 5))
    prior = TransformedPrior(latent, Exp(latent.space))
    operator = DenseMap(tensor(g, 14, 10).abs() / 10, domain=prior.space)
    model = PoissonCounts(operator.codomain, 500.0) if noise == "poisson" else GaussianNoise(operator.codomain, 0.05)
    return Problem("positive", prior, Likelihood(operator, model)).simulate(g)


@pytest.mark.parametrize("noise", ["poisson", "gaussian"])
def test_the_mode_has_no_gradient(noise):
    problem = positive_problem(noise)
    state = drive(SHARP, problem)
    xi = state.xi.clone().requires_grad_()
    m = problem.prior.whitening(xi)
    loss = xi.square().sum() / 2 - problem.likelihood.log_prob(m, problem.data)
    (gradient,) = torch.autograd.grad(loss, xi)
    start = WhitenedTarget(problem).linearise(torch.zeros_like(state.xi)).gradient
    assert gradient.norm() < 1e-9 * start.norm()


def test_positive_fields_get_transformed_posteriors():
    problem = positive_problem("poisson")
    posterior, _ = solve(Laplace(), problem)
    assert isinstance(posterior, TransformedPosterior)
    assert posterior.space is problem.prior.space
    base = posterior.base
    torch.testing.assert_close(posterior.mean, (base.mean + base.variance / 2).exp(), rtol=1e-9, atol=0)
    inside = (posterior.quantile(0.005) < problem.truth) & (problem.truth < posterior.quantile(0.995))
    assert inside.all()


class Folded(Prior):
    """A whitened prior that is no function of a Gaussian field."""

    def __init__(self):
        super().__init__(Space((1,)))

    @property
    def capabilities(self):
        return linear_problem().prior.capabilities

    @property
    def whitening(self):
        return DenseMap(torch.tensor([[1.0, 2.0]], dtype=torch.float64), domain=Space((2,)), codomain=self.space)


def test_other_whitenings_get_ensembles():
    prior = Folded()
    noise = GaussianNoise(prior.space, 1.0)
    identity = FunctionMap(prior.space, prior.space, lambda x: x, lambda y: y)
    problem = Problem("folded", prior, Likelihood(identity, noise), data=torch.tensor([3.0], dtype=torch.float64))
    posterior, _ = solve(Laplace(samples=4000), problem)
    assert isinstance(posterior, Ensemble)
    assert abs(float(posterior.mean) - 2.5) < 4 * math.sqrt(5 / 6 / 4000)  # prior variance 5, noise variance 1
    assert abs(float(posterior.std) / math.sqrt(5 / 6) - 1) < 0.06


@pytest.mark.parametrize("covariance", ["low-rank", "draws"])
def test_noise_level_is_estimated(covariance):
    problem = linear_problem(6, 400, std=0.6, correlated=False)
    nominal = linear_problem(6, 400, std=0.2, correlated=False, level=InverseGamma(2.0, 2.0)).observe(problem.data)
    posterior, figures = solve(Laplace(covariance=covariance, samples=8), nominal)
    assert abs(figures["noise_level"] / 9 - 1) < 4 * math.sqrt(2 / 400)
    mean, covariance, _ = dense_bayes(nominal, figures["noise_level"])
    assert ((posterior.mean - mean) / covariance.diagonal().sqrt()).abs().max() < 0.05


@pytest.mark.parametrize("covariance", ["low-rank", "draws"])
def test_resumed_equals_uninterrupted(covariance):
    problem = positive_problem("poisson")
    solver = Laplace(covariance=covariance, samples=12, block=4)
    whole = drive(solver, problem)
    for stop in (1, 3, 5):
        same_state(drive(solver, problem, interrupted_after=stop), whole)


def test_single_precision_stays_and_converges():
    problem = linear_problem(30, 20)
    mean, covariance, _ = dense_bayes(problem)
    prior = GaussianPrior(problem.prior.mean.float(), DenseMap(problem.prior.root.matrix.float()))
    single = Problem("single", prior, problem.likelihood, data=problem.data.float())
    for solver in (Laplace(), Laplace(covariance="draws")):
        posterior, figures = solve(solver, single)
        assert figures["mode_converged"]
        assert posterior.mean.dtype == posterior.std.dtype == torch.float32
        assert ((posterior.mean - mean) / covariance.diagonal().sqrt()).abs().max() < 2e-2


def test_stopping_early_is_said():
    problem = positive_problem("poisson")
    solver = Laplace(newton_steps=1)
    state = drive(solver, problem)
    assert solver.finished(state) is Status.MAX_STEPS
    assert torch.isfinite(solver.result(problem, state).mean).all()
    with pytest.raises(UnsupportedProblemError, match="stopped before"):
        Laplace().result(problem, drive(Laplace(), problem, steps=1))


def test_bad_settings_and_densities_are_refused():
    with pytest.raises(ConfigError, match="`newton_steps` of solver `laplace` should be at least 1"):
        Laplace(newton_steps=0)
    with pytest.raises(ConfigError, match="low-rank"):
        Laplace(covariance="full")
    problem = linear_problem()
    broken = DenseMap(problem.operator.matrix * math.inf)
    with pytest.raises(NonFiniteError, match="finite"):
        drive(Laplace(), Problem("broken", problem.prior, Likelihood(broken, problem.likelihood.noise), problem.data))
