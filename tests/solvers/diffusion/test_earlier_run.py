"""Particles that begin at the draws of an earlier run: what stays exact, what is forgotten, what is refused."""

import math

import pytest
import torch
from solver_cases import dense_bayes, solve
from test_renoised import gaussian_twin

import sciprob
from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.operators import DenseMap
from sciprob.operators.algebra import Affine
from sciprob.operators.parameterise import Bounded
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.diffusion.denoiser import StandardNormalDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.random import Streams
from sciprob.solvers.diffusion.earlier_run import earlier_draws
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.spaces import GridSpace

N = 3000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def errors(posterior, exact):
    """Largest errors of mean and standard deviation, in their Monte-Carlo errors."""
    mean, covariance, _ = dense_bayes(exact)
    std = covariance.diagonal().sqrt()
    of_mean = (posterior.mean - mean).abs() / std * math.sqrt(N)
    return float(of_mean.max()), float((posterior.std / std - 1).abs().max() * math.sqrt(2 * N))


def test_from_draws_of_the_posterior_any_few_levels_below_any_noise_keep_it(tmp_path):
    problem, exact = gaussian_twin()
    sciprob.solve(exact, "gaussian", progress=False).save(tmp_path / "exact")
    solver = DiffusionEnsemble(particles=N, steps=3, start=str(tmp_path / "exact"))
    for sigma in (0.1, None):
        posterior, figures = solve(DiffusionEnsemble(**{**vars(solver), "sigma_max": sigma}), problem)
        assert max(errors(posterior, exact)) < 4.5
        assert figures["weights"] == "equal"


def test_a_wrong_start_stays_below_its_noise_and_is_forgotten_by_correctors(tmp_path):
    problem, exact = gaussian_twin()
    Ensemble(problem.prior.space, exact.prior.sample((N,), generator=generator())).save(tmp_path)
    settings = {"particles": N, "steps": 3, "start": str(tmp_path)}
    near, _ = solve(DiffusionEnsemble(**settings, sigma_max=0.1), problem)
    assert max(errors(near, exact)) > 20
    far, _ = solve(DiffusionEnsemble(**settings, sigma_max=2.0, correctors=30), problem)
    assert max(errors(far, exact)) < 4.5


def test_the_first_level_has_the_noise_of_the_latent_spread_by_default(tmp_path):
    problem, exact = gaussian_twin()
    sciprob.solve(exact, "gaussian", progress=False).save(tmp_path)
    solver = DiffusionEnsemble(particles=8, steps=3, start=str(tmp_path))
    assert solver.init(problem, Streams(0)).particles.v == pytest.approx(1.0)
    assert solver.max_steps == 3  # weights cannot be given up, so it does not begin anew


def grid(n, name="material"):
    return GridSpace((n, n), name=name, dims=("y", "x"), lower=(0.0, -1.0), upper=(2.0, 1.0), centring="cell")


def test_fields_of_a_finer_grid_become_the_latent_ones_of_this_one(tmp_path):
    """Linear fields are interpolated exactly, and an affine transform that mixes is undone."""
    fine, coarse = grid(8), grid(4)
    slopes = torch.tensor([[0.3, -0.2, 1.0], [1.1, 0.4, -2.0]], dtype=torch.float64)

    def field(space):
        x, y = space.points().T
        return (slopes @ torch.stack([x, y, torch.ones_like(x)])).reshape(2, *space.shape)

    mix = torch.eye(16, dtype=torch.float64) + torch.randn(16, 16, generator=generator(1), dtype=torch.float64) / 10
    latent = grid(4, "latent")
    offset = torch.randn(4, 4, generator=generator(2), dtype=torch.float64)
    prior = DiffusionPrior(StandardNormalDenoiser(latent), Affine(DenseMap(mix, latent, coarse), offset))
    Ensemble(fine, field(fine)).save(tmp_path)
    x = earlier_draws(tmp_path, prior, 2, generator())
    assert x.dtype == torch.float64
    assert torch.allclose(prior.decode(x), field(coarse), atol=1e-3)
    plain = DiffusionPrior(StandardNormalDenoiser(coarse))
    assert torch.allclose(earlier_draws(tmp_path, plain, 2, generator()), field(coarse))


def test_what_cannot_be_a_start_is_refused(tmp_path):
    space = grid(4)
    prior = DiffusionPrior(StandardNormalDenoiser(space))
    with pytest.raises(DataError, match="no saved posterior"):
        earlier_draws(tmp_path / "nowhere", prior, 2, generator())
    Ensemble(grid(4, "pressure"), torch.zeros(2, 4, 4)).save(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"should be a run for `material`, but the unknown of .* is `pressure`"):
        earlier_draws(tmp_path / "other", prior, 2, generator())
    bounded = DiffusionPrior(StandardNormalDenoiser(space), Bounded(space, space, lower=0.0, upper=1.0))
    with pytest.raises(UnsupportedProblemError, match="affine"):
        earlier_draws(tmp_path / "other", bounded, 2, generator())
    for settings in ({"move": "conditioned"}, {"weights": "path"}, {"twist": "inflation"}):
        with pytest.raises(ConfigError, match="`start` is for"):
            DiffusionEnsemble(start="run", **settings)
