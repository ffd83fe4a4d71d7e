"""Linear-Gaussian twins with known posteriors, laws of solvers on them without Monte Carlo, and the loop."""

import dataclasses
import sys
from itertools import pairwise

import torch

from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DenseMap, ForwardOperator
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.solvers.diffusion.annealing import latent_problem
from sciprob.spaces import Space


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def twin(matrix, covariance, data, std, *, sigma_max=80.0, sigma_min=0.002, scale=1.0):
    """Prior N(0, covariance) by its denoiser, data = matrix x + std noise, in units `scale`."""
    matrix, covariance, data = (torch.as_tensor(t, dtype=torch.float64) for t in (matrix, covariance, data))
    space, codomain = Space((matrix.shape[1],), name="m"), Space((matrix.shape[0],), name="y")
    prior = DiffusionPrior(GaussianDenoiser.of_covariance(covariance), sigma_max=sigma_max, sigma_min=sigma_min)
    operator = DenseMap(scale * matrix, domain=space, codomain=codomain)
    return Problem("twin", prior, Likelihood(operator, GaussianNoise(codomain, scale * std)), data=scale * data)


def scalar_twin(std=0.3, data=1.2, variance=1.0, **settings):
    return twin([[1.0]], [[variance]], [data], std, **settings)


def small_twin(**settings):
    """Three unknowns, two data."""
    root = normal(1, 3, 3)
    covariance = root @ root.T / 3 + 0.1 * torch.eye(3, dtype=torch.float64)
    return twin(normal(2, 2, 3), covariance, [0.8, -1.1], 0.4, sigma_max=20.0, **settings)


def posterior(problem, *, prior_factor=1.0, extra=0.0):
    """Mean and covariance for prior covariance `prior_factor` C, noise covariance std^2 I + `extra` A A^T."""
    spectrum, a = problem.prior.denoiser.spectrum, problem.operator.to_dense()
    eye = torch.eye(a.shape[1], dtype=torch.float64)
    c = prior_factor * spectrum.apply_function(spectrum.eigenvalues[None], eye.new_zeros(()), eye)
    noise = float(problem.likelihood.noise.std) ** 2 * torch.eye(a.shape[0], dtype=torch.float64)
    s = a @ c @ a.T + noise + extra * a @ a.T
    gain = torch.linalg.solve(s, a @ c).T
    return gain @ problem.data, c - gain @ a @ c


def affine_law(solver, problem, monkeypatch):
    """Mean and covariance of the members' law: the solver is affine in all its noise, so unit impulses give it.

    Every draw of the moves becomes a unit impulse in one row of its own.
    """
    latent = latent_problem(problem, None)
    levels = solver.levels(latent.prior).tolist()
    d = latent.size
    rows = 1 + 2 * d * len(levels)  # at most two draws a level
    z = torch.zeros(rows, d, dtype=torch.float64)
    z[1 : d + 1] = latent.prior.sigma_max * torch.eye(d, dtype=torch.float64)
    used = d + 1

    def impulses(shape, like, generator):
        nonlocal used
        noise = like.new_zeros(shape)
        width = noise.reshape(rows, -1).shape[1]
        noise.reshape(rows, -1)[used : used + width] = torch.eye(width, dtype=like.dtype)
        used += width
        return noise

    for name, module in list(sys.modules.items()):
        if name.startswith(("sciprob.solvers.diffusion", "sciprob.priors.diffusion")) and hasattr(module, "randn"):
            monkeypatch.setattr(module, "randn", impulses)
    for start, end in pairwise(levels):
        z = solver.move(latent, z, start, end, seeded()).detach()
    assert used <= rows
    centred = z[1:used] - z[0]
    return z[0], centred.T @ centred


def drive(solver, problem, seed=0, interrupted_after=None):
    """Init and step to the end, optionally through a copy of the state on the way."""
    streams = Streams(seed)
    state = solver.init(problem, streams)
    for i in range(solver.max_steps):
        if i == interrupted_after:
            fresh = Streams(streams.seed)
            fresh.load_state_dict({k: v.clone() for k, v in streams.state_dict().items()})
            values = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
            copies = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in values.items()}
            streams, state = fresh, type(state)(**copies)
        state, _ = solver.step(problem, state, streams)
    assert solver.finished(state) is not None
    return state


def assert_resumes(solver, problem):
    """An interrupted run ends in the same state."""
    whole, parts = drive(solver, problem), drive(solver, problem, interrupted_after=1)
    for f in dataclasses.fields(whole):
        a, b = getattr(whole, f.name), getattr(parts, f.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, f.name


class Bend(ForwardOperator):
    """m (2,) -> (m_0 + m_1^2 / 2, m_1 exp(m_0 / 3))."""

    def __init__(self):
        super().__init__(Space((2,), name="m"), Space((2,), name="y"))

    def _apply_batched(self, m):
        a, b = m.unbind(-1)
        return torch.stack([a + b.square() / 2, b * (a / 3).exp()], -1)


def bent_twin(std=0.5):
    """A nonlinear operator under N(0, I), for sizes where quadrature knows the answer."""
    operator = Bend()
    prior = DiffusionPrior(GaussianDenoiser.of_covariance(torch.eye(2, dtype=torch.float64)), sigma_max=20.0)
    data = torch.tensor([0.8, 0.7], dtype=torch.float64)
    return Problem("bent", prior, Likelihood(operator, GaussianNoise(operator.codomain, std)), data=data)


def bent_posterior(problem, extra=0.0):
    """Mean and covariance by a tensor grid; `extra` blurs x by its variance after the data have been seen."""
    axis = torch.linspace(-6, 6, 801, dtype=torch.float64)
    m = torch.cartesian_prod(axis, axis)
    weights = problem.likelihood.log_prob(m, problem.data).exp()
    if extra > 0:  # the data see u = x + noise: convolve the likelihood along both axes
        kernel = torch.exp(-(axis[:, None] - axis).square() / (2 * extra))
        weights = (kernel @ weights.reshape(801, 801) @ kernel.T).flatten()
    weights = weights * (-m.square().sum(-1) / 2).exp()
    weights = weights / weights.sum()
    mean = weights @ m
    return mean, (m - mean).T @ (weights[:, None] * (m - mean))
