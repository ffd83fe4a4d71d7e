"""Incompressible flow: exact solutions, orders, invariances, the cylinder benchmark, discrete adjoints."""

from __future__ import annotations

import importlib.util
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sciprob.engines.fenicsx_flow_space import FlowObservation, FlowSpace
from sciprob.engines.fenicsx_navier_stokes import Inflow, navier_stokes_operator
from sciprob.errors import ConfigError, DataError
from sciprob.io.mesh import load_mesh
from sciprob.operators.host import HostOperator
from sciprob.spaces import Mesh, box_mesh
from sciprob.testing import OperatorConformance, loglog_fit

pytestmark = [
    pytest.mark.fem,
    pytest.mark.skipif(importlib.util.find_spec("dolfinx") is None, reason="needs FEniCSx"),
]
SIDES = ("left", "right", "bottom", "top")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def lid(x: Tensor, t: float) -> Tensor:
    return (1 - (2 * x[:, 0] - 1) ** 6) * t


def cavity(n: int = 3, **settings: Any) -> HostOperator:
    """The lid-driven cavity on n x n squares."""
    walls: dict[str, Any] = {side: (0.0, 0.0) for side in SIDES[:3]}
    options: dict[str, Any] = {
        "times": [0.2, 0.5],
        "step": 0.1,
        "unknown": ("density", "viscosity"),
        "velocity": walls | {"top": (lid, 0.0)},
        "pressure_point": (0.0, 0.0),
    }
    return navier_stokes_operator(box_mesh((n, n)), **(options | settings))


def channel(mesh: Mesh | None = None, **settings: Any) -> HostOperator:
    """Two modes of inflow into [0, 2] x [0, 1], open on the right."""
    modes = [lambda x: 4 * x[:, 1] * (1 - x[:, 1]), lambda x: x[:, 1] * (1 - x[:, 1]) * (2 * x[:, 1] - 1)]
    options: dict[str, Any] = {
        "unknown": ("viscosity", "inflow"),
        "velocity": {"bottom": (0.0, 0.0), "top": (0.0, 0.0)},
        "inflow": Inflow("left", modes),
    }
    return navier_stokes_operator(mesh or box_mesh((4, 3), (0.0, 0.0), (2.0, 1.0)), **(options | settings))


# --- exact solutions and orders -----------------------------------------------------------------------


def kovasznay(x: Tensor, reynolds: float = 20.0) -> tuple[Tensor, Tensor]:
    """A steady solution of the full equations, behind a grid of rods; viscosity 1 / Re, on [0, 1]^2."""
    rate = reynolds / 2 - math.sqrt(reynolds**2 / 4 + 4 * math.pi**2)
    growth, wave = (rate * x[:, 0]).exp(), 2 * math.pi * x[:, 1]
    return 1 - growth * wave.cos(), rate / (2 * math.pi) * growth * wave.sin()


def test_velocity_is_of_third_and_pressure_of_second_order() -> None:
    node, weight = np.polynomial.legendre.leggauss(40)  # Gauss points that know nothing of the mesh
    points = torch.tensor(np.stack(np.meshgrid(0.5 + node / 2, 0.5 + node / 2), axis=-1).reshape(-1, 2))
    weights = torch.tensor(np.outer(weight, weight).ravel() / 4)
    rate = 10.0 - math.sqrt(100 + 4 * math.pi**2)
    exact = torch.stack([*kovasznay(points), -0.5 * (2 * rate * points[:, 0]).exp()], dim=-1)
    exact[:, 2] -= float((weights * exact[:, 2]).sum())
    divisions, velocity, pressure = (6, 12, 24), [], []
    for n in divisions:
        mesh = box_mesh((n, n))
        boundary = (lambda x, t: kovasznay(x)[0], lambda x, t: kovasznay(x)[1])
        flow = navier_stokes_operator(mesh, velocity=dict.fromkeys(SIDES, boundary), pressure_point=(0.0, 0.0))
        y = FlowObservation(FlowSpace(mesh), points, ("velocity", "pressure"))(flow(numbers(0.05)))
        y[:, 2] -= float((weights * y[:, 2]).sum())
        error = (weights[:, None] * (y - exact) ** 2).sum(0)
        velocity.append(math.sqrt(float(error[:2].sum())))
        pressure.append(math.sqrt(float(error[2])))
    order, _ = loglog_fit([1 / n for n in divisions], velocity)
    assert abs(order - 3) <= 0.15, f"order {order} from {velocity}"
    order, _ = loglog_fit([1 / n for n in divisions], pressure)
    assert 1.85 <= order <= 2.6, f"order {order} from {pressure}"


def vortices(x: Tensor, t: float, viscosity: float) -> tuple[Tensor, Tensor]:
    """Decaying vortices of Taylor and Green, turned against the mesh."""
    decay = math.exp(-2 * math.pi**2 * viscosity * t)
    a, b = math.pi * (x[:, 0] + 0.1), math.pi * (x[:, 1] + 0.2)
    return decay * a.sin() * b.cos(), -decay * a.cos() * b.sin()


