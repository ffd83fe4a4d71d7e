"""The evidence lower bound: known optima, unbiasedness over grids, data, gradients that are stopped."""

import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from scipy.optimize import brentq

from sciprob.errors import ShapeError
from sciprob.pde import PDE, HardCondition
from sciprob.pde.poisson import Poisson
from sciprob.problems.family import BoxDomain, ParameterBox, ProblemFamily
from sciprob.solvers.rgnp.elbo import Draw, FieldRecords, data_log_likelihood, evidence_bound
from sciprob.solvers.rgnp.forward_map import NeuralGP
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.inverse_map import InverseMap
from sciprob.solvers.rgnp.network import NetworkShape

FLOOR = 1e-12  # low enough to leave optima alone


class Scaled(PDE):
    """A u - f = 0, without derivatives."""

    coordinates: ClassVar = ("x",)
    fields: ClassVar = {"u": ()}
    equations: ClassVar = ("scaled",)
    parameters: ClassVar = ("factor", "forcing")

    def residual(self, x, u, p):
        return {"scaled": p["factor"] * u["u"].value - p["forcing"]}


def line(pde, condition, names, **constants):
    box = ParameterBox(names, (1.0,) * len(names), (2.0,) * len(names))
    return ProblemFamily("line", pde, BoxDomain(("x",), (-1.0,), (1.0,)), box, condition, constants=constants)


COSINE = HardCondition(lambda x, p: {}, lambda x, p: {"u": torch.cos(0.5 * torch.pi * x["x"])})
FREE = HardCondition(lambda x, p: {}, lambda x, p: {})


def gp(family, rank=0, width=8):
    shape = NetworkShape(width=width, depth=2)
    return NeuralGP(family, rank, FLOOR, shape, torch.Generator().manual_seed(0))


def constant_gp(family, mean, std, factors=()):
    """Moments that vary with nothing: the last layer's bias alone."""
    model = gp(family, len(factors))
    last = model.network.layers[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([mean, math.log(std**2 / (1 - std**2)), *factors]))
    return model


def draw(family, batch, points, rank=0, seed=1):
    return Draw.of(family, batch, points, rank, torch.Generator().manual_seed(seed))


def eps(value, n=1):
    return torch.full((n,), value, dtype=torch.float64)


def bias_gradient(model, sample, noise):
    bound = evidence_bound(model, None, sample, eps(noise)).total.mean()
    return torch.autograd.grad(bound, model.network.layers[-1].bias)[0]


def test_the_best_constant_spread_is_the_residual_noise_over_the_operators_size():
    """For u'' = 0 and D = cos(pi x / 2) it is sqrt(2) (2 / pi)^2 eps = 0.573 eps, whatever the true error."""
    family = line(Poisson("x"), COSINE, ("forcing",))
    sample, noise = draw(family, 20_000, 1), 0.02
    # no forcing, so the mean zero solves the equation; of the noise only the square counts
    sample = replace(sample, z=0 * sample.z, noise=sample.noise.sign())

    def slope(log_std):
        return float(bias_gradient(constant_gp(family, 0.0, math.exp(log_std)), sample, noise)[1])

    std = math.exp(brentq(slope, math.log(0.4 * noise), math.log(0.8 * noise), xtol=1e-3))
    assert std / noise == pytest.approx(math.sqrt(2) * (2 / math.pi) ** 2, rel=0.01)


def test_spread_and_residual_noise_grow_together_at_no_cost():
    """Why learnt noise runs away in the diag model: a mean that solves the equation, and any common factor."""
    family = line(Poisson("x"), COSINE, ("forcing",))
    sample = draw(family, 50, 4)
    sample = replace(sample, z=0 * sample.z)
    with torch.no_grad():
        small, large = (
            evidence_bound(constant_gp(family, 0.0, 0.5 * noise), None, sample, eps(noise)).total
            for noise in (0.02, 0.2)
        )
    torch.testing.assert_close(small, large, atol=1e-5, rtol=0)  # the floor of s is left


def test_toy_evidence_is_maximal_at_the_exact_posterior():
    """r = a n - f on one point, flat prior of n: q should be N(f / a, (eps / a)^2); there the bound is the evidence."""
    family = line(Scaled(), FREE, ("unused",), factor=2.5, forcing=0.5)
    sample, noise = draw(family, 50_000, 1), 0.05
    mean, std = 0.5 / 2.5, noise / 2.5
    gradient = bias_gradient(constant_gp(family, mean, std), sample, noise)
    scale = 1 / std  # standard deviation of one sample's gradient in m
    assert abs(float(gradient[0])) < 4 * scale / math.sqrt(50_000)
    assert abs(float(gradient[1])) < 4 / math.sqrt(2 * 50_000)
    bound = evidence_bound(constant_gp(family, mean, std), None, sample, eps(noise)).total.mean()
    evidence = -math.log(2.5)  # the integral of N(0; a n - f, eps^2) over n is 1 / a
    assert float(bound.detach()) == pytest.approx(evidence, abs=0.02)
    for shift, factor in ((0.01, 1.0), (0.0, 1.3), (0.0, 0.7)):
        worse = evidence_bound(constant_gp(family, mean + shift, factor * std), None, sample, eps(noise)).total.mean()
        assert float(worse.detach()) < evidence - 0.02


def test_factors_reach_the_exact_posterior_too():
    """On one point s^2 + c^2 is the variance, so a factor and a spread with the right sum are as good as a spread."""
    family = line(Scaled(), FREE, ("unused",), factor=2.5, forcing=0.5)
    std = 0.05 / 2.5
    split = constant_gp(family, 0.2, 0.6 * std, (0.8 * std,))
    bound = evidence_bound(split, None, draw(family, 50_000, 1, rank=1), eps(0.05)).total.mean()
    assert float(bound.detach()) == pytest.approx(-math.log(2.5), abs=0.02)


