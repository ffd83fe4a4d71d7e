"""Inverse maps: laws over parameters, training on noisy sparse data with the forward map frozen, random designs."""

import json
import math
from dataclasses import replace

import pytest
import torch

from sciprob.errors import ConfigError, DataError
from sciprob.pde import HardCondition
from sciprob.pde.burgers import Burgers2D
from sciprob.pde.poisson import Poisson
from sciprob.problems.family import BoxDomain, DiskDomain, ParameterBox, ProblemFamily
from sciprob.solvers.rgnp.designs import random_designs
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.infer import infer_parameters
from sciprob.solvers.rgnp.inverse_map import InverseMap
from sciprob.solvers.rgnp.low_rank import LowRankGaussian
from sciprob.solvers.rgnp.observation_map import (
    ObservationMap,
    ObservationSettings,
    simulated,
    train_observation_map,
)
from sciprob.solvers.rgnp.observation_store import pack_observation_map, unpack_observation_map

SHAPE = GICShape(channels=5, grid=10, lifts=2, convolutions=2, width=32)
SETTINGS = ObservationSettings(shape=SHAPE, batch=32, most_points=40, steps=400, rate=5e-3, noise=(0.01, 0.3))
PRIOR = 0.5 * math.log(4)  # -log density of a unit-scale parameter under the prior


def family():
    """What counts is the forward map `mean`, in closed form; the equation is not used for training."""
    return ProblemFamily(
        name="bump",
        pde=Poisson("x"),
        domain=BoxDomain(("x",), (-1.0,), (1.0,)),
        unknown=ParameterBox(("forcing", "slant"), (0.5, -1.0), (2.0, 1.0)),
        condition=HardCondition(lambda x, p: {}, lambda x, p: {"u": torch.cos(0.5 * torch.pi * x["x"])}),
    )


def mean(z, w, x):
    return 0.5 * z[:, None, :1] * (1 - x**2) * torch.exp(z[:, None, 1:] * x)


@pytest.fixture(scope="module")
def trained():
    losses = []
    model = train_observation_map(
        family(), mean, SETTINGS, torch.Generator().manual_seed(0), lambda step, loss: losses.append(loss)
    )
    return model, losses


def scores(model, place, n=400, m=12, noise=0.05, seed=3):
    """-log density of the true z, and (z - mean) / std, for designs of m points."""
    g = torch.Generator().manual_seed(seed)
    z, w = family().unknown.sample(n, g), torch.zeros(n, 0, dtype=torch.float64)
    q = torch.rand(n, m, 1, dtype=torch.float64, generator=g)
    x = place(q)
    sigma = noise * model.scale.expand(n, 1, 1)
    y = mean(z, w, x) + sigma * torch.randn(n, m, 1, dtype=torch.float64, generator=g)
    law, unit = model(x, y, sigma, w), family().unknown.unit(z)
    return -law.log_prob(unit), (unit - law.mean) / law.variance.sqrt()


PLACES = {
    "even": lambda q: 2 * q - 1,
    "gathered at both ends": lambda q: 2 * torch.sin(0.5 * math.pi * q) ** 2 - 1,
    "one-sided": lambda q: 0.8 * q - 0.9,
}


@pytest.mark.parametrize("place", PLACES)
def test_it_learns_to_read_parameters_off_noisy_data_of_any_design(trained, place):
    model, losses = trained
    assert sum(losses[-25:]) / 25 < sum(losses[:25]) / 25 - 1.5
    loss, z_scores = scores(model, PLACES[place])
    assert float(loss.mean()) < 2 * PRIOR - (0.4 if place == "one-sided" else 2.0)
    assert 0.6 < float(z_scores.square().mean().sqrt()) < 1.6  # as wide as it is wrong, for each kind of design


