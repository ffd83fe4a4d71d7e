"""Reference solutions of the families against closed forms, symmetries and other methods."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from torch import Tensor

import sciprob
from sciprob.pde import coordinate_jets
from sciprob.pde.jet import Jet
from sciprob.problems.references.burgers import initial_wave, solve_burgers
from sciprob.problems.references.cavity import Cavity, solve_cavity
from sciprob.problems.references.chebyshev import (
    Floats,
    chebyshev_nodes,
    differentiation_matrix,
    interpolation_matrix,
    values_at,
)
from sciprob.problems.references.disk import solve_disk
from sciprob.problems.references.poisson import collocate_poisson, solve_poisson


def tensor(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_polynomials_are_differentiated_and_interpolated_exactly() -> None:
    nodes = chebyshev_nodes(12, -0.5, 2.0)
    coefficients = np.arange(1.0, 12.0)
    f = np.polynomial.Polynomial(coefficients / 2.0 ** np.arange(11))
    assert np.allclose(differentiation_matrix(nodes) @ f(nodes), f.deriv()(nodes), rtol=1e-11)
    points = np.concatenate([np.linspace(-0.5, 2.0, 40), nodes[3:5]])
    assert np.allclose(interpolation_matrix(nodes, points) @ f(nodes), f(points), rtol=1e-12)


# Poisson


def test_poisson_with_constant_conductivity_is_a_parabola() -> None:
    x = torch.linspace(-1, 1, 31, dtype=torch.float64)
    u = solve_poisson(torch.zeros(5, dtype=torch.float64), tensor(1.7), x[:, None])[:, 0]
    assert (u - 1.7 * (1 - x**2) / (2 * (math.log(2) + 0.1))).abs().max() < 1e-13
    assert abs(float(u[15]) / 1.7 - 0.6304000) < 5e-7


@pytest.mark.parametrize("c", [1.0, -1.0, 0.4])
def test_poisson_by_kirchhoff(c: float) -> None:
    """s = c: the integral of kappa from 0 to u is w (1 - x^2) / 2; its root by bisection."""
    places = np.array([-0.9, -0.3, 0.0, 0.6])
    v, weights = np.polynomial.legendre.leggauss(60)

    def primitive(u: float) -> float:
        at = u * (v + 1) / 2
        return float(u / 2 * weights @ (np.logaddexp(0, c * at) + 0.1))

    expected = [brentq(lambda u, r=r: primitive(u) - r, 0, 3, xtol=1e-14) for r in (1 - places**2) / 2]
    found = solve_poisson(tensor(c, 0, 0, 0, 0), tensor(1.0), torch.from_numpy(places)[:, None])[:, 0]
    assert np.allclose(found.numpy(), expected, atol=1e-11)
    if abs(c) == 1:
        assert abs(float(found[2]) - {1.0: 0.532968, -1.0: 0.809540}[c]) < 5e-7


def test_poisson_reflects() -> None:
    x = torch.linspace(-1, 1, 31, dtype=torch.float64)
    z = tensor(0.3, -0.8, 0.5, 0.9, -0.7)
    mirrored = z * tensor(1, -1, 1, -1, 1)
    u, v = (solve_poisson(item, tensor(1.5), x[:, None])[:, 0] for item in (z, mirrored))
    assert (u - v.flip(0)).abs().max() < 1e-11
    assert (u - u.flip(0)).abs().max() > 1e-2


def test_poisson_is_resolved() -> None:
    family = sciprob.load_family("poisson-family")
    zs = family.unknown.sample(40, torch.Generator().manual_seed(0)).numpy()
    corners = np.array([[-1.0] * 5, [1.0] * 5, [-1.0, 1.0, -1.0, 1.0, -1.0]])
    errors = []
    for z in np.concatenate([zs, corners]):
        nodes, u = collocate_poisson(z, 2.0, 128)
        errors.append([np.abs(values_at(*collocate_poisson(z, 2.0, n), nodes) - u).max() for n in (48, 96)])
    of_48, of_96 = np.array(errors).T
    assert np.median(of_48) < 1e-9
    assert of_48.max() < 1e-5  # where the conductivity falls to its floor within a tenth of the interval
    assert of_96.max() < 1e-9


def linear_elements(z: Floats, forcing: float, cells: int) -> tuple[Floats, Floats]:
    """P1 finite elements with midpoint quadrature and Newton's method."""
    x = np.linspace(-1, 1, cells + 1)
    h, u = 2 / cells, np.zeros(cells + 1)
    s = np.polynomial.chebyshev.chebval((x[1:] + x[:-1]) / 2, z)
    for _ in range(20):
        middle, slope = (u[1:] + u[:-1]) / 2, np.diff(u) / h
        kappa, change = np.logaddexp(0, s * middle) + 0.1, s / (1 + np.exp(-s * middle))
        residual = np.zeros(cells + 1)
        residual[:-1] += -kappa * slope - forcing * h / 2
        residual[1:] += kappa * slope - forcing * h / 2
        left, right = -kappa / h + change * slope / 2, kappa / h + change * slope / 2
        jacobian = np.zeros((cells + 1, cells + 1))
        i = np.arange(cells)
        for row, sign in ((i, -1), (i + 1, 1)):
            jacobian[row, i] += sign * left
            jacobian[row, i + 1] += sign * right
        u[1:-1] -= np.linalg.solve(jacobian[1:-1, 1:-1], residual[1:-1])
    return x, u


