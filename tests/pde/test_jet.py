"""Calculus of jets against nested forward mode, and what jets refuse."""

import math

import pytest
import torch

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.pde.autodiff_jets import autodiff_jets
from sciprob.pde.coordinates import columns, coordinate_jets, point_jets
from sciprob.pde.derivative_names import chain_terms, closure, product_terms
from sciprob.pde.jet import Jet

NAMES = ("xxxx", "xxt", "xyt", "yy", "tt")
POINTS = 0.2 + 0.7 * torch.rand(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

TWO = torch.tensor(2.0, dtype=torch.float64)
EXPRESSIONS = {
    "polynomial": lambda x, y, t: x**4 * y**2 - 3 * x**2 * t**2 + 2 * y - 1,
    "quotient": lambda x, y, t: (1 + x * t) / (2 + y**2) - 1 / x + x / 3,
    "elementary": lambda x, y, t: torch.exp(-t) * torch.sin(math.pi * x) * torch.cos(y) + torch.log(x + y),
    "powers": lambda x, y, t: torch.sqrt(x + t) + (x * y) ** 1.5 + torch.square(t) + torch.reciprocal(y),
    "hyperbolic": lambda x, y, t: torch.tanh(x - 2 * t) * torch.sigmoid(y) + torch.cosh(x) - torch.sinh(y * t),
    "activations": lambda x, y, t: (
        torch.nn.functional.softplus(3 * x - y, beta=2.0)
        + torch.nn.functional.silu(x * t)
        + torch.nn.functional.gelu(y - x)
    ),
    "constants": lambda x, y, t: (
        torch.tensor(2.0, dtype=torch.float64) * x - (torch.ones_like(POINTS[0, 0, 0]) - y) / 2
    ),
    "nested": lambda x, y, t: torch.exp(torch.sin(x * y) ** 2 / (1 + torch.exp(x * t))),
}


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_arithmetic_follows_product_and_chain_rule(name):
    expression = EXPRESSIONS[name]
    x = coordinate_jets(columns(POINTS, "xyt"), NAMES)
    jet = expression(x["x"], x["y"], x["t"])
    reference = autodiff_jets(lambda p: expression(*p.unbind(-1)), POINTS, "xyt", NAMES)
    for derivative in closure(NAMES):
        expected = reference[derivative]
        error = (jet[derivative] - expected).abs().max()
        assert error <= 1e-12 * (1 + expected.abs().max()), (derivative, error)


def test_derivatives_against_closed_forms():
    x = coordinate_jets(columns(POINTS, "xyt"), ("xxxx", "xyt"))
    jet = torch.exp(2 * x["x"]) * torch.sin(x["y"] * x["t"])
    px, py, pt = POINTS.unbind(-1)
    s, c, e = torch.sin(py * pt), torch.cos(py * pt), torch.exp(2 * px)
    assert (jet.xxxx - 16 * e * s).abs().max() < 1e-12
    assert (jet.xyt - 2 * e * (c - py * pt * s)).abs().max() < 1e-13
    assert torch.equal(jet.ytx, jet.xyt)


def test_term_counts_of_the_rules():
    assert sum(count for count, _, _ in product_terms("xxxyy")) == 2**5
    bell = [1, 1, 2, 5, 15, 52]
    for order, number in enumerate(bell):
        assert sum(count for count, _ in chain_terms("x" * order)) == number
    assert dict((blocks, count) for count, blocks in chain_terms("xxxx"))[("xx", "xx")] == 3


def test_chain_rule_for_any_smooth_function_is_differentiable_in_its_parameters():
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    x = coordinate_jets(columns(POINTS, "xyt"), ("xx",))["x"]
    jet = (x**2).apply(lambda u: torch.erf(scale * u))
    expected = autodiff_jets(lambda p: torch.erf(scale * p[..., 0] ** 2), POINTS, "xyt", ("xx",))
    assert (jet.xx - expected.xx).abs().max() < 1e-12
    (slope,) = torch.autograd.grad(jet.xx.sum(), scale)
    h = 1e-5
    change = [(x**2).apply(lambda u, s=s: torch.erf(s * u)).xx.sum() for s in (scale.detach() + h, scale.detach() - h)]
    assert float(slope) == pytest.approx(float(change[0] - change[1]) / (2 * h), rel=1e-8)


def test_divergence_form():
    """(k u_x)_x written as a flux."""
    x = coordinate_jets(columns(POINTS, "xyt"), ("xx",))["x"]
    k, u = torch.exp(x), torch.sin(x)
    flux = k * u.derivative("x")
    px = POINTS[..., 0]
    assert (flux.x - torch.exp(px) * (torch.cos(px) - torch.sin(px))).abs().max() < 1e-13
    assert u.laplacian("x").equal(u.xx)


def test_linear_operations_work_without_the_value():
    """Kernels have some derivatives only; sums and multiples need no others."""
    a, b = torch.rand(2, 4, dtype=torch.float64)
    jet = 2 * Jet({"xx": a}) - Jet({"xx": b, "x": a}) / 4
    assert torch.equal(jet.xx, 2 * a - 0.25 * b)
    assert (jet + 1.0).xx.equal(jet.xx)
    with pytest.raises(UnsupportedProblemError, match="has no value"):
        jet * jet
    with pytest.raises(UnsupportedProblemError, match=r"knows the derivatives \['xx'\], not `yy`"):
        jet["yy"]
    with pytest.raises(AttributeError, match="not `yy`"):
        _ = jet.yy


def test_known_derivatives_that_are_not_stored_vanish():
    x = coordinate_jets(columns(POINTS, "xyt"), ("xx", "t"))["x"]
    assert x.xx.shape == (2, 5)
    assert not x.xx.any()
    assert x.x.eq(1).all()
    assert not x.knows("xt")
    constant = Jet.constant(POINTS[..., 0])
    assert not constant.xyyt.any()
    assert not constant.derivative("x").value.any()


def test_wrong_use_is_explained():
    x = coordinate_jets(columns(POINTS, "xyt"), ("xx",))["x"]
    with pytest.raises(UnsupportedProblemError, match=r"torch function `relu` has no derivative rule"):
        torch.relu(x)
    with pytest.raises(AttributeError, match=r"written `torch\.tanh\(u\)`"):
        x.tanh()
    with pytest.raises(UnsupportedProblemError, match="exponent of a jet should be a number"):
        x**x
    with pytest.raises(UnsupportedProblemError, match="knows no derivative along `y`"):
        x.derivative("y")
    with pytest.raises(UnsupportedProblemError, match="swap them"):
        torch.eye(5, dtype=torch.float64) @ x
    with pytest.raises(ShapeError, match="at least one entry"):
        Jet({})
    with pytest.raises(ShapeError, match="broadcast to one shape"):
        _ = Jet({"": torch.zeros(3), "x": torch.zeros(4)}).value
    with pytest.raises(ShapeError, match="should have 3 columns"):
        point_jets(torch.zeros(4, 2), "xyt", ("x",))


@pytest.mark.parametrize("n", [0, 1])
def test_no_points_and_one_point(n):
    x = coordinate_jets(columns(POINTS[:, :n], "xyt"), ("xx",))["x"]
    assert torch.sin(x * x).xx.shape == (2, n)


def test_dtype_follows_the_points():
    x = coordinate_jets(columns(POINTS.float(), "xyt"), ("xxxx",))["x"]
    jet = torch.exp(1 / (1 + x)) * 2 - 1
    assert (jet.dtype, jet.device) == (torch.float32, POINTS.device)
    assert {entry.dtype for entry in jet.entries.values()} == {torch.float32}
