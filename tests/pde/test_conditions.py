"""Conditions that hold for any network, conditions as residuals, and wrong names."""

import math

import pytest
import torch
from torch import nn

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.pde import PDE, HardCondition, Jet, SoftCondition, columns, coordinate_jets, network_jets
from sciprob.pde.autodiff_jets import autodiff_jets
from sciprob.pde.burgers import Burgers
from sciprob.pde.cavity import cavity_conditions
from sciprob.pde.heat import Heat
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.pde.poisson import Poisson

PI = math.pi
BURGERS = HardCondition(
    lambda x, p: {"u": torch.sin(2 * PI * p["w"] * x["x"]) * torch.sin(PI * x["x"])},
    lambda x, p: {"u": x["t"] * torch.sin(PI * x["x"])},
)
FLOW = NavierStokes("xy")


def network(inputs, outputs, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs)).double()


def points(*columns_, n=9):
    """Points with some coordinates fixed, the others random."""
    sample = torch.rand(n, len(columns_), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for i, fixed in enumerate(columns_):
        if fixed is not None:
            sample[:, i] = fixed
    return sample


def burgers_field(at, w, seed=0):
    n = network_jets(network(2, 1, seed), at, "xt", Burgers().fields)
    return BURGERS(columns(at, "xt"), n, {"w": torch.tensor(w, dtype=torch.float64)})["u"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("w", [0.7, 2.0])
def test_burgers_initial_and_boundary_values_hold_for_any_weights(seed, w):
    at = points(None, 0.0)
    start = torch.sin(2 * PI * w * at[:, 0]) * torch.sin(PI * at[:, 0])
    assert (burgers_field(at, w, seed).value - start).abs().max() < 1e-15
    for side in (0.0, 1.0):
        assert burgers_field(points(side, None), w, seed).value.abs().max() < 1e-14
    inside = burgers_field(points(None, None), w, seed).value
    assert (inside - burgers_field(points(None, None), w, seed + 2).value).abs().max() > 1e-2


def test_derivatives_of_the_conditioned_field():
    """Product rule of B + D n against nested forward mode of the whole expression."""
    at, w, net = points(None, None), 0.7, network(2, 1)

    def field(q):
        x, t = q.unbind(-1)
        return torch.sin(2 * PI * w * x) * torch.sin(PI * x) + t * torch.sin(PI * x) * net(q)[..., 0]

    found, expected = burgers_field(at, w), autodiff_jets(field, at, "xt", ("xx", "t"))
    for name in ("", "x", "xx", "t"):
        assert (found[name] - expected[name]).abs().max() < 1e-11, name


def cavity(*fixed, seed=0):
    at = points(*fixed)
    n = network_jets(network(3, 3, seed), at, "xyt", FLOW.fields)
    return at, cavity_conditions()(columns(at, "xyt"), n, {"lid": torch.tensor(1.2, dtype=torch.float64)})


def test_cavity_conditions_hold_identically():
    for fixed in ((0.0, None, None), (1.0, None, None), (None, 0.0, None), (None, None, 0.0)):
        _, u = cavity(*fixed)
        assert u["u"].value.abs().max() < 1e-14
        assert u["v"].value.abs().max() < 1e-14
    at, u = cavity(None, 1.0, None)
    lid = 1.2 * (1 - (2 * at[:, 0] - 1) ** 6) * at[:, 2]
    assert (u["u"].value - lid).abs().max() < 1e-14
    assert u["v"].value.abs().max() < 1e-14
    assert cavity(0.0, 0.0, None)[1]["p"].value.abs().max() < 1e-15
    assert cavity(None, None, None)[1]["v"].value.abs().max() > 1e-3


def test_cavity_residual_reaches_the_parameters_of_a_network():
    at, u = cavity(None, None, None)
    p = {"density": torch.full((5, 1), 0.9).double(), "viscosity": torch.linspace(0.1, 1, 5).double()[:, None]}
    residuals = FLOW(columns(at, "xyt"), u, p)
    assert {r.shape for r in residuals.values()} == {(5, 9)}
    sum(r.square().sum() for r in residuals.values()).backward()


def test_a_distance_of_first_order_leaves_the_normal_derivative_free():
    at = points(0.0, None)
    slopes = [burgers_field(at, 1.0, seed).x for seed in (0, 1)]
    assert (slopes[0] - slopes[1]).abs().max() > 1e-2


def test_fields_without_condition_pass_through():
    x = columns(points(None, None), "xt")
    jets = coordinate_jets(x, ("xx",))
    u = HardCondition(lambda x, p: {}, lambda x, p: {"u": x["x"]})(x, {"u": jets["t"], "v": jets["t"]})
    assert torch.equal(u["v"].value, x["t"])
    assert torch.equal(u["u"].value, x["t"] * x["x"])


def test_soft_conditions_are_residuals():
    x = columns(points(0.0, None), "xt")
    u = {"u": torch.exp(2 * coordinate_jets(x, ("x",))["x"])}
    fixed = SoftCondition("left", "u", {"": 1.0}, 1.0).residual(x, u)["left"]
    flux = SoftCondition("left", "u", {"x": -1.0}, lambda x, p: -p["g"] * torch.ones_like(x["t"]))
    robin = SoftCondition("left", "u", {"": 3.0, "x": lambda x, p: -x["t"]}, lambda x, p: 3 - 2 * x["t"])
    assert fixed.abs().max() < 1e-15
    assert flux.residual(x, u, {"g": torch.tensor(2.0)})["left"].abs().max() < 1e-14
    assert flux.residual(x, u, {"g": torch.tensor(1.0)})["left"].abs().min() > 0.9
    assert robin.residual(x, u)["left"].abs().max() < 1e-14
    assert robin.fields == {"u": ("", "x")}


def test_wrong_names_are_explained():
    x = columns(points(None, None), "xt")
    u = {"u": coordinate_jets(x, ("xx", "t"))["x"]}
    with pytest.raises(ConfigError, match="parameter `viscosity` is missing"):
        Burgers()(x, u)
    with pytest.raises(ConfigError, match="no parameter `viscocity`; did you mean `viscosity`"):
        Burgers()(x, u, {"viscosity": 0.1, "viscocity": 0.1})
    with pytest.raises(ConfigError, match="field `u` is missing"):
        Burgers()(x, {"v": u["u"]}, {"viscosity": 0.1})
    with pytest.raises(ConfigError, match="coordinate `t` is missing"):
        Burgers()({"x": x["x"]}, u, {"viscosity": 0.1})
    with pytest.raises(UnsupportedProblemError, match=r"its jet knows no \['xx', 't'\]"):
        Burgers()(x, {"u": coordinate_jets(x, ("x",))["x"]}, {"viscosity": 0.1})
    with pytest.raises(ConfigError, match="'x', 'xy' or 'xyz', got 'yx'"):
        Heat("yx")
    with pytest.raises(ConfigError, match="'xy' or 'xyz', got 'x'"):
        NavierStokes("x")
    with pytest.raises(UnsupportedProblemError, match="so its gradient counts; give a jet"):
        Poisson("x")({"x": x["x"]}, u, {"conductivity": 1 + x["x"], "forcing": 0.0})


def test_a_residual_that_stays_a_jet_is_refused():
    class Mine(PDE):
        coordinates, fields, equations = ("x",), {"u": ("x",)}, ("mine",)

        def residual(self, x, u, p):
            return {"mine": u["u"] * 2}

    x = {"x": torch.ones(3)}
    with pytest.raises(UnsupportedProblemError, match=r"return its value, `r\.value`"):
        Mine()(x, {"u": coordinate_jets(x, ("x",))["x"]})


def test_batches_of_any_shape_and_dtype():
    x = {"x": torch.rand(2, 3, 0), "t": torch.rand(2, 3, 0)}
    u = {"u": Jet({k: torch.rand(2, 3, 0) for k in ("", "x", "xx", "t")})}
    r = Burgers()(x, u, {"viscosity": torch.rand(2, 1, 1)})["momentum"]
    assert r.shape == (2, 3, 0)
    assert r.dtype == torch.float32