def test_linear_elements_converge_to_the_poisson_reference_with_order_two() -> None:
    z = np.array([-0.6, 0.8, 0.3, -0.9, 0.5])
    cells = np.array([20, 40, 80, 160])
    errors = []
    for n in cells:
        x, u = linear_elements(z, 1.5, n)
        errors.append(np.abs(u - values_at(*collocate_poisson(z, 1.5), x)).max())
    order = -np.polyfit(np.log(cells), np.log(errors), 1)[0]
    assert abs(order - 2) < 0.1
    assert errors[-1] < 1e-4


# Burgers


def collocated_burgers(nu: float, a: float, frequency: float, degree: int, t: float) -> tuple[Tensor, Tensor]:
    """Chebyshev collocation in space, Radau in time."""
    x = chebyshev_nodes(degree, 0.0, 1.0)
    d = differentiation_matrix(x)
    slope, second = d[1:-1, 1:-1], (d @ d)[1:-1, 1:-1]
    start = initial_wave(torch.from_numpy(x), frequency).numpy()[1:-1]
    run = solve_ivp(
        lambda _t, u: nu * (second @ u) - a * u * (slope @ u),
        (0, t),
        start,
        method="Radau",
        jac=lambda _t, u: nu * second - a * (np.diag(slope @ u) + u[:, None] * slope),
        rtol=1e-11,
        atol=1e-12,
    )
    return torch.from_numpy(x), torch.from_numpy(np.pad(run.y[:, -1], 1))


@pytest.mark.parametrize(("nu", "a", "frequency", "degree"), [(0.1, 1.0, 1.0, 40), (0.05, 0.7, 1.3, 48)])
def test_burgers_by_quadrature_and_by_collocation(nu: float, a: float, frequency: float, degree: int) -> None:
    x, u = collocated_burgers(nu, a, frequency, degree, 0.5)
    points = torch.stack([x, torch.full_like(x, 0.5)], dim=-1)
    assert (solve_burgers(tensor(nu, a), tensor(frequency), points)[:, 0] - u).abs().max() < 1e-9
    wrong = solve_burgers(tensor(nu * 1.001, a), tensor(frequency), points)[:, 0]
    assert (wrong - u).abs().max() > 1e-5