@pytest.mark.parametrize(("scheme", "theta", "expected"), [("bdf2", 0.5, 2), ("theta", 0.5, 2), ("theta", 1.0, 1)])
def test_order_in_time(scheme: Any, theta: float, expected: int) -> None:
    """On one mesh, by differences of successive halvings of the step."""
    mesh, viscosity = box_mesh((3, 3)), 0.1
    boundary = (lambda x, t: vortices(x, t, viscosity)[0], lambda x, t: vortices(x, t, viscosity)[1])
    steps = [0.4 / 2**k for k in range(5, 9)]  # coarser ones are not yet asymptotic
    ends = []
    for step in steps:
        flow = navier_stokes_operator(
            mesh, times=[0.4], step=step, scheme=scheme, theta=theta, velocity=dict.fromkeys(SIDES, boundary),
            pressure_point=(0.0, 0.0), initial=(lambda x: boundary[0](x, 0.0), lambda x: boundary[1](x, 0.0)),
        )  # fmt: skip
        ends.append(FlowSpace(mesh).fields(flow(numbers(viscosity))[-1])["velocity"])
    differences = [float((a - b).norm()) for a, b in pairwise(ends)]
    order, _ = loglog_fit(steps[:-1], differences)
    assert abs(order - expected) <= 0.15, f"order {order} from {differences}"


def test_poiseuille_flow_is_exact() -> None:
    flow = channel()
    fields = FlowSpace(flow.codomain.mesh).fields(flow(numbers(0.1, 1.0, 0.0)))
    y = flow.codomain.velocity.points()[:, 1]
    assert (fields["velocity"][0] - 4 * y * (1 - y)).abs().max() <= 1e-12
    assert fields["velocity"][1].abs().max() <= 1e-12
    x = flow.codomain.pressure.points()[:, 0]
    assert (fields["pressure"] - 8 * 0.1 * (2 - x)).abs().max() <= 1e-12


def test_steady_cylinder_of_the_literature() -> None:
    """Schaefer and Turek's case 2D-1 (Re = 20): pressure difference 0.1175 between front and back of the cylinder."""
    inflow = Inflow("inlet", [lambda x: 4 * x[:, 1] * (0.41 - x[:, 1]) / 0.41**2])
    flow = channel(
        load_mesh("cylinder"), unknown=("viscosity",), inflow=inflow, amplitudes=(0.3,),
        velocity={"walls": (0.0, 0.0), "cylinder": (0.0, 0.0)},
    )  # fmt: skip
    ends = FlowObservation(flow.codomain, numbers(0.15, 0.2, 0.25, 0.2).reshape(2, 2), ("pressure",))
    front, back = ends(flow(numbers(1e-3)))[:, 0].tolist()
    assert abs(front - back - 0.11752) <= 0.02 * 0.11752


# --- invariances ----------------------------------------------------------------------------------------


def test_density_and_viscosity_scale_the_pressure_alone() -> None:
    """(rho, mu) -> c (rho, mu) leaves the velocity, multiplies the pressure by c."""
    flow = cavity(4)
    first, second = (flow.codomain.fields(flow(c * numbers(0.9, 0.05))) for c in (1.0, 3.0))
    assert (first["velocity"] - second["velocity"]).abs().max() <= 1e-9
    assert (3 * first["pressure"] - second["pressure"]).abs().max() <= 1e-8
    assert first["pressure"].abs().max() > 0.01


def test_what_flows_in_flows_out() -> None:
    """The discrete flow conserves mass in sum: the flux through the outlet is the inlet's, at every time."""
    mesh = box_mesh((4, 3), (0.0, 0.0), (2.0, 1.0))
    ramp = Inflow("left", [lambda x: 4 * x[:, 1] * (1 - x[:, 1]), lambda x: x[:, 1]], ramp=lambda t: min(5 * t, 1.0))
    flow = channel(mesh, inflow=ramp, times=[0.1, 0.4], step=0.1)
    y = np.linspace(0, 1, 7)  # nodes of the right side: Simpson's rule integrates the velocity exactly
    weights = torch.tensor([1, 4, 2, 4, 2, 4, 1]).double() / 18

    def flux(x: float) -> Tensor:
        points = torch.tensor(np.column_stack([np.full(7, x), y]))
        u = FlowObservation(flow.codomain, points)(flow(numbers(0.02, 1.0, 0.3)))[..., 0]
        return (u * weights).sum(-1)

    inlet, outlet = flux(0.0), flux(2.0)
    assert (inlet - outlet).abs().max() <= 1e-10
    assert 0.3 < float(inlet[0]) < float(inlet[1])