def test_more_points_and_less_noise_make_it_surer(trained):
    model, _ = trained
    losses = [float(scores(model, PLACES["even"], m=m)[0].mean()) for m in (1, 5, 35)]
    assert losses[0] > losses[1] > losses[2]
    g = torch.Generator().manual_seed(4)
    x = 2 * torch.rand(20, 1, dtype=torch.float64, generator=g) - 1
    z = torch.tensor([[1.2, 0.3]], dtype=torch.float64)
    y = mean(z, None, x[None])[0]
    stds = [model(x, y, torch.full((1,), s).double() * model.scale, z[0, :0]).std.mean() for s in (0.01, 0.3)]
    assert float(stds[0]) < 0.7 * float(stds[1])


def test_as_a_guess_it_leads_to_the_exact_posterior(trained):
    model, _ = trained
    g = torch.Generator().manual_seed(5)
    x, noise = torch.linspace(-0.8, 0.8, 15, dtype=torch.float64)[:, None], 0.03
    truth = torch.tensor([[1.5, -0.4]], dtype=torch.float64)
    y = mean(truth, None, x[None])[0] + noise * torch.randn(15, 1, dtype=torch.float64, generator=g)
    guess = model(x, y, torch.tensor(noise).double(), truth[0, :0])

    class Law:
        def mean(self, z):
            return mean(z, None, x.expand(len(z), 15, 1))[..., 0]

        def __call__(self, z):
            u = self.mean(z)
            return LowRankGaussian(u, torch.zeros_like(u), u.new_zeros(*u.shape, 0))

    guided = infer_parameters(family().unknown, Law(), y[:, 0], noise, generator=g, guess=guess)
    alone = infer_parameters(family().unknown, Law(), y[:, 0], noise, generator=g)
    assert float(((guided.mean - alone.mean) / alone.std).abs().max()) < 0.2
    # the guess itself is in the right place
    unit = family().unknown.from_unit(guess.mean)
    assert float((unit - truth[0]).abs().max()) < 0.4


def test_data_at_the_boundary_are_not_divided_by_the_distance(trained):
    model, _ = trained
    x = torch.tensor([[-1.0], [0.1], [1.0]], dtype=torch.float64)
    y = torch.tensor([[0.05], [0.6], [-0.05]], dtype=torch.float64).requires_grad_()
    law = model(x, y, torch.tensor(0.05).double(), y.new_zeros(0))
    assert bool(torch.isfinite(law.mean).all())
    gradient = torch.autograd.grad(law.mean.sum(), y)[0]  # a quotient by D, 1e-16 at the ends, would make it 1e15
    assert float(gradient[[0, 2]].abs().max()) < 30 / float(model.scale)


def test_the_forward_map_is_only_called():
    calls = []

    def frozen(z, w, x):
        assert not torch.is_grad_enabled()
        calls.append(x.shape[1])
        return mean(z, w, x)

    train_observation_map(family(), frozen, replace(SETTINGS, steps=30, batch=4), torch.Generator().manual_seed(1))
    assert len(calls) == 31
    assert min(calls[1:]) <= 3
    assert max(calls[1:]) > 20
    assert max(calls[1:]) <= 40


def plane():
    """Two fields and a known parameter, to check shapes and which field is seen."""
    return ProblemFamily(
        name="plane",
        pde=Burgers2D(),
        domain=BoxDomain(("x", "y", "t"), (0.0,) * 3, (1.0,) * 3),
        unknown=ParameterBox(("viscosity",), (0.01,), (0.1,), (True,)),
        known=ParameterBox(("wave",), (1.0,), (2.0,), name="w"),
        condition=HardCondition(lambda x, p: {"u": torch.sin(p["wave"] * x["x"])}, lambda x, p: {"u": x["t"]}),
    )