@pytest.mark.parametrize("nu", [0.01, 0.1])
@pytest.mark.parametrize("frequency", [0.5, 1.1, 2.0])
def test_burgers_quadrature_is_resolved(nu: float, frequency: float) -> None:
    points = torch.rand(300, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[:100, 1] *= 1e-3
    coarse, fine = (solve_burgers(tensor(nu, 1.0), tensor(frequency), points, n) for n in (80, 160))
    assert (coarse - fine).abs().max() < 1e-11


def test_burgers_starts_from_its_wave_and_rests_at_the_walls() -> None:
    x = torch.linspace(0, 1, 21, dtype=torch.float64)
    start = solve_burgers(tensor(0.02, 0.8), tensor(1.3), torch.stack([x, 0 * x], dim=-1))[:, 0]
    assert torch.equal(start, initial_wave(x, 1.3))
    soon = solve_burgers(tensor(0.02, 0.8), tensor(1.3), torch.stack([x, 0 * x + 1e-8], dim=-1))[:, 0]
    assert (soon - start).abs().max() < 1e-6
    walls = torch.tensor([[0.0, 0.3], [1.0, 0.7]], dtype=torch.float64)
    assert solve_burgers(tensor(0.02, 0.8), tensor(1.3), walls).abs().max() < 1e-12


def test_burgers_quadrature_is_differentiable_in_its_parameters() -> None:
    points = torch.rand(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[0, 1] = 0

    def wave(z: Tensor) -> Tensor:
        return solve_burgers(z, tensor(1.2), points)

    z, direction = tensor(0.03, 0.8), tensor(0.01, -0.3)
    _, tangent = torch.func.jvp(wave, (z,), (direction,))
    remainders = [((wave(z + h * direction) - wave(z - h * direction)) / (2 * h) - tangent).norm() for h in (0.1, 0.05)]
    assert 3.8 < float(remainders[0] / remainders[1]) < 4.2
    assert torch.allclose(torch.autograd.functional.jacobian(wave, z) @ direction, tangent, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("frequency", [1.0, 2.0])
def test_burgers_with_a_whole_frequency_is_odd_about_the_middle(frequency: float) -> None:
    x = torch.linspace(0, 1, 21, dtype=torch.float64)
    u = solve_burgers(tensor(0.015, 1.0), tensor(frequency), torch.stack([x, 0 * x + 0.6], dim=-1))[:, 0]
    assert (u + u.flip(0)).abs().max() < 1e-11
    assert abs(float(u[10])) < 1e-12
    assert u.abs().max() > 0.1


def test_burgers_scaled_by_its_advection() -> None:
    """v = a u solves the equation with a = 1 and the scaled start: the residual of the collocated scaled problem."""
    nu, a, frequency = 0.05, 0.6, 1.2
    x = torch.from_numpy(chebyshev_nodes(48, 0.0, 1.0))
    d = differentiation_matrix(x.numpy())
    slope, second = d[1:-1, 1:-1], (d @ d)[1:-1, 1:-1]
    start = a * initial_wave(x, frequency).numpy()[1:-1]
    run = solve_ivp(
        lambda _t, v: nu * (second @ v) - v * (slope @ v), (0, 0.4), start, method="Radau", rtol=1e-10, atol=1e-11
    )
    u = solve_burgers(tensor(nu, a), tensor(frequency), torch.stack([x, 0 * x + 0.4], dim=-1))[1:-1, 0]
    assert np.abs(a * u.numpy() - run.y[:, -1]).max() < 1e-8


def test_burgers_loses_energy_to_viscosity() -> None:
    """d/dt of half the integral of u^2 is -nu times that of u_x^2, for any advection."""
    nu, t, h = 0.03, 0.4, 1e-3
    nodes = chebyshev_nodes(60, 0.0, 1.0)
    x = torch.from_numpy(nodes)
    gauss, weights = np.polynomial.legendre.leggauss(60)
    at = interpolation_matrix(nodes, (gauss + 1) / 2)

    def integral(values: Floats) -> float:
        return float(weights @ (at @ values) ** 2 / 2)

    def wave(time: float) -> Floats:
        points = torch.stack([x, torch.full_like(x, time)], dim=-1)
        return solve_burgers(tensor(nu, 0.9), tensor(1.5), points)[:, 0].numpy()

    change = (integral(wave(t + h)) - integral(wave(t - h))) / (2 * h) / 2
    assert abs(change / (-nu * integral(differentiation_matrix(nodes) @ wave(t))) - 1) < 1e-4


# cavity


def nse(found: Tensor, expected: Tensor) -> Tensor:
    return ((found - expected).norm(dim=0) / expected.norm(dim=0)).square()


def cavity_points(n: int = 400) -> Tensor:
    points = torch.rand(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[:, :2] = 0.05 + 0.9 * points[:, :2]
    return points


def test_cavity_converges_in_time_and_space() -> None:
    points, z, w = cavity_points(), tensor(0.9, 0.2), tensor(1.0)
    points[:, 2] = 0.5 + points[:, 2] / 2  # behind the layer that the lid starts with
    finest = solve_cavity(z, w, points, degree=16, steps=320)
    errors = [float(nse(solve_cavity(z, w, points, 16, n), finest)[:2].max() ** 0.5) for n in (20, 40, 80)]
    order = -np.polyfit(np.log([20, 40, 80]), np.log(errors), 1)[0]
    assert 1.7 < order < 2.4
    in_space = nse(solve_cavity(z, w, points, 16, 80), solve_cavity(z, w, points, 22, 80))
    assert in_space[:2].max() < 3e-5


def test_cavity_keeps_its_conditions_and_volume() -> None:
    run = Cavity(0.9, 0.3, 1.5, 16, 40)
    velocity, _ = run.trajectory
    d, k = differentiation_matrix(run.nodes), 30
    u, v = velocity[k]
    assert np.abs(u[:, -1] - 1.5 * (1 - (2 * run.nodes - 1) ** 6) * k / 40).max() < 1e-13
    for side in (u[0], u[-1], u[:, 0], v[0], v[-1], v[:, 0], v[:, -1]):
        assert np.abs(side).max() < 1e-13
    divergence = (d @ u + v @ d.T)[1:-1, 1:-1]
    assert np.abs(divergence).max() < 1e-9 * np.abs(d @ u).max()
    corner = np.array([[0.0, 0.0, 0.6]])
    assert abs(run.at(corner)[0, 2]) < 1e-10


def test_stokes_limit_of_the_cavity() -> None:
    """For large friction u / t settles, u is even and v odd about the middle; at Re 10 it is not."""
    x = torch.rand(60, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mirrored = torch.stack([1 - x[:, 0], x[:, 1]], dim=-1)

    def at(mu: float, places: Tensor, t: float) -> Tensor:
        points = torch.cat([places, torch.full((len(places), 1), t, dtype=torch.float64)], dim=-1)
        return solve_cavity(tensor(0.9, mu), tensor(1.0), points, degree=14, steps=50)[:, :2]

    stokes = at(200.0, x, 1.0)
    assert nse(at(200.0, x, 0.5) / 0.5, stokes).max() < 1e-6
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    assert nse(at(200.0, mirrored, 1.0) * sign, stokes).max() < 1e-6
    assert nse(at(0.1, mirrored, 1.0) * sign, at(0.1, x, 1.0)).max() > 1e-4


@pytest.mark.fem
@pytest.mark.skipif(importlib.util.find_spec("dolfinx_solver") is None, reason="needs FEniCSx")
def test_cavity_by_collocation_and_by_finite_elements() -> None:
    from sciprob.engines.fenicsx_flow_space import FlowObservation
    from sciprob.problems.flow import Cavity as CavityProblem
    from sciprob.problems.flow import CavityResolution, FlowNoise, SensorLayout

    settings = CavityProblem(
        inversion=CavityResolution(12, 0.025),
        data=CavityResolution(12, 0.025),
        noise=FlowNoise(0.01, 0.01),
        sensors=SensorLayout(count=1, distance=0.2),
        times=(0.5, 1.0),
    )
    flow = settings.flow(fine=False)
    places = cavity_points(60)[:, :2]
    for mu in (0.1, 1.0):
        z = tensor(0.9, mu)
        found = FlowObservation(flow.codomain, places, ("velocity",))(flow(z)).reshape(2, 60, 2)
        for k, t in enumerate((0.5, 1.0)):
            points = torch.cat([places, torch.full((60, 1), t, dtype=torch.float64)], dim=-1)
            assert nse(found[k], solve_cavity(z, tensor(1.0), points)[:, :2]).max() < 2e-4


# disk


def test_the_disk_solves_its_equation() -> None:
    """The closed form, differentiated by jets through the cubic's root, has no residual."""
    family = sciprob.load_family("disk-family")
    g = torch.Generator().manual_seed(0)
    points = family.domain.sample(40, g)
    z, w = tensor(2.5, 0.7, -0.4), tensor(6.0)
    values = solve_disk(z, w, points)[:, 0]
    x, y = points.unbind(-1)
    jets = coordinate_jets({"x": x, "y": y}, ("xx", "yy"))
    square = jets["x"] ** 2 + jets["y"] ** 2
    potential = w * (1 - square) * (0.25 + (jets["x"] * 0.7 - jets["y"] * 0.4) / 8)
    kappa = 1 + 2.5 * values.square()  # U = u + b u^3 / 3: U_x = kappa u_x, U_xx = kappa u_xx + 2 b u u_x^2
    stored = {"": values}
    for axis in "xy":
        stored[axis] = potential[axis] / kappa
        stored[2 * axis] = (potential[2 * axis] - 2 * 2.5 * values * stored[axis].square()) / kappa
    residual = family.residual_of({"x": x, "y": y}, {"u": Jet(stored)}, family.parameters(z, w))["poisson"]
    assert residual.abs().max() < 1e-11
    assert (values + 2.5 / 3 * values**3 - potential.value).abs().max() < 1e-13
    assert values.max() > 0.8  # where the nonlinearity counts


@pytest.mark.parametrize("name", ["poisson-family", "burgers-family", "disk-family"])
def test_references_take_batches_of_parameters(name: str) -> None:
    family = sciprob.load_family(name)
    g = torch.Generator().manual_seed(0)
    z, w, points = family.unknown.sample(4, g), family.known.sample(4, g), family.domain.sample(7, g)
    found = family.solve(z.reshape(2, 2, -1), w.reshape(2, 2, -1), points)
    assert found.shape == (2, 2, 7, 1)
    assert torch.equal(found[1, 0], family.solve(z[2], w[2], points))
    assert family.solve(z[:0], w[:0], points).shape == (0, 7, 1)
