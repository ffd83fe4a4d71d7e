"""Noise far below the data: ensembles against the closed form, in units of the posterior's own spread."""

import math
from dataclasses import replace

import pytest
import torch
from solver_cases import drive, solve

import sciprob
from sciprob.errors import DataError, SciprobWarning
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DenseMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.problems.problem import Problem
from sciprob.solvers.diffusion import linear_algebra
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.linear_algebra import IterativeData, SpectralData

N = 1000


def precise_problem(kind, std, dtype=torch.float64):
    """A Gaussian prior and data with noise of this size; data and unknown are of size 1."""
    g = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    d, m = (8, 12) if kind == "many data" else (8, 4)
    matrix, root = normal(m, d), torch.eye(d, dtype=torch.float64)
    if kind == "smooth":  # every second point of a field whose covariance has the condition 1e9
        points = torch.linspace(0, 1, 24, dtype=torch.float64)
        covariance = torch.exp(-(points[:, None] - points).square() / 0.1) + 1e-8 * torch.eye(24, dtype=torch.float64)
        matrix, root = torch.eye(24, dtype=torch.float64)[::2], torch.linalg.cholesky(covariance)
    elif kind == "few modes":  # fewer than data
        root = torch.cat([normal(3, 3), torch.zeros(5, 3, dtype=torch.float64)])
    elif kind != "white":
        root = root + normal(d, d) / 2
    prior = GaussianPrior(normal(len(root)).to(dtype), DenseMap(root.to(dtype)))
    operator = DenseMap(matrix.to(dtype), domain=prior.space)
    return Problem(kind, prior, Likelihood(operator, GaussianNoise(operator.codomain, std))).simulate(g)


def twin(problem):
    """The same with a prior that is known by its denoiser."""
    learned = DiffusionPrior(GaussianDenoiser.of_prior(problem.prior), surrogate=problem.prior)
    return replace(problem, prior=learned, truth=None)


def standardised(problem, draws):
    """Draws in coordinates in which the exact posterior is N(0, I), and log p(y).

    With x = a + L w, B = A L / std = U S V^T and b = (y - A a) / std, V^T w given y has the mean S U^T b / (1 + S^2)
    and the variance 1 / (1 + S^2): nothing is subtracted that nearly cancels.
    """
    root, matrix = (f.to_dense().double() for f in (problem.prior.root, problem.operator))
    root = root if root.shape[0] >= root.shape[1] else torch.linalg.cholesky(root @ root.T)
    d = root.shape[1]
    noise, centre = problem.likelihood.noise.std.double(), problem.prior.mean.double().flatten()
    gap = (problem.data.double().flatten() - matrix @ centre) / noise
    left, s, right = torch.linalg.svd(matrix @ root / noise, full_matrices=True)
    scale, mean = torch.ones(d).double(), torch.zeros(d).double()
    scale[: len(s)], projected = (1 + s.square()).sqrt(), left.T @ gap
    mean[: len(s)] = s * projected[: len(s)] / (1 + s.square())
    white = torch.linalg.lstsq(root, (draws.double().flatten(1) - centre).T).solution.T @ right.T
    shrunk = projected.clone()
    shrunk[: len(s)] /= scale[: len(s)]
    constant = len(gap) * math.log(2 * math.pi * float(noise) ** 2) + 2 * float(scale.log().sum())
    return (white - mean) * scale, -(float(shrunk.square().sum()) + constant) / 2


def assert_standard(coordinates, count):
    assert float(coordinates.mean(0).abs().max()) < 4.5 / math.sqrt(count)
    assert float((coordinates.var(0) - 1).abs().max()) < 4.5 * math.sqrt(2 / count)


@pytest.mark.parametrize("kind", ["white", "correlated", "smooth", "few modes", "many data"])
@pytest.mark.parametrize("std", [1e-1, 1e-5, 1e-7, 1e-9])
def test_the_default_is_exact_down_to_noise_of_a_billionth(kind, std):
    problem = precise_problem(kind, std)
    posterior, figures = solve(DiffusionEnsemble(particles=N, steps=6), twin(problem))
    coordinates, log_evidence = standardised(problem, posterior.samples)
    assert_standard(coordinates, N)
    assert figures["weights"] == "path"
    assert figures["ess_smallest"] == pytest.approx(N, rel=1e-3)
    assert figures["log_evidence"] == pytest.approx(log_evidence, abs=1e-3)


@pytest.mark.parametrize("kind", ["white", "correlated"])
@pytest.mark.parametrize("std", [1e-1, 1e-3, 1e-5])
def test_in_single_precision_too(kind, std):
    problem = precise_problem(kind, std, torch.float32)
    posterior, figures = solve(DiffusionEnsemble(particles=N, steps=6), twin(problem))
    assert posterior.samples.dtype == torch.float32
    assert_standard(standardised(problem, posterior.samples)[0], N)
    assert figures["ess_smallest"] == pytest.approx(N, rel=1e-2)


