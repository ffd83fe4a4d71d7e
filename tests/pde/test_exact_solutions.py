"""Closed-form solutions from the literature: zero residual, and the sign that would break them."""

import math

import pytest
import torch
from numpy.polynomial import chebyshev
from torch.nn.functional import softplus

from sciprob.pde.allen_cahn import AllenCahn
from sciprob.pde.burgers import Burgers
from sciprob.pde.coordinates import coordinate_jets
from sciprob.pde.heat import Heat
from sciprob.pde.jet import Jet
from sciprob.pde.korteweg_de_vries import KortewegDeVries
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.pde.navier_stokes_vorticity import NavierStokesVorticity
from sciprob.pde.poisson import NonlinearPoisson
from sciprob.pde.reaction_diffusion import FisherKPP

PI = math.pi


def points(names, n=40):
    sample = torch.rand(n, len(names), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return dict(zip(names, (2 * sample - 1).unbind(-1), strict=True))


def heat(x, s=1.0):
    return {"u": torch.exp(-0.5 * PI**2 * x["t"]) * torch.sin(PI * x["x"]) * torch.cos(2 * PI * x["y"])}


def cole_hopf(x, s=1.0):
    """u = -2 nu (log phi)_x for two decaying modes."""
    nu, modes = 0.1, ((0.4, 1.0), (0.2, 2.0))
    phi = 1 + sum(a * torch.exp(-nu * k**2 * x["t"]) * torch.cos(k * x["x"]) for a, k in modes)
    slope = sum(-a * k * torch.exp(-nu * k**2 * x["t"]) * torch.sin(k * x["x"]) for a, k in modes)
    return {"u": -2 * nu * s * slope / phi}


def soliton(x, s=1.0):
    a, b, c = 6.0, 0.8, 0.7
    return {"u": (3 * c / a) / torch.cosh(math.sqrt(c / b) * (x["x"] - s * c * x["t"]) / 2) ** 2}


def layer(x, s=1.0):
    """A standing layer of width sqrt(2 D / r)."""
    return {"u": torch.tanh(x["x"] * math.sqrt(s * s * 3.0 / (2 * 0.2)) * (1 if s > 0 else 2))}


def front(x, s=1.0):
    """Ablowitz and Zeppetella's front of speed 5 sqrt(D r / 6)."""
    d, r = 0.3, 2.0
    phase = math.sqrt(r / (6 * d)) * (x["x"] - s * 5 * math.sqrt(d * r / 6) * x["t"])
    return {"u": (1 + torch.exp(phase)) ** -2}


def taylor_green(x, s=1.0):
    decay = torch.exp(-2 * 0.1 * x["t"])
    u = torch.cos(x["x"]) * torch.sin(x["y"]) * decay
    v = -torch.sin(x["x"]) * torch.cos(x["y"]) * decay
    return {"u": u, "v": v, "p": -0.25 * s * (torch.cos(2 * x["x"]) + torch.cos(2 * x["y"])) * decay**2}


def taylor_green_vorticity(x, s=1.0):
    """w = v_x - u_y = -2 cos x cos y, psi = w / 2, -Laplace psi = w."""
    decay = torch.exp(-(2 * 0.1 + 0.3) * x["t"])
    w = -2 * torch.cos(x["x"]) * torch.cos(x["y"]) * decay
    return {"vorticity": w, "stream": 0.5 * s * w}


def beltrami(x, s=1.0):
    """The ABC flow, whose curl is itself: u . grad u is the gradient of |u|^2 / 2."""
    decay, (a, b, c) = torch.exp(-0.1 * x["t"]), (1.0, 0.7, 0.4)
    u = (a * torch.sin(x["z"]) + c * torch.cos(x["y"])) * decay
    v = (b * torch.sin(x["x"]) + a * torch.cos(x["z"])) * decay
    w = (c * torch.sin(x["y"]) + b * torch.cos(x["x"])) * decay
    return {"u": u, "v": v, "w": w, "p": -0.5 * s * (u**2 + v**2 + w**2)}


def poiseuille(x, s=1.0):
    """Polynomial channel flow of viscosity 0.5 under the pressure gradient -2."""
    return {"u": 2 * s * (1 - x["y"] ** 2), "v": 0.0 * x["x"], "p": -2 * x["x"]}


SOLUTIONS = {
    "heat": (Heat("xy"), heat, {"diffusivity": 0.1}),
    "burgers": (Burgers(), cole_hopf, {"viscosity": 0.1}),
    "korteweg-de-vries": (KortewegDeVries(), soliton, {"dispersion": 0.8}),
    "allen-cahn": (AllenCahn("x"), layer, {"diffusivity": 0.2, "reaction": 3.0}),
    "fisher": (FisherKPP("x"), front, {"diffusivity": 0.3, "growth": 2.0}),
    "flow-2d": (NavierStokes("xy"), taylor_green, {"viscosity": 0.1}),
    "flow-3d": (NavierStokes("xyz"), beltrami, {"viscosity": 0.1}),
    "channel": (NavierStokes("xy"), poiseuille, {"viscosity": 0.5}),
    "vorticity": (NavierStokesVorticity(), taylor_green_vorticity, {"viscosity": 0.1, "drag": 0.3}),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_closed_forms_have_no_residual(name):
    pde, solution, p = SOLUTIONS[name]
    x = points(pde.coordinates)
    u = solution(coordinate_jets(x, pde.derivatives))
    for equation, residual in pde(x, u, p).items():
        assert residual.abs().max() < 1e-11, equation
    if name not in ("heat",):  # linear: the mirrored solution solves it as well
        wrong = pde(x, solution(coordinate_jets(x, pde.derivatives), -1.0), p)
        assert max(float(r.abs().max()) for r in wrong.values()) > 1e-2


def test_heat_decay_rate_is_seen():
    x = points("xyt")
    u = heat(coordinate_jets(x, Heat("xy").derivatives))
    assert Heat("xy")(x, u, {"diffusivity": 0.11})["heat"].abs().max() > 1e-2


def test_advection_coefficient_of_burgers_equation_scales_the_solution():
    """If v solves the equation with a = 1, then v / a solves it with a."""
    x = points("xt")
    v = cole_hopf(coordinate_jets(x, Burgers().derivatives))["u"]
    scaled = {"u": v / 0.7}
    assert Burgers()(x, scaled, {"viscosity": 0.1, "advection": 0.7})["momentum"].abs().max() < 1e-12
    assert Burgers()(x, scaled, {"viscosity": 0.1})["momentum"].abs().max() > 1e-3


P1 = NonlinearPoisson()


def parabola(x, w=1.4):
    return w * (1 - x["x"] ** 2) / (2 * (math.log(2) + 0.1))


def test_nonlinear_poisson_without_coefficients_is_a_parabola():
    x = points("x")
    z = {f"z{i}": 0.0 for i in range(5)}
    u = parabola(coordinate_jets(x, P1.derivatives))
    assert P1(x, {"u": u}, z | {"forcing": 1.4})["poisson"].abs().max() < 1e-13
    assert P1(x, {"u": u}, z | {"forcing": -1.4})["poisson"].abs().max() > 1
    centre = parabola({"x": torch.zeros(1, dtype=torch.float64)}, w=1.0)
    assert float(centre) == pytest.approx(0.6304, abs=1e-6)


def solve_p1(z, w=1.0, n=96):
    """Chebyshev coefficients of the solution, by Newton's method on collocation: no code of the package."""
    nodes = torch.cos(PI * torch.arange(n + 1, dtype=torch.float64) / n)
    basis = [torch.as_tensor(chebyshev.chebvander(nodes.numpy(), n) @ m) for m in derivative_matrices(n)]
    s = sum(c * torch.cos(i * torch.acos(nodes)) for i, c in enumerate(z))
    ds = torch.as_tensor(chebyshev.chebval(nodes.numpy(), chebyshev.chebder(list(z))))

    def residual(c):
        u, du, ddu = (b @ c for b in basis)
        kappa = torch.log1p(torch.exp(u * s)) + 0.1
        slope = torch.sigmoid(u * s) * (u * ds + du * s)
        r = slope * du + kappa * ddu + w
        return torch.cat([u[:1], r[1:-1], u[-1:]])

    c = torch.zeros(n + 1, dtype=torch.float64)
    for _ in range(20):
        c = c - torch.linalg.solve(torch.func.jacfwd(residual)(c), residual(c))
    return c


def derivative_matrices(n):
    first = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    for k in range(n + 1):
        unit = [0.0] * k + [1.0]
        slope = chebyshev.chebder(unit)
        first[: len(slope), k] = torch.as_tensor(slope)
    return torch.eye(n + 1, dtype=torch.float64).numpy(), first.numpy(), (first @ first).numpy()


def chebyshev_jet(c, x):
    c = c.numpy()
    values = [chebyshev.chebval(x.numpy(), chebyshev.chebder(c, k) if k else c) for k in range(3)]
    return Jet({name: torch.as_tensor(value) for name, value in zip(("", "x", "xx"), values, strict=True)})


@pytest.mark.parametrize(("c", "centre"), [(1.0, 0.532968), (-1.0, 0.809540)])
def test_nonlinear_poisson_by_kirchhoffs_transform(c, centre):
    """int_0^u kappa = w (1 - x^2) / 2 for z = (c, 0, 0, 0, 0)."""
    u0 = float(chebyshev.chebval(0.0, solve_p1((c, 0, 0, 0, 0)).numpy()))
    assert u0 == pytest.approx(centre, abs=1e-6)
    s = torch.linspace(0, u0, 4001, dtype=torch.float64)
    integral = torch.trapezoid(softplus(c * s) + 0.1, s)
    assert float(integral) == pytest.approx(0.5, abs=1e-7)


def test_nonlinear_poisson_residual_of_a_spectral_solution_and_its_reflection():
    z, w = (0.5, -0.8, 0.9, 0.7, -0.6), 1.3
    x = points("x")
    c = solve_p1(z, w)
    u, mirrored = chebyshev_jet(c, x["x"]), chebyshev_jet(c, -x["x"])
    p = {f"z{i}": value for i, value in enumerate(z)}
    assert P1(x, {"u": u}, p | {"forcing": w})["poisson"].abs().max() < 1e-9
    assert P1(x, {"u": u}, p | {"forcing": -w})["poisson"].abs().max() > 1
    reflected = Jet({"": mirrored.value, "x": -mirrored.x, "xx": mirrored.xx})
    turned = {f"z{i}": (-1) ** i * value for i, value in enumerate(z)}
    assert P1(x, {"u": reflected}, turned | {"forcing": w})["poisson"].abs().max() < 1e-9
    assert P1(x, {"u": reflected}, p | {"forcing": w})["poisson"].abs().max() > 1e-2


def test_parameters_of_a_batch_broadcast_over_points():
    x = points("x", n=6)
    u = parabola(coordinate_jets(x, P1.derivatives))
    z = {f"z{i}": torch.full((4, 1), 0.1 * i, dtype=torch.float64) for i in range(5)}
    w = torch.linspace(1, 2, 4, dtype=torch.float64)[:, None]
    together = P1(x, {"u": u}, z | {"forcing": w})["poisson"]
    assert together.shape == (4, 6)
    one = P1(x, {"u": u}, {f"z{i}": 0.1 * i for i in range(5)} | {"forcing": float(w[2])})["poisson"]
    assert (together[2] - one).abs().max() < 1e-14


@pytest.mark.parametrize("u_s", [80.0, 800.0, -800.0])
def test_softplus_does_not_overflow(u_s):
    x = {"x": torch.full((1,), 0.5, dtype=torch.float64)}
    u = Jet({k: torch.tensor([v], dtype=torch.float64) for k, v in {"": u_s, "x": 1.0, "xx": 0.0}.items()})
    p = {f"z{i}": float(i == 0) for i in range(5)}
    r = P1(x, {"u": u}, p | {"forcing": 0.0})["poisson"]
    assert float(r) == pytest.approx(-1.0 if u_s > 0 else 0.0, abs=1e-12)  # kappa = u + 0.1 or 0.1
