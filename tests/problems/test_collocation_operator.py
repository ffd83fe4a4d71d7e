"""The operator of a collocation: contract, manufactured rows, agreement of its two faces."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.expressions import Expression
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.operators.linear import LinearMap
from sciprob.pde.advection_diffusion import AdvectionDiffusion
from sciprob.pde.collocation import Collocation
from sciprob.pde.collocation_checks import sensor_rows
from sciprob.pde.functionals import ScatteredPoints, TensorPoints
from sciprob.pde.helmholtz import Laplace, StationaryAllenCahn
from sciprob.pde.jet import Jet
from sciprob.pde.manufactured import Manufactured
from sciprob.pde.side_conditions import SideCondition
from sciprob.priors.kernels import SquaredExponential, covariance
from sciprob.problems.collocation_operator import CollocationOperator, collocation_operator
from sciprob.testing import OperatorConformance

SIDES = [SideCondition.dirichlet("x_lower"), SideCondition.robin("x_upper", 2.0)]


def sensors(exact: Manufactured, d: int) -> Any:
    points = torch.rand(5, d, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return sensor_rows(tuple(exact.pde.coordinates), points, exact.values(ScatteredPoints(points)), 0.1)


def build(pde: Any, text: str, shape: tuple[int, ...], parameters: Any = None) -> tuple[CollocationOperator, Tensor]:
    """Operator and grid values of a manufactured solution."""
    exact = Manufactured(pde, Expression(text, tuple(pde.coordinates)).on, parameters or {})
    d = len(shape)
    plain = exact.collocation([0.0] * d, [1.0] * d, shape, SIDES)
    c = Collocation(
        pde, plain.lower, plain.upper, plain.shape, plain.parameters, plain.conditions, (sensors(exact, d),)
    )
    operator = collocation_operator(c, [SquaredExponential(1.0, 0.6)] * d)
    return operator, exact.values(c.points())


CASES = {
    "poisson": lambda: build(Laplace("x"), "sin(3*x)", (19,)),
    "transport": lambda: build(
        AdvectionDiffusion("x"),
        "sin(2*x - t)",
        (15, 14),
        {"velocity_x": lambda x: 1 + x["x"] * x["t"], "diffusivity": 0.1},
    ),
    "allen-cahn": lambda: build(StationaryAllenCahn("xy"), "sin(2*x)*exp(y)", (13, 14)),
    "box": lambda: build(Laplace("xyz"), "sin(2*x)*exp(y)*cos(z)", (11, 12, 13)),
}


class TestLinearOnTheLine(OperatorConformance):
    def make(self) -> tuple[ForwardOperator, Tensor]:
        return CASES["poisson"]()


class TestLinearInSpaceAndTime(OperatorConformance):
    dot_tolerance = 1e-11  # differentiation matrices with entries of 1e5

    def make(self) -> tuple[ForwardOperator, Tensor]:
        return CASES["transport"]()


class TestNonlinearInThePlane(OperatorConformance):
    def make(self) -> tuple[ForwardOperator, Tensor]:
        return CASES["allen-cahn"]()


@pytest.mark.parametrize("name", CASES)
def test_a_smooth_solution_gives_its_data(name: str) -> None:
    """Grid values of the solution are mapped to the data: equation, sides and sensors."""
    operator, m = CASES[name]()
    assert isinstance(operator, LinearMap) == operator.collocation.pde.linear
    assert Capability.COLLOCATION in operator.capabilities
    error = (operator(m) - operator.data).abs().max() / operator.data.abs().max()
    assert float(error) < 2e-3  # of what the cut drops, at the ends of the axes
    assert operator.std.shape == operator.data.shape
    assert float(operator.std[-1]) == pytest.approx(0.1)


@pytest.mark.parametrize("name", CASES)
def test_fields_in_the_span_are_differentiated_exactly(name: str) -> None:
    """U = sum_i w_i k(x, x_i): its derivatives from the kernels', without any pseudo-inverse."""
    operator, m = CASES[name]()
    c, d = operator.collocation, m.ndim
    kernel, nodes = SquaredExponential(1.0, 0.6), c.points().lines
    weights = [
        torch.randn(n, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i, n in enumerate(m.shape)
    ]

    def entry(points: Any, derivative: str) -> Tensor:
        """The derivative at points, a product over the axes."""
        lines = points.lines if isinstance(points, TensorPoints) else points.points.unbind(1)
        total = torch.ones(points.shape, dtype=torch.float64)
        for i, line in enumerate(lines):
            factor = covariance(kernel, line, nodes[i], derivative.count(c.coordinates[i]), 0) @ weights[i]
            spread = [-1 if i == j else 1 for j in range(d)] if isinstance(points, TensorPoints) else [-1]
            total = total * factor.detach().reshape(spread)
        return total

    def jet(points: Any) -> Jet:
        return Jet({derivative: entry(points, derivative).flatten() for derivative in c.derivatives})

    grid = c.points()
    expected = [c.residual(jet(grid)).flatten() - c.residual(c.zero_jet(grid)).flatten()]
    expected += [rows.of(jet(rows.points)).flatten() for rows in c.functionals()[1:]]
    found = operator(entry(grid, ""))
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-6, atol=1e-6 * float(found.abs().max()))


def test_rows_of_data_are_those_of_the_operator() -> None:
    """At any field and for any data the linearised rows leave the operator's remainder, up to second order."""
    operator, m = CASES["allen-cahn"]()
    generator = torch.Generator().manual_seed(0)
    data = operator.data + 0.1 * torch.randn(operator.data.shape, generator=generator, dtype=torch.float64)
    points = operator.collocation.points()
    names = operator.collocation.derivatives

    def jet_at(values: Tensor, at: Any) -> Any:
        return Jet({name: operator.field(values, at, name).flatten() for name in names})

    direction = torch.cos(points.columns(("x", "y"))["x"]).reshape(m.shape)
    remainders = []
    for size in (1e-2, 1e-3):
        near = m + size * direction
        rows = operator.functionals(data, jet_at(m, points))
        parts = [(row.of(jet_at(near, row.points)) - row.values).flatten() for row in rows]
        remainders.append(float((torch.cat(parts) - (operator(near) - data)).abs().max()))
    assert math.log10(remainders[0] / remainders[1]) == pytest.approx(2.0, abs=0.05)


def test_batches_of_right_hand_sides_are_data() -> None:
    factors = torch.arange(1.0, 4.0).double()[:, None]
    c = Collocation(Laplace("x"), (0,), (1,), (9,), {"forcing": lambda x: factors * x["x"]})
    operator = collocation_operator(c, [SquaredExponential(1.0, 0.5)])
    assert operator.data.shape == (3, 9)
    assert [rows.values.shape for rows in operator.functionals(operator.data)] == [(3, 9)]


def test_one_kernel_per_coordinate() -> None:
    c = Collocation(Laplace("xy"), (0, 0), (1, 1), (9, 9))
    with pytest.raises(ShapeError, match="need one kernel each, got 1"):
        collocation_operator(c, [SquaredExponential(1.0, 0.5)])
