"""Linear algebra of white data against dense formulas."""

import math

import pytest
import torch
from solver_cases import bent_problem, linear_problem

from sciprob.errors import ConvergenceError
from sciprob.operators import DenseMap
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.solvers.diffusion import linear_algebra
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.linear_algebra import IterativeData, SpectralData
from sciprob.solvers.diffusion.spectrum_surrogate import SpectrumSurrogate
from sciprob.solvers.diffusion.surrogate import IsotropicSurrogate, Transition


def normal(g, *shape):
    return torch.randn(*shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 5), (6, 4)])
@pytest.mark.parametrize("kind", ["svd", "gram", "iterative"])
def test_solves_determinants_and_preconditioners(shape, kind, monkeypatch):
    g = torch.Generator().manual_seed(0)
    matrix, target = normal(g, *shape), normal(g, shape[0])
    monkeypatch.setattr(linear_algebra, "_SVD_LIMIT", 0 if kind == "gram" else 512)
    operator = DenseMap(matrix)
    data = (
        IterativeData(operator, target, tolerance=1e-12) if kind == "iterative" else SpectralData.of(operator, target)
    )
    x, r = normal(g, 2, 7, shape[1]), normal(g, 2, 7, shape[0])
    assert torch.allclose(data.residual(x), x @ matrix.T - target)
    assert torch.allclose(data.adjoint(r), r @ matrix)
    for inflation, v in ((0.0, 0.5), (2.0, 3.0)):
        s = torch.eye(shape[0], dtype=torch.float64) + inflation * matrix @ matrix.T
        inverse = torch.linalg.inv(s)
        informed = matrix.T @ inverse @ matrix
        p = torch.linalg.inv(torch.eye(shape[1], dtype=torch.float64) / v + informed)
        assert torch.allclose(data.solve(r, inflation), r @ inverse, atol=1e-9)
        assert torch.allclose(data.precondition(x, v, inflation), x @ p, atol=1e-9)
        if data.exact:
            assert data.log_det(inflation) == pytest.approx(float(torch.logdet(s)), abs=1e-12)
            assert data.trace(inflation) == pytest.approx(float(informed.trace()), rel=1e-12)
        draws = data.noise(torch.zeros(20_000, shape[1], dtype=torch.float64), v, inflation, g)
        sample = draws.T @ draws / len(draws)
        assert float((sample - p).abs().max()) < 5 * float(p.diagonal().max()) * math.sqrt(2 / len(draws))


def test_a_solve_that_does_not_converge_says_so():
    g = torch.Generator().manual_seed(1)
    data = IterativeData(DenseMap(normal(g, 30, 40)), normal(g, 30), max_iterations=2)
    with pytest.raises(ConvergenceError, match="did not converge in 2 iterations"):
        data.solve(normal(g, 4, 30), 10.0)


def full_surrogate(g, d=4, m=3):
    root = normal(g, d, d) / 2
    covariance, centre = root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64), normal(g, d)
    matrix, target = normal(g, m, d), normal(g, m)
    data = SpectralData.of(DenseMap(matrix), target)
    return SpectrumSurrogate(data, centre, GaussianDenoiser.of_covariance(covariance).spectrum), covariance, matrix


