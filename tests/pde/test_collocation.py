"""Collocation rows: closed forms, manufactured solutions, invariances, Gauss-Newton, and every refusal."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, SciprobWarning, ShapeError, UnsupportedProblemError
from sciprob.expressions import Expression
from sciprob.pde.advection_diffusion import AdvectionDiffusion
from sciprob.pde.burgers import Burgers
from sciprob.pde.collocation import Collocation
from sciprob.pde.collocation_checks import sensor_rows
from sciprob.pde.coordinates import coordinate_jets
from sciprob.pde.functionals import ScatteredPoints, TensorPoints
from sciprob.pde.heat import Heat
from sciprob.pde.helmholtz import Helmholtz, Laplace, StationaryAllenCahn
from sciprob.pde.jet import Jet
from sciprob.pde.manufactured import Manufactured
from sciprob.pde.poisson import Poisson
from sciprob.pde.reaction_diffusion import GrayScott
from sciprob.pde.side_conditions import SideCondition
from sciprob.pde.steady_source import SteadyHeatSource

DIRICHLET = SideCondition.dirichlet


def formula(text: str, coordinates: str) -> Any:
    return Expression(text, tuple(coordinates)).on


def jet_of(text: str, collocation: Collocation, points: TensorPoints | ScatteredPoints | None = None) -> Jet:
    points = collocation.points() if points is None else points
    x = points.columns(collocation.coordinates)
    jet: Jet = formula(text, "".join(collocation.coordinates))(coordinate_jets(x, collocation.derivatives))
    return jet


CASES = [
    (Laplace("x"), {}, "sin(7*x) + x**2", "x"),
    (Laplace("xyz"), {}, "sin(x)*exp(y)*z**2", "xyz"),
    (Poisson("xy"), {"conductivity": formula("exp(x)*(2 + sin(y))", "xy")}, "sin(3*x)*cos(2*y)", "xy"),
    (Helmholtz("xy"), {"wavenumber": formula("3 + x*y", "xy")}, "cos(2*x + y)", "xy"),
    (Heat("x"), {"diffusivity": 0.3}, "exp(-t)*sin(2*x)", "xt"),
    (
        AdvectionDiffusion("x"),
        {"velocity_x": formula("1 + x*t", "xt"), "diffusivity": 0.1},
        "sin(x - 3*t)",
        "xt",
    ),
    (StationaryAllenCahn("xy"), {}, "sin(2*x)*cos(y)", "xy"),
    (Burgers(), {"viscosity": 0.1}, "sin(x)*exp(-t)", "xt"),
]


@pytest.mark.parametrize(("pde", "parameters", "text", "coordinates"), CASES)
def test_a_manufactured_solution_satisfies_all_rows(pde: Any, parameters: Any, text: str, coordinates: str) -> None:
    """Equation, Dirichlet, Neumann and Robin rows, on the grid, between its points and at scattered ones."""
    exact = Manufactured(pde, formula(text, coordinates), parameters)
    sides = [
        DIRICHLET(f"{coordinates[0]}_lower"),
        SideCondition.neumann("x_upper"),
        SideCondition.robin(f"{coordinates[-1]}_upper", 2.0),
    ]
    d = len(coordinates)
    c = exact.collocation([0.0] * d, [1.0, 1.5, 0.7][:d], [5, 6, 4][:d], sides)
    scattered = ScatteredPoints(torch.rand(7, d, generator=torch.Generator().manual_seed(0)).double() * 0.7)
    for points in (c.points(), c.points(shift=0.3), scattered):
        u = jet_of(text, c, points)
        assert c.residual(u, points).abs().max() < 1e-12
        rows = c.equations(u, points)
        torch.testing.assert_close(rows.of(u), rows.values, rtol=1e-12, atol=1e-11)
    for rows in c.conditions_at():
        torch.testing.assert_close(rows.of(jet_of(text, c, rows.points)), rows.values, rtol=1e-12, atol=1e-12)


def test_the_source_is_that_of_the_formula() -> None:
    """Delta u = f has the plus sign, -div(k grad u) = f the minus sign."""
    x = torch.linspace(0, 1, 5).double()
    plus = Manufactured(Laplace("x"), formula("sin(7*x)", "x")).forcing({"x": x})
    torch.testing.assert_close(plus, -49 * torch.sin(7 * x))
    minus = Manufactured(Poisson("x"), formula("sin(7*x)", "x"), {"conductivity": 2.0}).forcing({"x": x})
    torch.testing.assert_close(minus, 98 * torch.sin(7 * x))


def test_coefficients_keep_only_the_axes_they_vary_along() -> None:
    c = Collocation(
        AdvectionDiffusion("x"),
        (0, 0),
        (1, 2),
        (4, 5),
        {"velocity_x": lambda x: x["t"] ** 2, "diffusivity": 0.1},
    )
    terms = c.equations().terms
    assert {name: tuple(term.shape) for name, term in terms.items()} == {"t": (), "x": (1, 5), "xx": ()}
    torch.testing.assert_close(terms["x"][0], c.points().lines[1] ** 2)
    assert float(terms["xx"]) == -0.1


def test_neumann_points_outwards() -> None:
    """U = x^2 on [1, 2]: u_n is -2 at the lower end, 4 at the upper."""
    c = Collocation(
        Laplace("x"), (1.0,), (2.0,), (3,), {}, (SideCondition.neumann("x_lower"), SideCondition.neumann("x_upper"))
    )
    found = [float(rows.of(jet_of("x**2", c, rows.points))) for rows in c.conditions_at()]
    assert found == pytest.approx([-2.0, 4.0])


def test_gauss_newton_converges_quadratically() -> None:
    """A field u* + e v: the linearised rows leave a remainder of second order in e, at u* + e v itself none."""
    exact = Manufactured(StationaryAllenCahn("x"), formula("sin(3*x)", "x"))
    c = exact.collocation([0.0], [1.0], [9], [DIRICHLET("x_lower")])
    solution, change = jet_of("sin(3*x)", c), jet_of("exp(x)", c)
    remainders = []
    for size in (1e-2, 1e-3):
        rows = c.equations(solution + change * size)
        remainders.append(float((rows.of(solution) - rows.values).abs().max()))
        at_itself = rows.of(solution + change * size) - rows.values
        torch.testing.assert_close(at_itself, c.residual(solution + change * size), rtol=1e-10, atol=1e-12)
    assert math.log10(remainders[0] / remainders[1]) == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("batch", [(3,), (2, 2), (0,), (2, 0)])
def test_many_sources_are_one_operator(batch: tuple[int, ...]) -> None:
    factors = torch.arange(math.prod(batch)).double().reshape(*batch, 1)
    c = Collocation(Laplace("xy"), (0, 0), (1, 1), (3, 4), {"forcing": lambda x: factors * x["x"] * x["y"]})
    rows = c.equations()
    assert rows.values.shape == (*batch, 3, 4)
    assert {name: float(term) for name, term in rows.terms.items()} == {"xx": 1.0, "yy": 1.0}
    x, y = c.points().lines
    torch.testing.assert_close(rows.values, factors[..., None] * x[:, None] * y)


def test_coefficients_that_differ_over_a_batch_are_refused() -> None:
    speeds = torch.tensor([[1.0], [2.0]]).double()
    c = Collocation(AdvectionDiffusion("x"), (0, 0), (1, 1), (3, 3), {"velocity_x": lambda x: speeds * x["x"]})
    with pytest.raises(UnsupportedProblemError, match="differ over the batch"):
        c.equations()


def test_tables_are_read_on_their_grid_only() -> None:
    table = torch.arange(12).double().reshape(3, 4)
    c = Collocation(Laplace("xy"), (0, 0), (1, 1), (3, 4), {"forcing": table})
    torch.testing.assert_close(c.equations().values, table)
    with pytest.raises(UnsupportedProblemError, match="a table on the grid and is unknown elsewhere"):
        c.equations(points=c.points(shift=0.5))
    with pytest.raises(ShapeError, match=r"`forcing` should end in .*\(4, 3\), got \(3, 4\)"):
        Collocation(Laplace("xy"), (0, 0), (1, 1), (4, 3), {"forcing": table}).equations()


def test_shifted_points_lie_between() -> None:
    c = Collocation(Laplace("x"), (0.0,), (1.0,), (5,))
    torch.testing.assert_close(
        c.points(shift=0.5).lines[0], torch.tensor([0.125, 0.375, 0.625, 0.875], dtype=torch.float64)
    )
    with pytest.raises(ConfigError, match="fraction of a cell"):
        c.points(shift=1.0)


def test_steady_source_rows_annihilate_steady_sources() -> None:
    """U = exp(-4 D t) sin 2x + x^2 has the source -2 D; with t x^2 the source changes in time."""
    c = Collocation(SteadyHeatSource("x"), (0, 0), (1, 1), (5, 5), {"diffusivity": 0.3})
    assert c.residual(jet_of("exp(-1.2*t)*sin(2*x) + x**2", c)).abs().max() < 1e-12
    assert c.residual(jet_of("t*x**2", c)).abs().max() == pytest.approx(0.6)


def test_std_is_given_or_relative() -> None:
    c = Collocation(Laplace("x"), (0.0,), (2.0,), (5,), {"forcing": 8.0}, (DIRICHLET("x_lower", 3.0, std=0.1),))
    assert float(c.equations().std) == pytest.approx(8e-9)
    assert float(c.conditions_at()[0].std) == pytest.approx(0.1)
    silent = Collocation(Laplace("x"), (0.0,), (2.0,), (5,), {}, (DIRICHLET("x_lower", 3.0),))
    assert float(silent.equations().std) == pytest.approx(1e-9 * 3.0 / 4)
    assert float(Collocation(Laplace("x"), (0.0,), (2.0,), (5,), std=0.5).equations().std) == 0.5


def test_sensors_are_rows() -> None:
    rows = sensor_rows(
        ("x",), torch.tensor([[0.2], [0.9]]).double(), torch.tensor([1.0, 2.0], dtype=torch.float64), 0.1
    )
    c = Collocation(Laplace("x"), (0.0,), (1.0,), (5,), sensors=(rows,))
    assert [row.name for row in c.functionals()] == ["poisson", "sensors"]
    torch.testing.assert_close(rows.of(jet_of("x**2", c, rows.points)), torch.tensor([0.04, 0.81], dtype=torch.float64))
    with pytest.raises(DataError, match="measurement 1 should be finite"):
        sensor_rows(("x",), torch.zeros(2, 1), torch.tensor([1.0, math.nan]), 0.1)


def test_corners_that_contradict_each_other_are_named() -> None:
    with pytest.warns(SciprobWarning, match=r"`y_lower` and `x_upper` differ by 0\.5 at the corner x = 2, y = 0;"):
        Collocation(
            Laplace("xy"),
            (0, 0),
            (2, 1),
            (5, 5),
            {},
            (DIRICHLET("x_upper", lambda x: x["y"]), DIRICHLET("y_lower", 0.5)),
        )
    with pytest.warns(SciprobWarning, match=r"differ by 1 at the corner x = 0, y = 0, z = 3"):
        Collocation(
            Laplace("xyz"),
            (0, 0, 0),
            (2, 1, 3),
            (3, 3, 4),
            {},
            (DIRICHLET("x_lower", lambda x: x["z"] / 3), DIRICHLET("y_lower", 0.0)),
        )


@pytest.mark.parametrize(
    "conditions",
    [
        (DIRICHLET("x_upper", lambda x: 2 + x["y"]), DIRICHLET("y_lower", lambda x: x["x"])),
        (DIRICHLET("x_lower", 1.0), DIRICHLET("x_upper", 2.0)),  # opposite sides share no corner
        (DIRICHLET("x_upper", 1.0), SideCondition.neumann("y_lower", 3.0)),
        (DIRICHLET("x_upper", 0.02, std=0.01), DIRICHLET("y_lower", 0.0)),
    ],
)
def test_sides_that_agree_are_left_alone(conditions: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Collocation(Laplace("xy"), (0, 0), (2, 1), (5, 5), {}, conditions)


def lines(*values: float) -> list[Tensor]:
    return [torch.tensor(values, dtype=torch.float64)]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Collocation(Laplace("x"), (0, 0), (1,), (3,)), ConfigError, "as many bounds"),
        (
            lambda: Collocation(Laplace("x"), (1,), (0,), (3,)),
            ConfigError,
            "bounds of `x` should be finite and increase",
        ),
        (lambda: Collocation(Laplace("x"), (0,), (1,), (1,)), ConfigError, "at least 2 points"),
        (lambda: Collocation(Laplace("x"), (0,), (1,), (3,), {"forcin": 1}), ConfigError, "did you mean `forcing`"),
        (lambda: Collocation(Heat("x"), (0, 0), (1, 1), (3, 3)), ConfigError, "needs the parameter `diffusivity`"),
        (
            lambda: Collocation(Laplace("x"), (0,), (1,), (3,), {}, (DIRICHLET("y_lower"),)),
            ConfigError,
            "no side `y_lower`; did you mean `x_lower`",
        ),
        (lambda: DIRICHLET("left"), ConfigError, "a side is written `x_lower`"),
        (
            lambda: Collocation(Laplace("x"), (0,), (1,), (3,), {}, (DIRICHLET("x_lower"), DIRICHLET("x_lower", 1.0))),
            ConfigError,
            "two conditions on the same derivatives",
        ),
        (
            lambda: Collocation(GrayScott("x"), (0, 0), (1, 1), (3, 3), dict.fromkeys(GrayScott("x").parameters, 1.0)),
            UnsupportedProblemError,
            "one equation for one field",
        ),
        (
            lambda: Collocation.on_lines(Laplace("x"), lines(0, 0.5, 0.5, 1), {}),
            DataError,
            "entry 2 .* repeats entry 1",
        ),
        (lambda: Collocation.on_lines(Laplace("x"), lines(0, 0.6, 0.5, 1), {}), DataError, "entry 2 .* not lie above"),
        (
            lambda: Collocation.on_lines(Laplace("x"), lines(0, 0.2, 2 / 3, 1), {}),
            DataError,
            "not uniform: entry 1 is 0.2",
        ),
        (lambda: Collocation.on_lines(Laplace("x"), lines(0), {}), ShapeError, "at least 2 entries"),
    ],
)
def test_refusals(make: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_source_with_nan_says_where() -> None:
    c = Collocation(Laplace("x"), (0,), (1,), (5,), {"forcing": lambda x: torch.where(x["x"] > 0.6, math.nan, x["x"])})
    with pytest.raises(DataError, match=r"`forcing` should be finite, and is not at x = 0.75 \(point 3 of 5\)"):
        c.equations()
    short = Collocation(Laplace("x"), (0,), (1,), (5,), {"forcing": lambda x: x["x"][:4]})
    with pytest.raises(ShapeError, match=r"one value for each of 5 points, got \(4,\)"):
        short.equations()
    with pytest.raises(DataError, match="`x_upper` should be finite"):
        Collocation(Laplace("x"), (0,), (1,), (5,), {}, (DIRICHLET("x_upper", math.inf),))


def test_lines_of_a_file_are_a_grid() -> None:
    c = Collocation.on_lines(Laplace("x"), lines(0.1, 0.3, 0.5), {"forcing": torch.ones(3).double()})
    assert c.shape == (3,)
    torch.testing.assert_close(c.points().lines[0], lines(0.1, 0.3, 0.5)[0])
