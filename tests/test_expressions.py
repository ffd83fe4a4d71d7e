"""Formulas evaluate like Python's mathematics, and nothing else gets through."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sciprob.errors import ConfigError, ShapeError
from sciprob.expressions import Expression

POINT = torch.tensor([[0.3, 0.7, 1.1]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("sin(pi*x)*y", math.sin(math.pi * 0.3) * 0.7),
        ("-x**2 + 2*y/z - +1", -(0.3**2) + 2 * 0.7 / 1.1 - 1),
        ("2**-x", 2**-0.3),
        ("exp(log(x)) + sqrt(y) + tanh(abs(-z))", 0.3 + math.sqrt(0.7) + math.tanh(1.1)),
        ("min(x, y) + 10*max(x, z)", 0.3 + 11),
        ("1.5", 1.5),
        ("e", math.e),
        ("step(x - 0.2) * cos(0)", 1.0),
        ("atan2(y, x) + tan(x) + sign(-z)", math.atan2(0.7, 0.3) + math.tan(0.3) - 1),
    ],
)
def test_formulas(text: str, value: float) -> None:
    assert Expression(text)(POINT).item() == pytest.approx(value, rel=1e-14)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_precedence_is_pythons(x: float, y: float) -> None:
    point = torch.tensor([[x, y]], dtype=torch.float64)
    assert Expression("x - y - 2*x*y + (x - 1)*-y")(point).item() == pytest.approx(x - y - 2 * x * y + (x - 1) * -y)


def test_batch_dtype_and_gradient_are_kept() -> None:
    points = torch.rand(2, 5, 2, requires_grad=True)
    values = Expression("x*y + 1")(points)
    assert values.shape == (2, 5)
    assert values.dtype == torch.float32
    values.sum().backward()
    assert torch.equal(points.grad, points.detach().flip(-1))  # type: ignore[arg-type]
    assert Expression("3")(torch.zeros(4, 2)).tolist() == [3.0] * 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sni(x)", r"unknown function `sni`; did you mean `sin`\? Valid: .* \(at character 1\)"),
        ("1 + u", r"unknown name `u`; .*\(at character 5\)"),
        ("x^2", r"powers are written \*\* \(at character 2\)"),
        ("sin(x", r"is not a formula \(at character 4\)"),
        ("", "is not a formula"),
        ("min(x)", "gives `min` 1 arguments instead of 2"),
        ("x if y else z", "uses IfExp"),
        ("x < y", "uses Compare"),
        ("'a'", "uses Constant"),
        ("1j", "uses Constant"),
        ("True", "uses Constant"),
    ],
)
def test_errors_show_the_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Expression(text)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "x.__class__", "(lambda: x)()", "[x][0]", "x := 1", "open('f')", "sin.__call__(x)", "f'{x}'"],
)
def test_code_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Expression(text)


def test_huge_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(ConfigError):
        Expression("(" * 5000 + "x" + ")" * 5000)


def test_missing_coordinate() -> None:
    with pytest.raises(ShapeError, match="uses `z`, but the points have 2 coordinates"):
        Expression("z")(torch.zeros(3, 2))