@pytest.mark.parametrize("isotropic", [False, True])
def test_conditioned_steps_have_the_moments_and_evidence_of_bayes(isotropic):
    g = torch.Generator().manual_seed(2)
    surrogate, c, matrix = full_surrogate(g)
    eye = torch.eye(4, dtype=torch.float64)
    if isotropic:
        c, surrogate = 0.8 * eye, IsotropicSurrogate(surrogate.data, surrogate.centre, 0.8)
    v, after = 2.0, 0.6
    filtered = c @ torch.linalg.inv(c + after * eye)
    s = torch.eye(3, dtype=torch.float64) + matrix @ (after * filtered) @ matrix.T
    t = (v - after) * after / v * eye + ((v - after) / v) ** 2 * v * c @ torch.linalg.inv(c + v * eye)
    mean, residual, b = normal(g, 4), normal(g, 3), matrix @ filtered
    total = s + b @ t @ b.T
    expected = mean - t @ b.T @ torch.linalg.solve(total, residual)
    spread = t - t @ b.T @ torch.linalg.solve(total, b @ t)
    down = Transition.down(v, after)
    n = 40_000
    draws = surrogate.conditioned(mean.expand(n, 4), residual.expand(n, 3), after, down, g)
    error = 4.5 * (spread.diagonal() / n).sqrt()
    assert bool(((draws.mean(0) - expected).abs() < error).all())
    assert float((torch.cov(draws.T) - spread).abs().max()) < 5 * float(spread.diagonal().max()) * math.sqrt(2 / n)
    evidence = -(residual @ torch.linalg.solve(total, residual) + torch.logdet(total)) / 2
    assert float(surrogate.evidence(residual, after, down)) == pytest.approx(float(evidence), abs=1e-10)
    assert torch.allclose(surrogate.weigh(mean, down), t @ mean)
    noise = surrogate.noise(mean.expand(n, 4), down, g)
    assert float((torch.cov(noise.T) - t).abs().max()) < 5 * float(t.diagonal().max()) * math.sqrt(2 / n)


@pytest.mark.parametrize("isotropic", [False, True])
def test_particles_start_from_the_tilted_gaussian(isotropic):
    g = torch.Generator().manual_seed(3)
    surrogate, c, matrix = full_surrogate(g)
    eye = torch.eye(4, dtype=torch.float64)
    if isotropic:
        c, surrogate = 0.8 * eye, IsotropicSurrogate(surrogate.data, surrogate.centre, 0.8)
    v, n = 3.0, 40_000
    z, evidence = surrogate.start(torch.Size(), n, v, g)
    total = torch.eye(3, dtype=torch.float64) + matrix @ c @ matrix.T
    residual = matrix @ surrogate.centre - surrogate.data.target
    expected = surrogate.centre - c @ matrix.T @ torch.linalg.solve(total, residual)
    spread = c - c @ matrix.T @ torch.linalg.solve(total, matrix @ c) + v * eye
    assert bool(((z.mean(0) - expected).abs() < 4.5 * (spread.diagonal() / n).sqrt()).all())
    assert float((torch.cov(z.T) - spread).abs().max()) < 5 * float(spread.diagonal().max()) * math.sqrt(2 / n)
    exact = -(residual @ torch.linalg.solve(total, residual) + torch.logdet(total)) / 2
    assert float(evidence) == pytest.approx(float(exact), abs=1e-10)


def test_a_latent_problem_is_the_likelihood_in_units_of_the_noise():
    problem = linear_problem(measurements=5)
    latent, g = LatentProblem(problem), torch.Generator().manual_seed(4)
    x = normal(g, 3, *latent.latent.shape)
    m = latent.decode(x)
    assert torch.allclose(latent.log_likelihood(x), problem.likelihood.log_prob(m, problem.data))
    residual, gradient = latent.residual_and_pullback(x)
    matrix, target = latent.affine()
    assert torch.allclose(residual, matrix(x) - target)
    assert torch.allclose(gradient, matrix.T(residual))
    several = LatentProblem(problem, data=torch.stack([problem.data, 2 * problem.data]))
    both = several.residual(x.expand(2, *x.shape))
    assert torch.allclose(both[0], residual)
    assert torch.allclose(both[1], matrix(x) - several.affine()[1][1])


def test_a_nonlinear_problem_is_linearised():
    problem, g = bent_problem(), torch.Generator().manual_seed(5)
    latent = LatentProblem(problem)
    assert not latent.linear
    x, dx = normal(g, 2), normal(g, 2)
    residual, jacobian = latent.linearised(x)
    ahead, back = latent.residual(x + 1e-6 * dx), latent.residual(x - 1e-6 * dx)
    assert torch.allclose(residual, latent.residual(x))
    assert torch.allclose(jacobian(dx), (ahead - back) / 2e-6, rtol=1e-7)
    assert torch.allclose(latent.jvp(x, dx)[1], jacobian(dx))
