"""Trained priors in problems: the right size, units kept, truths for finer models; wrong sizes refused."""

from dataclasses import replace

import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.operators.algebra import Affine
from sciprob.operators.base import Capability
from sciprob.operators.linear import DiagonalMap
from sciprob.priors.diffusion import store
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.grid_matern import GridMatern
from sciprob.problems.registry import load_problem
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.spaces import GridSpace


def exact_prior(pixels, centring="periodic", scale=0.5, shift=0.25):
    """A Gaussian field by its exact denoiser, in units of its own."""
    grid = GridSpace((pixels,) * 2, "trained", ("y", "x"), lower=(0.0,) * 2, upper=(1.0,) * 2, centring=centring)
    boundary = "periodic" if centring == "periodic" else "neumann"
    field = GridMatern(grid, std=1.0, length=0.3, smoothness=2.5, boundary=boundary)
    factor = torch.full(grid.shape, scale, dtype=torch.float64)
    transform = Affine(DiagonalMap(factor, grid), torch.full(grid.shape, shift, dtype=torch.float64))
    return DiffusionPrior(GaussianDenoiser.of_prior(field), replace_codomain(transform, grid), surrogate=field)


def replace_codomain(transform, grid):
    transform.codomain = replace(grid, name="unknown")
    return transform


@pytest.fixture
def trained(monkeypatch):
    """Stands in for the trained priors on disk: `periodic` and `cell`, of 16 x 16 points."""
    monkeypatch.setattr(store, "load_diffusion_prior", lambda name: exact_prior(16, name))


LEARNED = {"prior.kind": "diffusion", "prior.weights": "cell"}


def test_the_unknown_lies_on_the_problems_grid_in_its_own_units(trained):
    problem = load_problem("inpainting", {"pixels": 16} | LEARNED)
    assert problem.prior.space.name == "field"
    assert Capability.DENOISER in problem.offers
    assert Capability.WHITENED_PRIOR not in problem.offers
    x = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(problem.prior.decode(x), 0.25 + 0.5 * x)
    assert LatentProblem(problem).linear  # an affine transform keeps a linear operator linear
    assert problem.truth is not None


@pytest.mark.parametrize("name", ["inpainting", "darcy-grid", "navier-stokes-initial"])
def test_another_size_is_refused(trained, name):
    size = {"pixels": 32} if name == "inpainting" else {"grid.inversion": 32}
    with pytest.raises(ConfigError, match=r"\(16, 16\).*\(32, 32\)") as caught:
        load_problem(name, size | LEARNED)
    assert "\n" not in str(caught.value)


def test_truth_and_data_of_a_flow_come_from_the_finer_model(trained):
    settings = {"grid.inversion": 16, "grid.data": 32, "prior.kind": "diffusion", "prior.weights": "periodic"}
    problem = load_problem("navier-stokes-initial", settings | {"viscosity": 0.1, "sensors.count": 10})
    prior, operator = problem.simulator.model
    fine = prior.sample(generator=torch.Generator().manual_seed(1))
    assert fine.shape == (32, 32)
    assert operator.domain.shape == (32, 32)
    coarse = problem.prior.sample(generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(fine[::2, ::2], coarse, atol=1e-6, rtol=1e-6)  # the same field between its points


def test_truth_and_data_of_a_conductivity_come_from_the_finer_model(trained):
    problem = load_problem("darcy-grid", {"grid.inversion": 16, "grid.data": 32, "sensors.count": 10} | LEARNED)
    prior, _ = problem.simulator.model
    fine = prior.sample(generator=torch.Generator().manual_seed(1))
    coarse = problem.prior.sample(generator=torch.Generator().manual_seed(1))
    assert fine.shape == (32, 32)
    assert float(fine.max()) <= float(coarse.max()) + 1e-12  # linear between points
    assert problem.truth.shape == (16, 16)
