"""The page on residuals runs as shown: an equation in at most 30 lines, its training, its tests."""

import re
from pathlib import Path

import pytest
import torch

from sciprob.pde.allen_cahn import AllenCahn
from sciprob.pde.navier_stokes import NavierStokes
from sciprob.pde.poisson import Poisson
from sciprob.testing import ResidualConformance

PAGE = (Path(__file__).parents[2] / "docs" / "residuals.md").read_text()
EQUATION, TRAINING, COEFFICIENT, TESTS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def run(*blocks):
    names = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "residuals.md", "exec"), names)
    return names


def test_an_equation_and_its_training_take_at_most_thirty_lines():
    lines = [line for line in (EQUATION + TRAINING).splitlines() if line.strip() and "import" not in line]
    assert len(lines) <= 30, len(lines)


def test_training_on_the_residual_reduces_it():
    torch.manual_seed(0)
    first = run(EQUATION, TRAINING.replace("range(200)", "range(1)"))["loss"]
    torch.manual_seed(0)
    names = run(EQUATION, TRAINING)
    assert names["loss"] < 0.2 * first
    x = {"x": torch.rand(9), "t": torch.zeros(9)}
    n = names["network_jets"](names["network"], torch.stack([x["x"], x["t"]], -1), "xt", {"u": ("tt",)})
    start = names["condition"](x, n)["u"]
    assert (start.value - torch.sin(torch.pi * x["x"])).abs().max() < 1e-6
    assert start.t.abs().max() < 1e-6


def test_the_divergence_form_is_right():
    names = run(EQUATION, COEFFICIENT)
    x = names["x"]["x"]
    assert (names["divergence"] - torch.exp(x) * (torch.cos(x) - torch.sin(x))).abs().max() < 1e-6


TestSineGordon = run(EQUATION, TESTS)["TestSineGordon"]  # collected as the page has it


def test_the_suite_sees_wrong_equations():
    wrong_sign = run(EQUATION.replace("+ torch.sin", "- torch.sin"), TESTS)["TestSineGordon"]()
    with pytest.raises(AssertionError, match="wave"):
        wrong_sign.test_the_exact_solution_has_no_residual()
    undeclared = run(EQUATION.replace('("xx", "tt")', '("tt",)'), TESTS)["TestSineGordon"]()
    with pytest.raises(AttributeError, match="knows the derivatives"):
        undeclared.test_batch_axes(())
    nonlocal_ = run(EQUATION.replace("torch.sin(field.value)", "field.value.cumsum(-1)"), TESTS)["TestSineGordon"]()
    with pytest.raises(AssertionError):
        nonlocal_.test_residuals_are_pointwise()
    unsaid = run(EQUATION.replace("torch.sin(field.value)", "field.value"), TESTS)["TestSineGordon"]()
    with pytest.raises(AssertionError, match="say so by"):
        unsaid.test_linear_part()


class TestAllenCahn(ResidualConformance):
    def make(self):
        return AllenCahn("xy"), {"diffusivity": 0.2, "reaction": 3.0}

    def solution(self, x):
        return {"u": torch.tanh((x["x"] + x["y"]) * (3.0 / 0.8) ** 0.5)}


class TestDarcy(ResidualConformance):
    def make(self):
        return Poisson("xy"), {"conductivity": lambda x: torch.exp(x["x"]), "forcing": 0.0}

    def solution(self, x):
        return {"u": 1 - torch.exp(-x["x"])}


class TestFlow(ResidualConformance):
    def make(self):
        return NavierStokes("xyz"), {"viscosity": 0.1}

    def solution(self, x):
        """Channel flow."""
        return {"u": 1 - x["y"] ** 2, "v": 0 * x["x"], "w": 0 * x["x"], "p": -0.2 * x["x"]}
