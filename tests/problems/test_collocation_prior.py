"""Kernels from source, boundary and initial data: frequencies and powers that are known in closed form."""

import math
from typing import Any

import pytest
import torch

from sciprob.errors import ConfigError
from sciprob.expressions import Expression
from sciprob.pde.advection_diffusion import AdvectionDiffusion
from sciprob.pde.collocation import Collocation
from sciprob.pde.functionals import Functionals
from sciprob.pde.helmholtz import Helmholtz, Laplace, StationaryAllenCahn
from sciprob.pde.manufactured import Manufactured
from sciprob.pde.side_conditions import SideCondition
from sciprob.problems.collocation_prior import initial_kernels, solution_tones
from sciprob.problems.collocation_spectrum import Symbol, Tones


def manufactured(pde: Any, text: str, upper: float, n: int, sides: list[str], parameters: Any = None) -> Collocation:
    exact = Manufactured(pde, Expression(text, tuple(pde.coordinates)).on, parameters or {})
    d = len(pde.coordinates)
    return exact.collocation([0.0] * d, [upper] * d, [n] * d, [SideCondition.dirichlet(side) for side in sides])


def frequencies(tones: Tones, least: float = 1e-3) -> list[float]:
    """Radians per unit of the tones with at least a fraction of the power."""
    return sorted(2 * math.pi * s for s, power in tones.power.items() if s > 0 and power > least * tones.total)


def test_amplitudes_of_the_solution_not_of_the_source() -> None:
    """f = -36 sin 6x - 0.1 (80)^2 sin 80x: the power of the faster tone in u is a hundredth, in f 3e2."""
    c = manufactured(Laplace("x"), "sin(6*x) + 0.1*sin(80*x)", 6.0, 400, ["x_lower", "x_upper"])
    (tones,) = solution_tones(c)
    slow, fast = (tones.power[min(tones.power, key=lambda s: abs(s - k / (2 * math.pi)))] for k in (6, 80))
    assert frequencies(tones) == pytest.approx([6.0, 80.0], rel=1e-6)
    assert slow == pytest.approx(1.0, rel=0.1)  # the symbol is averaged over the width of the box
    assert fast == pytest.approx(0.01, rel=0.1)


def test_products_and_sums_in_the_plane() -> None:
    c = manufactured(Laplace("xy"), "sin(40*x)*cos(60*y) + sin(50*y)", 3.0, 120, ["x_lower", "y_upper"])
    x, y = solution_tones(c)
    assert frequencies(x) == pytest.approx([40.0], rel=1e-6)
    assert frequencies(y) == pytest.approx([50.0, 60.0], rel=1e-6)
    assert x.power[0.0] == pytest.approx(1.0, rel=0.1)  # the summand that does not depend on x


def test_waves_of_advection_come_from_initial_and_inflow_data() -> None:
    """F = 0: omega = c k, from either side alone."""
    for side in ("t_lower", "x_lower"):
        c = manufactured(AdvectionDiffusion("x"), "sin(20*x - 60*t)", 2.0, 100, [side], {"velocity_x": 3.0})
        x, t = solution_tones(c)
        assert frequencies(x) == pytest.approx([20.0], rel=0.01)
        assert frequencies(t) == pytest.approx([60.0], rel=0.01)


def test_helmholtz_knows_its_own_waves() -> None:
    """Without a source the only frequency is k, and in the plane sqrt(k^2 - k_t^2) with k_t from the sides."""
    line = Collocation(
        Helmholtz("x"), (0.0,), (1.0,), (80,), {"wavenumber": 60.0}, (SideCondition.dirichlet("x_lower", 1.0),)
    )
    assert frequencies(solution_tones(line)[0]) == pytest.approx([60.0], rel=0.01)
    c = manufactured(Helmholtz("xy"), "sin(30*x + 40*y)", 1.5, 80, ["x_lower"], {"wavenumber": 50.0})
    x, y = solution_tones(c)
    assert frequencies(y) == pytest.approx([40.0], rel=0.02)
    assert frequencies(x) == pytest.approx([30.0], rel=0.05)


def test_resonance_stays_finite() -> None:
    """Symbol zero at the frequency of the source: the average over 1/L keeps the power of the order (f L / 4 k)^2."""
    k, length = 60.0, 2.0
    c = Collocation(
        Helmholtz("x"), (0.0,), (length,), (120,), {"wavenumber": k, "forcing": lambda x: torch.sin(k * x["x"])}
    )
    (tones,) = solution_tones(c)
    largest = max(tones.power.values())
    assert 0.1 < largest / (length / (4 * k)) ** 2 < 10


def test_cubic_terms_are_seen_through_the_linear_part() -> None:
    (tones,) = solution_tones(manufactured(StationaryAllenCahn("x"), "sin(50*x)", 6.0, 400, ["x_lower", "x_upper"]))
    assert frequencies(tones) == pytest.approx([50.0], rel=1e-6)


def test_smooth_sources_have_no_frequency() -> None:
    c = Collocation(Laplace("x"), (0.0,), (1.0,), (100,), {"forcing": lambda x: torch.exp(x["x"])})
    (kernel,) = initial_kernels(c)
    assert kernel.frequencies.tolist() == [0.0]


def test_stretching_space_stretches_the_kernel() -> None:
    """X -> 3 x: frequencies and decay rates divide by 3 and 9, the covariance as a function of x / L is the same."""
    kernels = []
    for s in (1.0, 3.0):
        text = f"sin({40 / s}*x) + 0.3*cos({70 / s}*x) + 0.2"
        kernels += initial_kernels(manufactured(Laplace("x"), text, 2.0 * s, 200, ["x_lower", "x_upper"]))
    lags = torch.linspace(0, 2, 30).double()
    first, second = (kernel.derivatives(s * lags, 0)[0].detach() for s, kernel in zip((1, 3), kernels, strict=True))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["gaussian", "student"])
def test_the_variance_is_that_of_the_solution(kind: str) -> None:
    c = manufactured(Laplace("xy"), "5*sin(40*x)*sin(40*y)", 3.0, 100, ["x_lower"])
    variance = math.prod(
        float(kernel.evaluate(torch.zeros(1).double(), (0,)).detach()) for kernel in initial_kernels(c, kind)
    )
    assert variance == pytest.approx(25, rel=0.1)


def test_settings_are_checked() -> None:
    c = Collocation(Laplace("xy"), (0, 0), (1, 1), (20, 9))
    with pytest.raises(ConfigError, match="one entry per coordinate"):
        initial_kernels(c, scale=(1.0,))
    with pytest.raises(ConfigError, match="'gaussian' or 'student'"):
        initial_kernels(c, "cauchy")


def test_symbols() -> None:
    """|i omega + i c k + D k^2| at single frequencies."""
    one = torch.ones((), dtype=torch.float64)
    c = Collocation(AdvectionDiffusion("x"), (0, 0), (1, 1), (3, 3), {"velocity_x": 3.0, "diffusivity": 0.1})
    rows: Functionals = c.equations()
    axes = [Tones(1.0, 0.5), Tones(1.0, 0.5)]
    s = torch.tensor([[0.7, 1.1], [0.0, 0.0], [1.0, -3.0]], dtype=torch.float64)
    k, omega = 2 * math.pi * s.T
    expected = torch.complex(0.1 * k**2, omega + 3 * k).abs()
    size, terms = Symbol.of(rows, axes)(s)
    torch.testing.assert_close(size, expected * one)
    torch.testing.assert_close(terms, omega.abs() + 3 * k.abs() + 0.1 * k**2)
