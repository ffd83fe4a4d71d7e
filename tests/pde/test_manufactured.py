"""Every equation against its symbolic statement: residual zero with the manufactured source, and no flipped sign."""

import pytest
import sympy as sp
import torch

from sciprob.pde.advection_diffusion import AdvectionDiffusion
from sciprob.pde.allen_cahn import AllenCahn
from sciprob.pde.burgers import Burgers, Burgers2D
from sciprob.pde.coordinates import columns, coordinate_jets
from sciprob.pde.heat import Heat
from sciprob.pde.jet import Jet
from sciprob.pde.korteweg_de_vries import KortewegDeVries
from sciprob.pde.kuramoto_sivashinsky import KuramotoSivashinsky
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.pde.navier_stokes_vorticity import NavierStokesVorticity
from sciprob.pde.poisson import NonlinearPoisson, Poisson
from sciprob.pde.reaction_diffusion import FisherKPP, GrayScott

X, Y, Z, T = sp.symbols("x y z t")
SYMBOLS = {"x": X, "y": Y, "z": Z, "t": T}
U = sp.sin(X + 0.3) * sp.cos(0.7 * Y) * sp.exp(-T) * (1 + Z**2) + X**2 * T
V = sp.cos(X * Y - T) + 0.5 * sp.sin(Z)
W = sp.exp(0.3 * X - 0.2 * Y) * sp.cos(T + Z)
P = sp.sin(X) * sp.sin(Y + Z) * (1 + T**2)
KAPPA = 1 + 0.5 * sp.sin(X) * sp.cos(Y)


def lap(f, space):
    return sum(sp.diff(f, SYMBOLS[axis], 2) for axis in space)


def d(f, *names):
    return sp.diff(f, *(SYMBOLS[letter] for name in names for letter in name))


def flow(space):
    """Terms of rho (u_t + u . grad u) + grad p - mu Laplace u, and of div u."""
    velocity = {"xy": (U, V), "xyz": (U, V, W)}[space]
    equations = {}
    for axis, component in zip(space, velocity, strict=True):
        convection = [1.3 * f * d(component, a) for a, f in zip(space, velocity, strict=True)]
        terms = [1.3 * d(component, "t"), *convection, d(P, axis), -0.4 * lap(component, space)]
        equations[f"momentum_{axis}"] = (terms, f"forcing_{axis}")
    equations["continuity"] = ([d(f, a) for a, f in zip(space, velocity, strict=True)], None)
    return dict(zip(("u", "v", "w"), velocity, strict=False)) | {"p": P}, equations


def chebyshev(z):
    return sum(c * sp.chebyshevt(i, X) for i, c in enumerate(z))


def on_line(f):
    return f.subs({Y: 0.4, Z: 0.2})


U1, Z5 = on_line(U), (0.3, -0.7, 0.4, 0.9, -0.2)
STATE = U1.subs(T, 0.5)
FLOW_2D, FLOW_3D = flow("xy"), flow("xyz")
FLUX = (sp.log(1 + sp.exp(STATE * chebyshev(Z5))) + 0.1) * d(STATE, "x")

