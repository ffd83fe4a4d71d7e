"""Small problems with answers in closed form, and the loop that drives a solver."""

import dataclasses
import math

import torch

from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.metrics import mcmc
from sciprob.operators import DenseMap, DiagonalMap, ForwardOperator
from sciprob.priors.base import GaussianPrior
from sciprob.problems.problem import Problem
from sciprob.random import Streams
from sciprob.spaces import Space


def tensor(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def linear_problem(unknowns=12, measurements=8, white=None, seed=0, std=0.3, correlated=True, level=None):
    """Dense G, prior with mean, noise correlated through a triangular root; data simulated."""
    g = torch.Generator().manual_seed(seed)
    space, data = Space((unknowns,), name="m"), Space((measurements,), name="y")
    prior = GaussianPrior(tensor(g, unknowns), DenseMap(tensor(g, unknowns, white or unknowns) / 2, codomain=space))
    operator = DenseMap(tensor(g, measurements, unknowns), domain=space, codomain=data)
    triangle = torch.eye(measurements, dtype=torch.float64) + 0.3 * tensor(g, measurements, measurements).tril(-1)
    root = DenseMap(triangle, codomain=data) if correlated else None
    noise = GaussianNoise(data, std, root=root, level=level)
    return Problem("linear", prior, Likelihood(operator, noise)).simulate(g)


def dense_bayes(problem, level=1.0):
    """Mean, covariance and log evidence by the formulas of the textbook."""
    prior, noise, g = problem.prior, problem.likelihood.noise, problem.operator.to_dense()
    root = prior.root.to_dense()
    c = root @ root.T
    n = len(problem.data)
    factor = torch.eye(n, dtype=torch.float64) if noise.root is None else noise.root.to_dense()
    scaled = noise.std.expand(n)[:, None] * factor
    r = level * scaled @ scaled.T
    s = g @ c @ g.T + r
    gain = torch.linalg.solve(s, g @ c).T
    gap = problem.data - g @ prior.mean
    predictive = torch.distributions.MultivariateNormal(g @ prior.mean, s)
    return prior.mean + gain @ gap, c - gain @ g @ c, predictive.log_prob(problem.data)


def drive(solver, problem, seed=0, steps=None, interrupted_after=None):
    """Init and step to the end, or `steps` times; optionally through a copy of the state on the way."""
    streams = Streams(seed)
    state = solver.init(problem, streams)
    limit = solver.max_steps if steps is None else steps
    for i in range(limit):
        if solver.finished(state) is not None:
            break
        if i == interrupted_after:
            streams, state = saved(streams, state)
        state, _ = solver.step(problem, state, streams)
    return state


def saved(streams, state):
    """What a checkpoint keeps: fields, stream states, and nothing else."""
    again = Streams(streams.seed)
    again.load_state_dict({k: v.clone() for k, v in streams.state_dict().items()})
    fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    copies = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in fields.items()}
    return again, type(state)(**copies)


def solve(solver, problem, seed=0):
    state = drive(solver, problem, seed)
    assert solver.finished(state) is not None
    return solver.result(problem, state), solver.diagnostics(problem, state)


def same_state(a, b):
    for f in dataclasses.fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if isinstance(x, torch.Tensor):
            assert torch.equal(x, y), f.name
        elif dataclasses.is_dataclass(x):
            same_state(x, y)
        else:
            assert x == y, f.name


class Bend(ForwardOperator):
    """m (2,) -> (m_0 + m_1^2 / 2, m_1 exp(m_0 / 3)): banana-shaped posteriors."""

    def __init__(self):
        super().__init__(Space((2,), name="m"), Space((2,), name="y"))

    def _apply_batched(self, m):
        a, b = m.unbind(-1)
        return torch.stack([a + b.square() / 2, b * (a / 3).exp()], -1)


def bent_problem(std=0.5):
    operator = Bend()
    prior = GaussianPrior(torch.zeros(2, dtype=torch.float64), DiagonalMap(torch.ones(2, dtype=torch.float64)))
    data = torch.tensor([0.8, 0.7], dtype=torch.float64)
    return Problem("bent", prior, Likelihood(operator, GaussianNoise(operator.codomain, std)), data=data)


def quadrature(problem, half_width=6.0, points=801):
    """Mean, covariance and log evidence of a two-dimensional posterior on a tensor grid of whitened coordinates."""
    axis = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
    xi = torch.cartesian_prod(axis, axis)
    m = problem.prior.whitening(xi)
    log_density = problem.likelihood.log_prob(m, problem.data) - xi.square().sum(-1) / 2
    weights = log_density.softmax(0)
    mean = weights @ m
    gap = m - mean
    evidence = log_density.logsumexp(0) + 2 * math.log(float(axis[1] - axis[0])) - math.log(2 * math.pi)
    return mean, gap.T @ (weights[:, None] * gap), float(evidence)


def assert_moments(posterior, mean, covariance, sigmas=4.5):
    """Mean and std agree within the Monte-Carlo error that the chains' effective sizes give."""
    draws, std = posterior.by_chain(), covariance.diagonal().sqrt()
    assert float(mcmc.rhat(draws).max()) < 1.04
    assert ((posterior.mean - mean).abs() < sigmas * mcmc.mcse_mean(draws)).all()
    square = (draws - mean).square()
    assert ((square.mean((0, 1)) - std.square()).abs() < sigmas * mcmc.mcse_mean(square)).all()
    assert (mcmc.mcse_mean(draws) < 0.1 * std).all()  # the errors are small enough for the test to mean something
