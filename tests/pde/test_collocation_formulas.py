"""Formulas of jets carry derivatives; formulas in t; stationary equations against their symbols."""

import pytest
import sympy as sp
import torch

from sciprob.errors import ConfigError, ShapeError
from sciprob.expressions import Expression
from sciprob.pde.coordinates import coordinate_jets
from sciprob.pde.helmholtz import Helmholtz, Laplace, StationaryAllenCahn
from sciprob.pde.manufactured import Manufactured

X, Y = sp.symbols("x y")
POINTS = {"x": torch.tensor([-0.7, 0.0, 0.4], dtype=torch.float64), "y": torch.tensor([0.3, 0.5, -1.0]).double()}


@pytest.mark.parametrize(
    "text",
    ["x**2*sin(y)", "(x + 2)**-1.5", "tan(x)/(2 + y)", "2**x + exp(y)**2", "-sqrt(2 + x*y) - +tanh(y)"],
)
def test_derivatives_of_formulas(text: str) -> None:
    """Against symbolic derivatives, at negative numbers and at zero too."""
    jet = Expression(text, ("x", "y")).on(coordinate_jets(POINTS, ("xx", "xy")))
    symbolic = sp.sympify(text)
    for name in ("", "x", "xx", "xy"):
        derivative = sp.lambdify((X, Y), sp.diff(symbolic, *name) if name else symbolic, "math")
        expected = [derivative(float(x), float(y)) for x, y in zip(POINTS["x"], POINTS["y"], strict=True)]
        torch.testing.assert_close(jet[name], torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_formulas_in_time() -> None:
    x = {"x": torch.ones(2).double(), "t": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    assert Expression("x + 3*t", ("x", "t")).on(x).tolist() == [4.0, 7.0]
    assert float(Expression("2*pi", ("x", "t")).on(x)) == pytest.approx(6.283185307)


def test_what_has_no_derivative_is_refused() -> None:
    jets = coordinate_jets(POINTS, ("xx",))
    with pytest.raises(ConfigError, match=r"`abs` has no derivative everywhere; write it smooth \(at character 5\)"):
        Expression("1 + abs(x)").on(jets)
    with pytest.raises(ShapeError, match="uses `z`, but the coordinates are x, y"):
        Expression("x*z").on(POINTS)


U = sp.sin(3 * X) * sp.exp(Y) + X**3
LAPLACE = sp.diff(U, X, 2) + sp.diff(U, Y, 2)


@pytest.mark.parametrize(
    ("pde", "parameters", "source"),
    [
        (Laplace("xy"), {}, LAPLACE),
        (Helmholtz("xy"), {"wavenumber": 3.0}, LAPLACE + 9 * U),
        (StationaryAllenCahn("xy"), {}, LAPLACE + U * (U**2 - 1)),
        (StationaryAllenCahn("xy"), {"reaction": 2.0}, LAPLACE + 2 * (U**3 - U)),
    ],
)
def test_sources_are_those_of_the_symbols(pde: object, parameters: dict[str, float], source: sp.Expr) -> None:
    exact = Manufactured(pde, Expression("sin(3*x)*exp(y) + x**3").on, parameters)  # type: ignore[arg-type]
    f = sp.lambdify((X, Y), source, "math")
    expected = [f(float(x), float(y)) for x, y in zip(POINTS["x"], POINTS["y"], strict=True)]
    torch.testing.assert_close(
        exact.forcing(POINTS), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12
    )