# Name: equation, exact fields, parameters, and per residual its terms and the parameter that is its source.
CASES = {
    "heat": (Heat("xyz"), {"u": U}, {"diffusivity": 0.7}, {"heat": ([d(U, "t"), -0.7 * lap(U, "xyz")], "forcing")}),
    "advection": (
        AdvectionDiffusion("xy"),
        {"u": U},
        {"velocity_x": 0.8, "velocity_y": -1.2, "diffusivity": 0.3},
        {"advection_diffusion": ([d(U, "t"), 0.8 * d(U, "x"), -1.2 * d(U, "y"), -0.3 * lap(U, "xy")], "forcing")},
    ),
    "burgers": (
        Burgers(),
        {"u": U1},
        {"viscosity": 0.2, "advection": 1.7},
        {"momentum": ([d(U1, "t"), 1.7 * U1 * d(U1, "x"), -0.2 * d(U1, "xx")], "forcing")},
    ),
    "burgers-2d": (
        Burgers2D(),
        {"u": U, "v": V},
        {"viscosity": 0.2},
        {
            f"momentum_{axis}": ([d(f, "t"), U * d(f, "x"), V * d(f, "y"), -0.2 * lap(f, "xy")], f"forcing_{axis}")
            for axis, f in (("x", U), ("y", V))
        },
    ),
    "allen-cahn": (
        AllenCahn("xy"),
        {"u": U},
        {"diffusivity": 0.1, "reaction": 2.0},
        {"allen_cahn": ([d(U, "t"), -0.1 * lap(U, "xy"), -2 * U, 2 * U**3], "forcing")},
    ),
    "kuramoto-sivashinsky": (
        KuramotoSivashinsky(),
        {"u": U1},
        {"anti_diffusion": 1.2, "hyperdiffusion": 0.6},
        {"kuramoto_sivashinsky": ([d(U1, "t"), U1 * d(U1, "x"), 1.2 * d(U1, "xx"), 0.6 * d(U1, "xxxx")], "forcing")},
    ),
    "korteweg-de-vries": (
        KortewegDeVries(),
        {"u": U1},
        {"convection": 5.0, "dispersion": 0.9, "viscosity": 0.1},
        {"korteweg_de_vries": ([d(U1, "t"), 5 * U1 * d(U1, "x"), 0.9 * d(U1, "xxx"), -0.1 * d(U1, "xx")], "forcing")},
    ),
    "fisher": (
        FisherKPP("xy"),
        {"u": U},
        {"diffusivity": 0.1, "growth": 2.0},
        {"fisher_kpp": ([d(U, "t"), -0.1 * lap(U, "xy"), -2 * U, 2 * U**2], "forcing")},
    ),
    "gray-scott": (
        GrayScott("xy"),
        {"u": U, "v": V},
        {"diffusivity_u": 0.2, "diffusivity_v": 0.1, "feed": 0.4, "kill": 0.6},
        {
            "substrate": ([d(U, "t"), -0.2 * lap(U, "xy"), U * V**2, sp.Float(-0.4), 0.4 * U], "forcing_u"),
            "activator": ([d(V, "t"), -0.1 * lap(V, "xy"), -U * V**2, 0.4 * V, 0.6 * V], "forcing_v"),
        },
    ),
    "vorticity": (
        NavierStokesVorticity(),
        {"vorticity": U, "stream": V},
        {"viscosity": 0.2, "drag": 0.5},
        {
            "transport": (
                [d(U, "t"), d(V, "y") * d(U, "x"), -d(V, "x") * d(U, "y"), -0.2 * lap(U, "xy"), 0.5 * U],
                "forcing",
            ),
            "stream": ([lap(V, "xy"), U], None),
        },
    ),
    "flow-2d": (NavierStokes("xy"), FLOW_2D[0], {"density": 1.3, "viscosity": 0.4}, FLOW_2D[1]),
    "flow-3d": (NavierStokes("xyz"), FLOW_3D[0], {"density": 1.3, "viscosity": 0.4}, FLOW_3D[1]),
    "poisson-constant": (
        Poisson("xyz"),
        {"u": U.subs(T, 0)},
        {"conductivity": 1.4},
        {"poisson": ([-1.4 * d(U.subs(T, 0), 2 * axis) for axis in "xyz"], "forcing")},
    ),
    "poisson-field": (
        Poisson("xy"),
        {"u": V.subs({T: 0, Z: 0})},
        {"conductivity": KAPPA},
        {"poisson": ([-d(KAPPA * d(V.subs({T: 0, Z: 0}), axis), axis) for axis in "xy"], "forcing")},
    ),
    "poisson-nonlinear": (
        NonlinearPoisson(),
        {"u": STATE},
        {f"z{i}": c for i, c in enumerate(Z5)},
        {"poisson": ([-d(FLUX, "x")], "forcing")},
    ),
}