def test_stokes_limit() -> None:
    """The difference to Stokes flow vanishes like the Reynolds number; Stokes flow is linear in the lid."""
    stokes = cavity(4, unknown=("viscosity",), convection=False)
    flow = cavity(4, unknown=("viscosity",))
    differences = [float((flow(m) - stokes(m))[-1, :162].norm()) for m in (numbers(mu) for mu in (5.0, 10.0, 20.0))]
    assert differences[0] < 1e-3
    order, _ = loglog_fit([1 / 5, 1 / 10, 1 / 20], differences)
    assert abs(order - 1) <= 0.1, f"order {order} from {differences}"
    double: Any = (lambda x, t: 2 * lid(x, t), 0.0)
    walls: dict[str, Any] = dict.fromkeys(SIDES[:3], (0.0, 0.0))
    faster = cavity(4, unknown=("viscosity",), convection=False, velocity=walls | {"top": double})
    assert (faster(numbers(0.3)) - 2 * stokes(numbers(0.3))).abs().max() <= 1e-10


def test_long_times_are_steady() -> None:
    """One equation for both: large steps end at the steady flow, and so do their gradients."""
    steady, moving = channel(), channel(times=[400.0], step=50.0)
    m, v = numbers(0.05, 1.0, 0.4), noise(*steady.codomain.shape)
    assert (steady(m) - moving(m)[0]).abs().max() <= 1e-9
    assert (steady.vjp(m, v)[1] - moving.vjp(m, v[None])[1]).abs().max() <= 1e-7


# --- derivatives ------------------------------------------------------------------------------------------


class _Conformance(OperatorConformance):
    dot_tolerance = 1e-10
    single_tolerance = 1e-3
    differs_in_batch = 1e-9  # Newton's method stops at a tolerance


class TestCavity(_Conformance):
    def make(self) -> tuple[Any, Tensor]:
        flow = cavity(march={"store": 3})
        sensors = numbers(0.3, 0.4, 1.0, 0.5, 0.77, 0.91).reshape(3, 2)
        return FlowObservation(flow.codomain, sensors, ("velocity", "pressure")) @ flow, numbers(0.9, 0.1)


class TestInitialVelocity(_Conformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        flow = cavity(unknown=("initial",), scheme="theta", viscosity=0.1)
        return flow, 0.2 * noise(*flow.domain.shape)


class TestInflow(_Conformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        return channel(times=[0.0, 0.2], step=0.1), numbers(0.1, 1.0, 0.4)


class TestSteadyInflow(_Conformance):
    def make(self) -> tuple[HostOperator, Tensor]:
        return channel(), numbers(0.1, 1.0, 0.4)


class TestObservation(_Conformance):
    def make(self) -> tuple[FlowObservation, Tensor]:
        space = FlowSpace(box_mesh((2, 2)), (0.5, 1.0))
        points = numbers(0.3, 0.4, 1.0, 0.5, 0.77, 0.91).reshape(3, 2)
        return FlowObservation(space, points, ("velocity", "pressure")), noise(*space.shape)


def test_observations_of_polynomials_are_exact() -> None:
    space = FlowSpace(box_mesh((2, 3)))
    x, z = space.velocity.points(), space.pressure.points()
    points = torch.rand(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def fields(x: Tensor, z: Tensor) -> list[Tensor]:
        return [x[:, 0] ** 2 - x[:, 1], x[:, 0] * x[:, 1] + 3, z[:, 0] + 2 * z[:, 1]]

    state = torch.cat(fields(x, z))
    y = FlowObservation(space, points, ("velocity", "pressure"))(state)
    assert (y - torch.stack(fields(points, points), dim=-1)).abs().max() <= 1e-13
    assert torch.equal(space.fields(state)["velocity"][1], fields(x, z)[1])


# --- refusals -----------------------------------------------------------------------------------------------


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`unknown` should be .* in this order, got \('viscosity', 'density'\)"):
        cavity(unknown=("viscosity", "density"))
    with pytest.raises(DataError, match=r"pressure is fixed at a vertex .* nearest one is \(0\.33.*, 0\.33"):
        cavity(pressure_point=(0.3, 0.3))
    with pytest.raises(ConfigError, match="velocities on the boundary need 2 components"):
        cavity(velocity={"top": (1.0,)})
    with pytest.raises(ConfigError, match="one number per mode of the inflow, 2, got None"):
        channel(unknown=("viscosity",))
    with pytest.raises(ConfigError, match="an unknown inflow needs"):
        channel(amplitudes=(1.0, 0.0))
    with pytest.raises(ConfigError, match="steady flow has no initial state"):
        cavity(times=None, step=None, unknown=("initial",))
    with pytest.raises(ConfigError, match="needs `times` and `step`"):
        cavity(step=None)
    with pytest.raises(DataError, match="viscosity should be positive"):
        cavity()(numbers(1.0, -0.1))
    with pytest.raises(DataError, match="no boundary facets named 'lid'"):
        cavity(velocity={"lid": (1.0, 0.0)})