@pytest.mark.parametrize(
    "settings",
    [
        {"move": "denoised"},
        {"correctors": 2},
        {"corrections": 20},
        {"direct_limit": 0},
        {"direct_limit": 0, "correctors": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("std", [1e-1, 1e-6, 1e-9])
def test_other_settings_at_small_noise(settings, std):
    problem = precise_problem("white", std)
    posterior, _ = solve(DiffusionEnsemble(particles=N, steps=20, **settings), twin(problem))
    assert_standard(standardised(problem, posterior.samples)[0], N)


@pytest.mark.parametrize("kind", ["white", "many data"])
@pytest.mark.parametrize(
    ("std", "settings"), [(1e-1, {}), (1e-3, {}), (1e-6, {}), (1e-6, {"sigma_min": 1e-7})], ids=str
)
def test_renoised_draws_solve_to_a_part_of_the_noise(kind, std, settings):
    problem = precise_problem(kind, std)
    solver = DiffusionEnsemble(particles=N, steps=30, move="renoised", **settings)
    posterior, _ = solve(solver, twin(problem))
    assert_standard(standardised(problem, posterior.samples)[0], N)


@pytest.mark.parametrize(
    "settings",
    [
        {"move": "continuous"},
        {"move": "flow", "correctors": 2, "corrector": "langevin"},
        {"twist": "inflation"},
    ],
    ids=str,
)
def test_a_last_step_that_does_not_look_at_precise_data_is_said(settings):
    problem = precise_problem("white", 1e-4)

    def spread(**levels):
        posterior, _ = solve(DiffusionEnsemble(particles=N, weights="equal", steps=60, **settings | levels), problem)
        return float(standardised(problem, posterior.samples)[0].var(0).max())

    with pytest.warns(SciprobWarning, match=r"the last step of this move .* `sigma_min` below 3e-05\.$"):
        wide = spread()
    assert wide > 100 * spread(sigma_min=1e-5)  # and no warning


@pytest.mark.parametrize("std", [1e-2, 1e-9])
def test_a_field_from_precise_values_at_some_of_its_points(std):
    problem = sciprob.load_problem("inpainting", {"pixels": 8, "noise.std": std})
    posterior, figures = solve(DiffusionEnsemble(particles=N, steps=6), problem)
    coordinates, log_evidence = standardised(problem, posterior.samples)
    assert_standard(coordinates, N)
    assert figures["log_evidence"] == pytest.approx(log_evidence, abs=1e-3)


@pytest.mark.parametrize("kind", ["svd", "gram", "iterative"])
def test_conditional_draws_of_precise_and_uneven_data(kind, monkeypatch):
    g = torch.Generator().manual_seed(4)
    monkeypatch.setattr(linear_algebra, "_SVD_LIMIT", 0 if kind == "gram" else 512)
    left, right = (torch.linalg.qr(torch.randn(n, 4, generator=g, dtype=torch.float64))[0] for n in (6, 7))
    values = torch.tensor([1e6, 1e5, 1e3, 1.0] if kind == "iterative" else [1e9, 1e6, 1e3, 1.0]).double()
    operator, truth = DenseMap((left * values) @ right.T), torch.randn(7, generator=g, dtype=torch.float64)
    target = operator(truth) + torch.randn(6, generator=g, dtype=torch.float64)
    data = IterativeData(operator, target) if kind == "iterative" else SpectralData.of(operator, target)
    n, v = 4000, 2.0
    for inflation in (0.0, 0.5):
        draws = data.condition(torch.zeros(n, 7, dtype=torch.float64), v, inflation, g)
        square = values.square() / (1 + inflation * values.square())
        variance = 1 / (1 / v + square)
        mean = variance * values * (left.T @ target) / (1 + inflation * values.square())
        assert_standard((draws @ right - mean) / variance.sqrt(), n)
        rest = draws - draws @ right @ right.T
        assert float(rest.square().sum(-1).mean()) == pytest.approx(3 * v, rel=4.5 * math.sqrt(2 / (3 * n)))


def test_solves_with_precise_data_keep_their_digits():
    g = torch.Generator().manual_seed(5)
    whole, turned = (torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0] for n in (6, 7))
    left, right, values = whole[:, :4], turned[:, :4], torch.tensor([2e9, 1e9, 1e6, 1.0], dtype=torch.float64)
    tall = SpectralData.of(DenseMap(left * values), torch.zeros(6, dtype=torch.float64))
    wide = SpectralData.of(DenseMap(values[:, None] * right.T), torch.zeros(4, dtype=torch.float64))
    r, x = left @ values + whole[:, 4], right @ values + turned[:, 4]
    inflated = 1 + 0.5 * values.square()
    solved = tall.solve(r, 0.5)
    assert torch.allclose(solved @ left, values / inflated, rtol=1e-5, atol=0)
    assert float(solved @ whole[:, 4]) == pytest.approx(1, rel=1e-5)
    assert torch.allclose(tall.pull(r, 0.5), values.square() / inflated, rtol=1e-5, atol=0)
    energy = float((values.square() / inflated).sum()) + 1
    assert float(tall.energy(r, 0.5)) == pytest.approx(energy, rel=1e-5)
    applied = wide.precondition(x, 2.0, 0.0)
    assert torch.allclose(applied @ right, values / (0.5 + values.square()), rtol=1e-5, atol=0)
    assert float(applied @ turned[:, 4]) == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize(("dtype", "std"), [(torch.float32, 1e-8), (torch.float64, 1e-17)])
@pytest.mark.parametrize("move", ["auto", "renoised"])
def test_noise_below_the_rounding_of_the_data_is_refused(dtype, std, move):
    problem = twin(precise_problem("white", std, dtype))
    before = problem.prior.denoiser.calls
    with pytest.raises(DataError, match=r"smaller than the rounding errors of its data in float") as error:
        drive(DiffusionEnsemble(particles=4, steps=4, move=move), problem)
    assert str(error.value).endswith(".")
    assert problem.prior.denoiser.calls == before