def evaluate(expression, x):
    """Values at points from the symbolic expression."""
    names = list(x)
    function = sp.lambdify([SYMBOLS[name] for name in names], expression, "numpy")
    rest = {SYMBOLS[name]: 0.3 for name in "xyzt" if name not in x}
    if rest:
        function = sp.lambdify([SYMBOLS[name] for name in names], sp.sympify(expression).subs(rest), "numpy")
    values = function(*(x[name].numpy() for name in names))
    return torch.as_tensor(values, dtype=torch.float64).expand(next(iter(x.values())).shape).clone()


def jets(expression, x, derivatives):
    """Symbolic derivatives as a jet: nothing of the package's calculus."""
    return Jet({name: evaluate(d(expression, name) if name else expression, x) for name in ("", *derivatives)})


def setting(name):
    pde, exact, parameters, equations = CASES[name]
    points = -0.8 + 1.6 * torch.rand(3, 7, len(pde.coordinates), dtype=torch.float64, generator=torch.manual_seed(0))
    x = columns(points, pde.coordinates)
    u = {field: jets(exact[field], x, derivatives) for field, derivatives in pde.fields.items()}
    p = {
        key: jets(value, x, pde.coordinates) if isinstance(value, sp.Basic) else value
        for key, value in parameters.items()
    }
    return pde, x, u, p, equations


@pytest.mark.parametrize("name", CASES)
def test_residual_of_the_exact_solution_vanishes_and_no_term_can_be_flipped(name):
    pde, x, u, p, equations = setting(name)
    sources = {key: sum(evaluate(term, x) for term in terms) for terms, key in equations.values() if key}
    residuals = pde(x, u, p | sources)
    assert tuple(residuals) == tuple(equations) == pde.equations
    for equation, (terms, key) in equations.items():
        values = [evaluate(term, x) for term in terms]
        found = residuals[equation] if key else residuals[equation] - sum(values)
        assert found.shape == (3, 7)
        assert found.abs().max() < 1e-10, equation
        for i, value in enumerate(values):
            flipped = residuals[equation] + 2 * value if key else found + 2 * value
            assert flipped.abs().max() > 1e-2, (equation, i)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[0].linear])
def test_linear_equations_are_linear_in_jets(name):
    """r(a u + b v) - r(0) = a (r(u) - r(0)) + b (r(v) - r(0)) for any entries, as kernel blocks need."""
    pde, x, _, p, _ = setting(name)
    generator = torch.Generator().manual_seed(1)

    def random_fields():
        return {
            field: Jet({k: torch.randn(3, 7, dtype=torch.float64, generator=generator) for k in derivatives})
            for field, derivatives in pde.fields.items()
        }

    u, v = random_fields(), random_fields()
    p = p | {"forcing": torch.randn(3, 7, dtype=torch.float64, generator=generator)}
    mixed = {field: 2.0 * u[field] - 0.7 * v[field] for field in u}
    zero = {field: 0.0 * u[field] for field in u}
    for equation in pde.equations:
        offset = pde(x, zero, p)[equation]
        expected = 2.0 * (pde(x, u, p)[equation] - offset) - 0.7 * (pde(x, v, p)[equation] - offset)
        assert (pde(x, mixed, p)[equation] - offset - expected).abs().max() < 1e-12
        assert (offset + p["forcing"]).abs().max() < 1e-15


def test_equations_that_are_not_linear_say_so():
    for name, (pde, *_) in CASES.items():
        affine = name in ("heat", "advection", "poisson-constant", "poisson-field")
        assert pde.linear == affine, name


def test_jets_of_the_calculus_give_the_same_residual():
    """The exact solution written as torch code on coordinate jets instead of symbolic derivatives."""
    pde, x, u, p, _ = setting("kuramoto-sivashinsky")
    c = coordinate_jets(x, pde.derivatives)
    field = torch.sin(c["x"] + 0.3) * torch.exp(-c["t"]) * (1.04 * float(sp.cos(0.28))) + c["x"] ** 2 * c["t"]
    expected = pde(x, u, p)["kuramoto_sivashinsky"]
    assert (pde(x, {"u": field}, p)["kuramoto_sivashinsky"] - expected).abs().max() < 1e-12