def test_the_best_residual_noise_is_the_root_mean_squared_residual():
    family = line(Poisson("x"), COSINE, ("forcing",))
    model, sample = gp(family), draw(family, 40, 30)
    noise = eps(1.0).requires_grad_()
    squares = evidence_bound(model, None, sample, noise).squares
    best = squares.sqrt().requires_grad_()
    gradient = torch.autograd.grad(evidence_bound(model, None, sample, best).total.mean(), best)[0]
    away = torch.autograd.grad(evidence_bound(model, None, sample, noise).total.mean(), noise)[0]
    assert float(gradient.abs()) < 1e-10 * float(away.abs())


def test_the_mean_over_grids_does_not_depend_on_their_size_and_its_variance_falls_with_it():
    family = line(Poisson("x"), COSINE, ("forcing",))
    model = gp(family)
    means, variances, n = [], [], 3000
    for points in (5, 50):
        sample = draw(family, n, points, seed=points)
        sample = replace(sample, z=torch.full_like(sample.z, 1.5))  # the grid alone is random, and the noise on it
        with torch.no_grad():
            residual = evidence_bound(model, None, sample, eps(1.0)).residual / points
        means.append(float(residual.mean()))
        variances.append(float(residual.var()))
    error = math.sqrt(sum(variance / n for variance in variances))
    assert abs(means[0] - means[1]) < 4 * error
    assert variances[0] / variances[1] == pytest.approx(10, rel=0.25)


def test_residual_weights_count():
    family = line(Poisson("x"), COSINE, ("forcing",))
    weighted = replace(family, weights=lambda p: {"poisson": 10.0})
    sample = draw(family, 3, 4)
    squares = [evidence_bound(gp(f), None, sample, eps(1.0)).squares for f in (family, weighted)]
    torch.testing.assert_close(squares[1], 100 * squares[0])


def inverse(family, values=1):
    return InverseMap(family, values, 0, 1e-4, GICShape(channels=3, width=8), torch.Generator().manual_seed(2))


@pytest.mark.parametrize("stop", [True, False])
def test_the_inverse_term_reaches_the_forward_map_unless_it_is_stopped(stop):
    family = line(Poisson("x"), COSINE, ("forcing",))
    model, p = gp(family, rank=2), inverse(family)
    bound = evidence_bound(model, p, draw(family, 4, 6, rank=2), eps(1.0), stop_gradient=stop)
    gradients = torch.autograd.grad(
        bound.inverse.sum(), [*model.parameters(), *p.parameters()], allow_unused=True, materialize_grads=True
    )
    count = len(list(model.parameters()))
    assert (max(float(g.abs().max()) for g in gradients[:count]) == 0) == stop
    assert max(float(g.abs().max()) for g in gradients[count:]) > 0


def test_the_data_likelihood_has_the_field_integrated_out():
    """Against averaging N(y; u, sigma^2) over draws of u."""
    family = line(Poisson("x"), COSINE, ("forcing",))
    model = gp(family, rank=2)
    g = torch.Generator().manual_seed(3)
    points = torch.tensor([[-0.7], [0.2], [1.0]], dtype=torch.float64)
    z = family.unknown.sample(2, g)
    values = torch.randn(2, 3, 1, dtype=torch.float64, generator=g)
    records = FieldRecords(points, values, z, z.new_zeros(2, 0), 0.8)
    with torch.no_grad():
        exact = data_log_likelihood(model, records)
        draws = model.field(points, z, records.w).sample((200_000,), generator=g)
    each = torch.distributions.Normal(draws, 0.8).log_prob(values.flatten(-2)).sum(-1)
    error = (each - each.logsumexp(0)).exp().square().sum(0).sqrt()  # relative
    average = each.logsumexp(0) - math.log(200_000)
    assert bool(((average - exact).abs() < 4 * error).all())
    assert float(draws[..., 2].abs().max()) < 1e-12  # the condition holds


def test_without_information_the_data_have_no_gradient():
    family = line(Poisson("x"), COSINE, ("forcing",))
    model, g = gp(family, rank=2), torch.Generator().manual_seed(3)
    z, points = family.unknown.sample(2, g), family.domain.sample(6, g).reshape(2, 3, 1)
    sizes = []
    for noise in (1.0, 1e5):
        records = FieldRecords(points, torch.ones(2, 3, 1, dtype=torch.float64), z, z.new_zeros(2, 0), noise)
        value = data_log_likelihood(model, records).sum()
        gradients = torch.autograd.grad(value, list(model.parameters()))
        sizes.append(max(float(gradient.abs().max()) for gradient in gradients))
    assert sizes[1] < 1e-8 * sizes[0]


def test_records_are_checked_and_batches_keep_them_together():
    with pytest.raises(ShapeError, match="records"):
        FieldRecords(torch.zeros(4, 1), torch.zeros(3, 5, 1), torch.zeros(3, 1), torch.zeros(3, 0), 1.0)
    index = torch.arange(9.0)[:, None]
    records = FieldRecords(index[:, None], index[:, None], index, index[:, :0], index[:, None])
    batch = records.batch(4, torch.Generator().manual_seed(0))
    assert len(batch) == len(set(batch.z.flatten().tolist())) == 4
    for part in (batch.points, batch.values, batch.noise):
        assert torch.equal(part.flatten(), batch.z.flatten())
