"""Jets of fields on grids and meshes: exact in their spaces, stated orders elsewhere; the tie to the engines."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equations.burgers import BurgersSpectral
from sciprob.engines.spectral.equations.kuramoto_sivashinsky import KuramotoSivashinskySpectral
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.engines.spectral.evolution import Evolution
from sciprob.engines.torch_fe.elliptic import EllipticOperator
from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.pde.burgers import Burgers
from sciprob.pde.fe_jets import fe_jet
from sciprob.pde.grid_jets import grid_jet, spectral_rate, trajectory_jet, trajectory_points
from sciprob.pde.jet import Jet
from sciprob.pde.kuramoto_sivashinsky import KuramotoSivashinsky
from sciprob.pde.navier_stokes_vorticity import NavierStokesVorticity
from sciprob.pde.poisson import Poisson
from sciprob.pde.time_differences import time_difference_matrix
from sciprob.spaces import FESpace, GridSpace, box_mesh

PI = math.pi


def circle(n=32, length=2 * PI):
    grid = GridSpace((n,), name="u", dims=("x",), lower=(0.0,), upper=(length,), centring="periodic")
    return SpectralBasis(grid)


def torus(n):
    grid = GridSpace((n, n), name="u", dims=("y", "x"), lower=(0.0, 0.0), upper=(2 * PI,) * 2, centring="periodic")
    return SpectralBasis(grid)


def test_grid_jet_is_exact_for_trigonometric_polynomials():
    basis = torus(12)
    x, y = basis.grid.points().T
    amplitude = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    u = (amplitude * torch.sin(2 * x) * torch.cos(3 * y)).reshape(2, 12, 12)
    jet = grid_jet(basis, u, ("x", "xy", "yyx", "xxxx"))
    assert jet.shape == (2, 144)
    expected = {
        "": torch.sin(2 * x) * torch.cos(3 * y),
        "x": 2 * torch.cos(2 * x) * torch.cos(3 * y),
        "xy": -6 * torch.cos(2 * x) * torch.sin(3 * y),
        "xyy": -18 * torch.cos(2 * x) * torch.cos(3 * y),
        "xxxx": 16 * torch.sin(2 * x) * torch.cos(3 * y),
    }
    for name, values in expected.items():
        assert (jet[name] - amplitude * values).abs().max() < 1e-11, name


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
def test_grid_jet_on_a_bounded_interval(boundary):
    grid = GridSpace((21,), name="u", dims=("x",), lower=(0.0,), upper=(1.0,), centring="cell")
    x = grid.axis(0)
    wave, slope, sign = (torch.sin, torch.cos, 1) if boundary == "dirichlet" else (torch.cos, torch.sin, -1)
    jet = grid_jet(SpectralBasis(grid, boundary), wave(3 * PI * x), ("x", "xx"))
    assert (jet.x - sign * 3 * PI * slope(3 * PI * x)).abs().max() < 1e-11
    assert (jet.xx + 9 * PI**2 * wave(3 * PI * x)).abs().max() < 1e-10


@pytest.mark.parametrize("derivative", [1, 2])
@pytest.mark.parametrize("order", [2, 4, 6])
def test_time_differences_have_the_stated_order(derivative, order):
    """On non-uniform times, ends included; order by regression."""
    sizes, errors = (24, 36, 54, 80), []
    for n in sizes:
        s = torch.linspace(0, 1, n, dtype=torch.float64)
        t = s + 0.1 * torch.sin(2 * s)
        found = time_difference_matrix(t, derivative, order) @ torch.exp(3 * t)
        errors.append(float((found - 3.0**derivative * torch.exp(3 * t)).abs().max()))
    slope = -np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.2, (slope, errors)


def test_time_differences_need_enough_increasing_times():
    with pytest.raises(ShapeError, match="at least 7 increasing times, got 5"):
        time_difference_matrix(torch.arange(5.0), 1, 6)
    with pytest.raises(ShapeError, match="increasing"):
        time_difference_matrix(torch.zeros(9), 1, 6)


def test_trajectory_jet_of_a_travelling_wave():
    basis, times = circle(), torch.linspace(0, 1, 41, dtype=torch.float64)
    x = trajectory_points(basis, times, times)
    u = torch.sin(2 * (x["x"] - 0.5 * x["t"])).reshape(41, 32)
    stacked = torch.stack([u, 3 * u])
    by_differences = trajectory_jet(basis, stacked, times, ("x", "t", "xt", "tt"), order=8)
    phase = 2 * (x["x"] - 0.5 * x["t"])
    expected = {"x": 2 * torch.cos(phase), "t": -torch.cos(phase), "xt": 2 * torch.sin(phase), "tt": -torch.sin(phase)}
    for name, values in expected.items():
        assert by_differences[name].shape == (2, 41 * 32)
        assert (by_differences[name] - torch.stack([values, 3 * values])).abs().max() < 1e-8, name
    rate = -torch.cos(phase).reshape(41, 32)
    by_rate = trajectory_jet(basis, u, times, ("t", "xt"), rate=rate)
    assert (by_rate.xt - expected["xt"]).abs().max() < 1e-12
    with pytest.raises(UnsupportedProblemError, match="first derivative in time only"):
        trajectory_jet(basis, u, times, ("tt",), rate=rate)
    with pytest.raises(ShapeError, match="should end in"):
        trajectory_jet(basis, u[:5], times, ("x",))


def burgers_residual(n, steps, rate=True, step=2e-3):
    """Largest strong residual of a computed solution, and of the same with the wrong viscosity."""
    basis, nu = circle(n), 0.2
    times = torch.linspace(0, 0.5, steps + 1, dtype=torch.float64)
    equation = BurgersSpectral(basis, viscosity=nu)
    x = basis.grid.axis(0)
    u = Evolution(equation, times, step=step)(torch.sin(x) + 0.5 * torch.cos(2 * x))
    values = spectral_rate(equation, u) if rate else None
    jet = trajectory_jet(basis, u, times, Burgers().fields["u"], rate=values, order=6)
    points = trajectory_points(basis, times, u)
    right = Burgers()(points, {"u": jet}, {"viscosity": nu})["momentum"].abs().max()
    wrong = Burgers()(points, {"u": jet}, {"viscosity": 0.9 * nu})["momentum"].abs().max()
    return float(right), float(wrong)


def test_strong_residual_of_the_spectral_burgers_solution_converges():
    """The equation of this package and the right-hand side of the engine agree to round-off when resolved."""
    sizes = (32, 64, 96)
    errors = [burgers_residual(n, 4)[0] for n in sizes]
    rates = [math.log(a / b) / 32 for a, b in pairwise(errors)]  # geometric: error ~ exp(-rate n)
    assert errors[-1] < 1e-6
    assert min(rates) > 0.15, (rates, errors)
    assert abs(rates[0] - rates[1]) < 0.02, rates
    finest, wrong = burgers_residual(192, 4)
    assert finest < 1e-11
    assert wrong > 1e-2


def test_energy_balance_of_burgers_equation():
    """d/dt int u^2 / 2 = -nu int u_x^2, from values, rate and slope of a computed solution."""
    basis, nu = circle(128), 0.2
    equation = BurgersSpectral(basis, viscosity=nu)
    x = basis.grid.axis(0)
    u = Evolution(equation, [0.5], step=2e-3)(torch.sin(x) + 0.5 * torch.cos(2 * x))[0]
    jet = grid_jet(basis, u, ("x",))
    gain, loss = (u * spectral_rate(equation, u)).sum(), nu * jet.x.square().sum()
    assert abs(float(gain + loss)) < 1e-11 * float(loss)


def test_strong_residual_with_differences_in_time_has_their_order():
    errors = [burgers_residual(128, steps, rate=False, step=1e-3)[0] for steps in (20, 40, 80, 160)]
    assert errors[-1] < 1e-8
    order = -np.polyfit(np.log([20, 40, 80, 160]), np.log(errors), 1)[0]
    assert 5.2 < order < 6.2, (order, errors)


def test_strong_residual_of_kuramoto_sivashinsky():
    basis = circle(128, 22.0)
    times = torch.linspace(0, 4, 81, dtype=torch.float64)
    x = basis.grid.axis(0) * 2 * PI / 22
    equation = KuramotoSivashinskySpectral(basis)
    u = Evolution(equation, times, step=5e-3)(torch.cos(x) * (1 + torch.sin(2 * x)))[40:]
    pde, points = KuramotoSivashinsky(), trajectory_points(basis, times[40:], u)
    for rate, tolerance in ((spectral_rate(equation, u), 1e-10), (None, 2e-6)):
        jet = trajectory_jet(basis, u, times[40:], pde.fields["u"], rate=rate)
        assert pde(points, {"u": jet}, {})["kuramoto_sivashinsky"].abs().max() < tolerance
        assert pde(points, {"u": jet}, {"hyperdiffusion": -1.0})["kuramoto_sivashinsky"].abs().max() > 0.1


def test_strong_residual_of_the_vorticity_equation():
    basis = torus(48)
    equation = NavierStokes2DSpectral(basis, viscosity=0.05, drag=0.1)
    x, y = basis.grid.points().T
    start = (torch.sin(x) * torch.cos(2 * y) + 0.5 * torch.cos(x + y)).reshape(48, 48)
    times = torch.tensor([0.0, 0.5], dtype=torch.float64)
    w = Evolution(equation, times, step=1e-2)(start)
    laplacian = basis.laplacian()
    psi = basis.to_grid(-basis.to_spectral(w) / torch.where(laplacian == 0, torch.inf, laplacian))
    pde = NavierStokesVorticity()
    u = {
        "vorticity": trajectory_jet(basis, w, times, pde.fields["vorticity"], rate=spectral_rate(equation, w)),
        "stream": trajectory_jet(basis, psi, times, pde.fields["stream"]),
    }
    points = trajectory_points(basis, times, w)
    for residual in pde(points, u, {"viscosity": 0.05, "drag": 0.1}).values():
        assert residual.abs().max() < 1e-8
    assert pde(points, u, {"viscosity": 0.05, "drag": -0.1})["transport"].abs().max() > 1e-2


def mesh_points(dim, n=40):
    return 0.02 + 0.95 * torch.rand(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("dim", [2, 3])
def test_fe_jet_is_exact_for_polynomials_of_the_space(dim, degree):
    space = FESpace(box_mesh((3,) * dim, (0.0,) * dim, (1.0,) * dim), degree)
    axes = "xyz"[:dim]

    def polynomial(q):
        x = dict(zip(axes, q.unbind(-1), strict=True))
        jets = {name: Jet({"": v, name: torch.ones_like(v)}, closure) for name, v in x.items()}
        f = 1 + 2 * jets["x"] - jets["y"]
        return f if degree == 1 else f + jets["x"] ** 2 - 3 * jets["x"] * jets[axes[-1]] + 0.5 * jets["y"] ** 2

    closure = ("", *axes, *(a + b for i, a in enumerate(axes) for b in axes[i:]))
    scale = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    u = scale * polynomial(space.points()).value
    points = mesh_points(dim)
    jet, expected = fe_jet(space, u, points, closure), polynomial(points)
    for name in closure:
        assert jet[name].shape == (2, 40)
        assert (jet[name] - scale * expected[name]).abs().max() < 1e-11, name


def test_fe_jet_converges_and_matches_the_interpolation():
    """Gradients of P2 interpolants of order 2, Laplacians of order 1; values equal `FESpace.interpolation`."""
    points = mesh_points(2)
    x, y = points.T
    errors = []
    for n in (8, 16, 32):
        space = FESpace(box_mesh((n, n), (0.0, 0.0), (1.0, 1.0)), 2)
        nodes = space.points()
        u = torch.sin(2 * nodes[:, 0]) * torch.exp(nodes[:, 1])
        jet = fe_jet(space, u, points, ("x", "xx", "yy"))
        index, weights = space.interpolation(points)
        assert (jet.value - (u[index] * weights).sum(-1)).abs().max() < 1e-14
        exact = 2 * torch.cos(2 * x) * torch.exp(y), -3 * torch.sin(2 * x) * torch.exp(y)
        errors.append([float((jet.x - exact[0]).norm()), float((jet.laplacian("xy") - exact[1]).norm())])
    slopes = np.polyfit(np.log([8, 16, 32]), np.log(errors), 1)[0]
    assert abs(slopes[0] + 2) < 0.35, slopes
    assert abs(slopes[1] + 1) < 0.35, slopes


def test_strong_residual_of_a_finite_element_solution_converges():
    """Second derivatives of P2 solutions inside cells: order 1, for the right equation only."""
    points, sizes, right, wrong = mesh_points(2, n=400), (6, 12, 24), [], []
    for n in sizes:
        mesh = box_mesh((n, n), (0.0, 0.0), (1.0, 1.0))
        operator = EllipticOperator(mesh, 2, source=3.0, dirichlet={"left": 0.0, "right": 1.0})
        nodes = operator.domain.points()
        m = nodes[:, 0] - 0.5 * nodes[:, 1]
        u = fe_jet(operator.codomain, operator(m), points, Poisson("xy").fields["u"])
        log_conductivity = fe_jet(operator.domain, m, points, ("x", "y"))
        for sign, residuals in ((1, right), (-1, wrong)):
            p = {"conductivity": torch.exp(sign * log_conductivity), "forcing": 3.0}
            r = Poisson("xy")(dict(zip("xy", points.T, strict=True)), {"u": u}, p)["poisson"]
            residuals.append(float(r.square().mean().sqrt()))
    slope = -np.polyfit(np.log(sizes), np.log(right), 1)[0]
    assert abs(slope - 1) < 0.2, (slope, right)
    assert min(wrong) > 0.5


def test_fe_jet_follows_the_degrees_of_freedom():
    space = FESpace(box_mesh((2, 2), (0.0, 0.0), (1.0, 1.0)), 1)
    u = torch.rand(space.size, dtype=torch.float32, requires_grad=True)
    jet = fe_jet(space, u, mesh_points(2), ("x", "xx"))
    assert jet.x.dtype == torch.float32
    assert not jet.xx.any()
    (slope,) = torch.autograd.grad(jet.value.sum(), u)
    assert float(slope.sum()) == pytest.approx(40.0, rel=1e-5)  # the basis sums to one
    assert fe_jet(space, torch.zeros(0, space.size), mesh_points(2), ("x",)).x.shape == (0, 40)


def test_fe_jet_errors_are_explained():
    space = FESpace(box_mesh((2, 2), (0.0, 0.0), (1.0, 1.0)), 2)
    u = torch.zeros(space.size, dtype=torch.float64)
    with pytest.raises(UnsupportedProblemError, match="up to order 2"):
        fe_jet(space, u, mesh_points(2), ("xxx",))
    with pytest.raises(DataError, match="no derivative `z`"):
        fe_jet(space, u, mesh_points(2), ("z",))
    with pytest.raises(DataError, match="point 0"):
        fe_jet(space, u, torch.tensor([[2.0, 0.5]], dtype=torch.float64), ("x",))