def test_fields_that_are_not_observed_are_not_seen():
    settings = ObservationSettings(shape=GICShape(channels=3, width=8))
    scale = torch.tensor([2.0, 0.1], dtype=torch.float64)
    model = ObservationMap(plane(), scale, settings, torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(6)
    x, y = torch.rand(2, 5, 3, dtype=torch.float64, generator=g), torch.randn(2, 5, 2, dtype=torch.float64, generator=g)
    w = torch.tensor([[1.0], [1.5]], dtype=torch.float64)
    sigma = torch.tensor([0.1, math.inf], dtype=torch.float64)
    law = model(x, y, sigma, w)
    assert law.mean.shape == (2, 1)
    other = y.clone()
    other[..., 1] = math.nan
    assert torch.equal(model(x, other, sigma, w).mean, law.mean)
    other[..., 0] += 1
    assert not torch.equal(model(x, other, sigma, w).mean, law.mean)
    with pytest.raises(DataError, match="at least one point"):
        model(x[:, :0], y[:, :0], sigma, w)


def test_noise_and_fields_of_the_simulations_have_their_scale():
    settings = replace(SETTINGS, batch=300, noise=(0.2, 0.2), most_points=2)
    scale = torch.tensor([0.5], dtype=torch.float64)
    z, w, x, y, sigma = simulated(family(), mean, scale, settings, torch.Generator().manual_seed(7))
    torch.testing.assert_close(sigma, torch.full_like(sigma, 0.1))
    error = (y - mean(z, w, x)) / 0.1
    assert float(error.square().mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / error.numel()))
    model = train_observation_map(family(), mean, replace(SETTINGS, steps=1), torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(8)
    u = mean(family().unknown.sample(20_000, g), None, family().domain.sample(20_000, g)[:, None])
    assert float(model.scale) == pytest.approx(float(u.square().mean().sqrt()), rel=0.15)


@pytest.mark.parametrize("domain", [BoxDomain(("x", "t"), (-2.0, 0.0), (1.0, 5.0)), DiskDomain(2.0)])
def test_designs_lie_in_the_domain_and_differ_in_kind(domain):
    points = random_designs(domain, 200, 40, torch.Generator().manual_seed(9))
    assert points.shape == (200, 40, 2)
    assert bool(domain.contains(points).all())
    spread = points.std(1)
    assert float(spread.max()) > 3 * float(spread.min())  # intervals and gathered points beside even ones
    again = random_designs(domain, 200, 40, torch.Generator().manual_seed(9))
    assert torch.equal(points, again)


def test_rank_and_number_of_points_enter_the_law():
    p = InverseMap(plane(), 2, 1, 1e-4, GICShape(channels=3, width=8), torch.Generator().manual_seed(1))
    x, values = torch.rand(4, 3, dtype=torch.float64), torch.ones(4, 2, dtype=torch.float64)
    w = torch.tensor([1.2], dtype=torch.float64)
    law = p(x, values, w)
    assert law.rank == 1
    twice = p(torch.cat([x, x]), torch.cat([values, values]), w)  # the interpolation cannot tell, the count can
    assert float((twice.mean - law.mean).detach().abs().max()) > 1e-6
    padding = torch.tensor([0.0] * 4 + [-math.inf] * 4, dtype=torch.float64)
    padded = p(torch.cat([x, 0 * x]), torch.cat([values, 7 * values]), w, padding)
    torch.testing.assert_close(padded.mean, law.mean, atol=1e-12, rtol=1e-12)


def test_packed_and_unpacked_it_gives_the_same_numbers(trained):
    model, _ = trained
    tensors, words = pack_observation_map(model)
    again = unpack_observation_map(tensors, json.loads(json.dumps(words)), family(), "a test")
    x = torch.linspace(-0.9, 0.9, 7, dtype=torch.float64)[:, None]
    inputs = (x, torch.cos(x), torch.tensor(0.1).double(), x.new_zeros(0))
    assert torch.equal(again(*inputs).mean, model(*inputs).mean)
    assert torch.equal(again(*inputs).factors, model(*inputs).factors)
    with pytest.raises(ConfigError, match="does not fit the family `plane`"):
        unpack_observation_map(tensors, words, plane(), "a test")


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="noise"):
        replace(SETTINGS, noise=(0.3, 0.1))
    with pytest.raises(ConfigError, match="floor"):
        InverseMap(plane(), 2, 1, 1.5, GICShape(), torch.Generator())
