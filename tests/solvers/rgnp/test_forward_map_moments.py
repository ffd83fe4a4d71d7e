"""The neural GP: its moments, its draws as functions, its law under a hard condition."""

from dataclasses import replace

import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.pde import HardCondition
from sciprob.pde.burgers import Burgers
from sciprob.pde.cavity import cavity_conditions
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.pde.poisson import NonlinearPoisson
from sciprob.problems.family import BoxDomain, ParameterBox, ProblemFamily
from sciprob.solvers.rgnp.forward_map import NeuralGP, NeuralGPLaw
from sciprob.solvers.rgnp.infer import infer_parameters
from sciprob.solvers.rgnp.network import NetworkShape


def poisson():
    return ProblemFamily(
        name="poisson",
        pde=NonlinearPoisson(),
        domain=BoxDomain(("x",), (-1.0,), (1.0,)),
        unknown=ParameterBox(tuple(f"z{i}" for i in range(5)), (-1.0,) * 5, (1.0,) * 5),
        known=ParameterBox(("forcing",), (1.0,), (2.0,), name="w"),
        condition=HardCondition(lambda x, p: {}, lambda x, p: {"u": torch.cos(0.5 * torch.pi * x["x"])}),
    )


def cavity():
    return ProblemFamily(
        name="cavity",
        pde=NavierStokes("xy"),
        domain=BoxDomain(("x", "y", "t"), (0.0,) * 3, (1.0,) * 3),
        unknown=ParameterBox(("density", "viscosity"), (0.8, 0.1), (1.0, 1.0)),
        known=ParameterBox(name="w"),
        condition=cavity_conditions(),
        constants={"lid": 1.0},
    )


def gp(family, rank=3, floor=1e-4):
    return NeuralGP(family, rank, floor, NetworkShape(width=12, depth=2), torch.Generator().manual_seed(0))


def inputs(family, *batch, n=5, seed=1):
    g = torch.Generator().manual_seed(seed)
    count = torch.Size(batch).numel()
    points = family.domain.sample(count * n, g).reshape(*batch, n, -1)
    z, w = family.unknown.sample(count, g), family.known.sample(count, g)
    return points, z.reshape(*batch, -1), w.reshape(*batch, family.known.size)


@pytest.mark.parametrize("make", [poisson, cavity])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_the_law_is_that_of_the_draws(make, batch):
    """A draw by jets has the value m + s e + C l of the law: same order of points, fields and latents."""
    family = make()
    model, (points, z, w) = gp(family), inputs(family, *batch)
    g = torch.Generator().manual_seed(2)
    noise = torch.randn(*batch, 5, family.n_fields, dtype=torch.float64, generator=g)
    latents = torch.randn(*batch, 3, dtype=torch.float64, generator=g)
    jets = model(model.jets(points), z, w).draw(family.fields, noise, latents)
    values = torch.stack([jets[name].value for name in family.fields], dim=-1)
    expected = model(points, z, w).law.draw(noise.flatten(-2), latents)
    torch.testing.assert_close(values.flatten(-2), expected, atol=1e-12, rtol=1e-12)


def test_for_fixed_latents_a_draw_is_a_function_with_these_derivatives():
    family = poisson()
    model, (points, z, w) = gp(family), inputs(family)
    noise = torch.randn(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    latents = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    with torch.no_grad():
        jet = model(model.jets(points), z, w).draw(family.fields, noise, latents)["u"]

    def value(shift):
        return model(points + shift, z, w).law.draw(noise[:, 0], latents).detach()

    errors = []
    for h in (2e-2, 1e-2):
        first = (value(h) - value(-h)) / (2 * h)
        second = (value(h) - 2 * value(0) + value(-h)) / h**2
        errors.append((float((first - jet.x).abs().max()), float((second - jet.xx).abs().max())))
    assert all(3.7 < coarse / fine < 4.3 for coarse, fine in zip(*errors, strict=True))


def test_variances_stay_between_floor_and_one():
    family = poisson()
    model, (points, z, w) = gp(family, floor=1e-3), inputs(family, n=50)
    with torch.no_grad():
        for scale in (1.0, 1e3):
            model.network.layers[-1].weight *= scale
            variance = model(points, z, w).law.std.square()
            assert float(variance.min()) >= 1e-3 * (1 - 1e-12)
            assert float(variance.max()) <= 1 + 1e-12
    assert float(variance.min()) < 1.1e-3  # the second network saturates
    assert float(variance.max()) > 0.99


def test_the_field_has_no_spread_where_it_is_prescribed():
    family = ProblemFamily(
        name="burgers",
        pde=Burgers(),
        domain=BoxDomain(("x", "t"), (0.0, 0.0), (1.0, 1.0)),
        unknown=ParameterBox(("viscosity", "advection"), (0.01, 0.5), (0.1, 1.0), (True, False)),
        known=ParameterBox(("wave",), (0.5,), (2.0,), name="w"),
        condition=HardCondition(
            lambda x, p: {"u": torch.sin(2 * torch.pi * p["wave"] * x["x"]) * torch.sin(torch.pi * x["x"])},
            lambda x, p: {"u": x["t"] * torch.sin(torch.pi * x["x"])},
        ),
    )
    x = torch.linspace(0, 1, 7, dtype=torch.float64)
    start = torch.stack([x, 0 * x], dim=-1)
    _, z, w = inputs(family)
    law = gp(family).field(start, z, w)
    torch.testing.assert_close(law.mean, torch.sin(2 * torch.pi * w * x) * torch.sin(torch.pi * x))
    assert float(law.variance.detach().abs().max()) == 0
    inside = gp(family).field(start + torch.tensor([0.0, 0.5]), z, w)
    assert float(inside.variance[1:-1].detach().min()) > 0


def test_parameters_are_inferred_through_it():
    """Data simulated from the map itself, so that its own law is the truth: the posterior holds z."""
    family = poisson()
    family = replace(
        family, unknown=ParameterBox(("z0",), (-1.0,), (1.0,)), constants={f"z{i}": 0.0 for i in range(1, 5)}
    )
    model, g = gp(family), torch.Generator().manual_seed(4)
    with torch.no_grad():  # a field that depends on z enough, and is sure of itself
        model.network.layers[-1].weight[0] *= 5
        model.network.layers[-1].bias[1] = -9.0
    points, w = torch.linspace(-0.8, 0.8, 12, dtype=torch.float64)[:, None], torch.tensor([1.5], dtype=torch.float64)
    law, truth = NeuralGPLaw(model, points, w), torch.tensor([[0.4]], dtype=torch.float64)
    with torch.no_grad():
        y = law(truth).noisy(0.02).sample(generator=g)[0]
    posterior = infer_parameters(family.unknown, law, y, 0.02, generator=g, samples=400)
    grid = torch.linspace(-1, 1, 2001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        weights = torch.softmax(law(grid).noisy(0.02).log_prob(y), 0)
    mean = weights @ grid
    std = (weights @ (grid - mean).square()).sqrt()
    assert float((posterior.mean - mean).abs() / std) < 0.2
    assert float(posterior.std / std) == pytest.approx(1, abs=0.15)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="floor"):
        gp(poisson(), floor=0.0)
