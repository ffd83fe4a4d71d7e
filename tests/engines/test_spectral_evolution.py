"""Evolutions: the operator contract, exact solutions of linear equations, adjoints through time, refusals."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis, SpectralEquation
from sciprob.engines.spectral.equations.advection import AdvectionSpectral
from sciprob.engines.spectral.equations.burgers import BurgersSpectral
from sciprob.engines.spectral.equations.burgers_2d import Burgers2DSpectral
from sciprob.engines.spectral.equations.heat import HeatSpectral
from sciprob.errors import ConfigError, ConvergenceError, DataError, ShapeError, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.spaces import GridSpace
from sciprob.testing import OperatorConformance
from sciprob.testing.checks import adjoint_defect, taylor_orders

TWO_PI = 2 * math.pi


def line(n: int, boundary: str = "periodic") -> SpectralBasis:
    centring = "periodic" if boundary == "periodic" else "cell"
    return SpectralBasis(
        GridSpace((n,), name="u", dims=("x",), lower=(0.0,), upper=(1.0,), centring=centring), boundary
    )


def plane(shape: tuple[int, int], boundary: tuple[str, str] = ("periodic", "periodic")) -> SpectralBasis:
    centring = "periodic" if set(boundary) == {"periodic"} else "cell"
    grid = GridSpace(shape, name="u", dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 2.0), centring=centring)
    return SpectralBasis(grid, boundary)


def wave(basis: SpectralBasis) -> Tensor:
    x = basis.grid.axis(0)
    return torch.sin(TWO_PI * x) + 0.3 * torch.cos(2 * TWO_PI * x)


def smooth(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class _Burgers(OperatorConformance):
    unknown: ClassVar[str]
    scheme: ClassVar[str] = "etdrk4"
    boundary: ClassVar[str] = "periodic"

    def make(self) -> tuple[Evolution, Tensor]:
        basis = line(15, self.boundary)
        u0 = torch.sin(TWO_PI * basis.grid.axis(0))
        equation = BurgersSpectral(basis, viscosity=0.05, forcing=0.2 * u0)
        operator = Evolution(
            equation, [0.0, 0.1, 0.25], unknown=(self.unknown,), step=0.02, scheme=self.scheme, initial=u0
        )
        points = {"initial": u0, "viscosity": torch.tensor(0.2).double(), "forcing": -0.5 * u0}
        return operator, points[self.unknown]


class TestBurgersInitial(_Burgers):
    unknown = "initial"


class TestBurgersInitialDirichlet(_Burgers):
    unknown = "initial"
    boundary = "dirichlet"
    scheme = "etdrk2"


class TestBurgersForcing(_Burgers):
    unknown = "forcing"
    scheme = "imex"


class TestPlaneBurgersInitial(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        equation = Burgers2DSpectral(plane((6, 7)), viscosity=0.05)
        return Evolution(equation, [0.05, 0.1], step=0.01), 0.3 * smooth((2, 6, 7))


class TestHeatForcing(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        basis = plane((5, 6), ("neumann", "dirichlet"))
        initial = smooth((5, 6))
        return Evolution(
            HeatSpectral(basis, diffusivity=0.1), [0.3, 1.0], unknown=("forcing",), step=1.0, initial=initial
        ), smooth((5, 6), 1)


class TestAdvectionVelocity(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        equation = AdvectionSpectral(plane((7, 6)), velocity=(1.0, 0.5), diffusivity=0.02)
        operator = Evolution(equation, [0.2], unknown=("velocity",), step=0.2, initial=smooth((7, 6)))
        return operator, torch.tensor([0.4, -0.7]).double()


@pytest.mark.parametrize("unknown", ["viscosity", "initial"])
def test_scalar_unknowns_have_one_value_per_sample(unknown: str) -> None:
    basis = line(16)
    u0, viscosities = wave(basis), torch.tensor([[0.02, 0.05], [0.1, 0.2], [0.0, 0.3]]).double()
    operator = Evolution(BurgersSpectral(basis), [0.1, 0.2], unknown=("initial", "viscosity"), step=0.01)
    initial = u0 + 0.1 * smooth((3, 2, 16))
    together = operator({"initial": initial, "viscosity": viscosities})
    assert together.shape == (3, 2, 2, 16)
    for i in range(3):
        for j in range(2):
            alone = Evolution(BurgersSpectral(basis, viscosity=float(viscosities[i, j])), [0.1, 0.2], step=0.01)
            torch.testing.assert_close(together[i, j], alone(initial[i, j]), rtol=0, atol=1e-13)


@pytest.mark.parametrize("scheme", ["etdrk4", "etdrk2", "imex"])
def test_derivatives_by_viscosity(scheme: str) -> None:
    basis = line(16)
    operator = Evolution(
        BurgersSpectral(basis), [0.1, 0.2], unknown=("viscosity",), step=0.01, scheme=scheme, initial=wave(basis)
    )
    m, dm, v = torch.tensor([0.02, 0.2]).double(), torch.tensor([0.005, 0.03]).double(), smooth((2, 2, 16))
    defect = adjoint_defect(_Flat(operator), m, dm, v)
    assert defect <= 1e-13
    orders = taylor_orders(_Flat(operator), m, dm)
    assert all(1.9 <= order <= 2.1 for order in orders), orders
    assert orders


class _Flat:
    """Sums the inner products of a batch, for the checks of derivatives."""

    def __init__(self, operator: Evolution) -> None:
        self.operator, self.jvp, self.vjp = operator, operator.jvp, operator.vjp
        self.domain = self.codomain = self

    def __call__(self, m: Tensor) -> Tensor:
        return self.operator(m)

    def inner(self, a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum()


def test_gradients_of_several_unknowns() -> None:
    basis = line(12)
    operator = Evolution(BurgersSpectral(basis), [0.1], unknown=("initial", "viscosity", "forcing"), step=0.01)
    point = {"initial": wave(basis), "viscosity": torch.tensor(0.1).double(), "forcing": smooth((12,))}
    fixed = point
    point = {name: x.clone().requires_grad_() for name, x in fixed.items()}
    v = smooth((1, 12), 1)
    gradients = dict(zip(point, torch.autograd.grad((operator(point) * v).sum(), list(point.values())), strict=True))
    for name, x in point.items():
        direction, h = smooth(x.shape, 2), 1e-5
        up, down = (operator(fixed | {name: fixed[name] + s * h * direction}) for s in (1, -1))
        expected = float(((up - down) * v).sum()) / (2 * h)
        assert abs(float((gradients[name] * direction).sum()) - expected) <= 1e-7 * abs(expected) + 1e-9, name


def test_adjoint_through_a_thousand_steps() -> None:
    basis = line(32)
    operator = Evolution(BurgersSpectral(basis, viscosity=0.02), [0.5, 1.0], step=1e-3)
    assert operator.n_steps == 1000
    m, dm, v = wave(basis), smooth((32,), 1), smooth((2, 32), 2)
    assert adjoint_defect(operator, m, dm, v) <= 1e-12
    orders = taylor_orders(operator, m, dm, steps=range(8, 12))
    assert all(1.95 <= order <= 2.05 for order in orders), orders


def test_storing_all_states_changes_nothing() -> None:
    basis = line(16)
    m, v = wave(basis), smooth((2, 16))
    few, all_states = (
        Evolution(BurgersSpectral(basis), [0.1, 0.3], step=0.01, checkpoint=c).vjp(m, v)[1] for c in (True, False)
    )
    torch.testing.assert_close(few, all_states, rtol=1e-13, atol=1e-14)


def test_second_derivatives_are_refused() -> None:
    basis = line(8)
    operator = Evolution(BurgersSpectral(basis), [0.1], step=0.05)
    m = wave(basis).requires_grad_()
    (gradient,) = torch.autograd.grad(operator(m).square().sum(), m, create_graph=True)
    with pytest.raises(NotImplementedError, match="Gauss-Newton"):
        torch.autograd.grad(gradient.sum(), m)


def test_solves_are_counted() -> None:
    basis = line(8)
    operator = Evolution(BurgersSpectral(basis), [0.1], step=0.05)
    m = wave(basis).repeat(3, 1)
    operator(m)
    operator.vjp(m, smooth((3, 1, 8)))
    operator.jvp(m, smooth((3, 8)))
    assert (operator.stats.forward, operator.stats.adjoint, operator.stats.tangent) == (9, 3, 3)


@pytest.mark.parametrize("shape", [(12, 15), (13, 14)])
@pytest.mark.parametrize(
    "boundary", [("periodic", "periodic"), ("dirichlet", "neumann"), ("neumann", "periodic"), ("dirichlet",) * 2]
)
def test_heat_modes_decay_exactly(shape: tuple[int, int], boundary: tuple[str, str]) -> None:
    basis = plane(shape, boundary)
    y, x = torch.meshgrid(basis.grid.axis(0), basis.grid.axis(1), indexing="ij")

    def mode(s: Tensor, kind: str, length: float) -> tuple[Tensor, float]:
        k = TWO_PI / length if kind == "periodic" else 2 * math.pi / length
        return (torch.sin(k * s) if kind == "dirichlet" else torch.cos(k * s)), k

    (along_y, ky), (along_x, kx) = mode(y, boundary[0], 1.0), mode(x, boundary[1], 2.0)
    u0, rate = along_y * along_x, 0.01 * (kx * kx + ky * ky)
    forced = HeatSpectral(basis, diffusivity=0.01, forcing=3.0 * u0)
    times = torch.tensor([0.0, 0.7, 3.0], dtype=torch.float64)
    found = Evolution(forced, times, step=10.0, initial=u0)(u0)
    amplitude = (-rate * times).exp() * (1 - 3.0 / rate) + 3.0 / rate
    torch.testing.assert_close(found, amplitude[:, None, None] * u0, rtol=0, atol=1e-12)


def test_advection_moves_and_blurs() -> None:
    basis = plane((15, 17))
    y, x = torch.meshgrid(basis.grid.axis(0), basis.grid.axis(1), indexing="ij")

    def exact(t: float) -> Tensor:
        phase_x, phase_y = math.pi * (x - 0.7 * t), TWO_PI * (y + 1.3 * t)
        rate = 0.03 * (math.pi**2 + TWO_PI**2)
        return math.exp(-rate * t) * torch.sin(phase_x) * torch.cos(phase_y) + 0.5

    equation = AdvectionSpectral(basis, velocity=(0.7, -1.3), diffusivity=0.03)
    found = Evolution(equation, [0.4, 1.0], step=1.0)(exact(0.0))
    torch.testing.assert_close(found, torch.stack([exact(0.4), exact(1.0)]), rtol=0, atol=1e-13)


def test_affine_evolutions_say_so() -> None:
    heat, burgers = HeatSpectral(line(8)), BurgersSpectral(line(8))
    u0 = wave(line(8))
    assert Capability.LINEAR in Evolution(heat, [1.0], step=1.0).capabilities
    both = Evolution(heat, [1.0], unknown=("initial", "forcing"), step=1.0)
    assert Capability.LINEAR in both.capabilities
    assert Capability.LINEAR not in Evolution(heat, [1.0], unknown=("diffusivity",), step=1.0, initial=u0).capabilities
    assert Capability.LINEAR not in Evolution(burgers, [1.0], step=0.1).capabilities


class _Pushed(SpectralEquation):
    """u_t = -u + g(t): a forcing that varies in time."""

    def symbol(self, p: dict[str, Tensor]) -> Tensor:
        return -torch.ones(1, *self.basis.spectral_shape, dtype=torch.float64)

    def nonlinear(self, u_hat: Tensor, t: float, p: dict[str, Tensor]) -> Tensor:
        n = self.basis.grid.shape[0]
        forcing = torch.zeros_like(u_hat)
        forcing[..., 0] = n * (math.cos(t) + math.sin(t))
        return forcing


def test_forcing_in_time_and_output_between_steps() -> None:
    basis = line(4)
    times = [0.1, 0.37, 1.0]
    found = Evolution(_Pushed(basis), times, step=0.05)(torch.zeros(4, dtype=torch.float64))
    expected = torch.sin(torch.tensor(times, dtype=torch.float64))[:, None].expand(3, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_the_step_keeps_the_stated_tolerance() -> None:
    basis = line(64)
    equation, u0 = BurgersSpectral(basis, viscosity=0.02), wave(basis)
    reference = Evolution(equation, [0.2, 0.5], step=1e-3)(u0)
    steps = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        operator = Evolution(equation, [0.2, 0.5], tolerance=tolerance, initial=u0)
        error = (operator(u0) - reference).norm(dim=-1) / reference.norm(dim=-1)
        assert float(error.max()) <= tolerance
        steps.append(operator.step)
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[-1]


def test_instability_names_time_sample_and_remedy() -> None:
    basis = line(64)
    operator = Evolution(BurgersSpectral(basis, viscosity=1e-4), [1.0, 30.0], step=0.5)
    u0 = torch.stack([torch.zeros(64), 50 * wave(basis)]).double()
    with pytest.raises(
        ConvergenceError, match=r"sample 1 is not finite at time .* steps of 0.5; use a smaller `step`"
    ) as e:
        operator(u0)
    assert e.value.sample == 1


def test_negative_diffusion_is_refused_by_sample() -> None:
    basis = line(8)
    operator = Evolution(BurgersSpectral(basis), [0.1], unknown=("viscosity",), step=0.1, initial=wave(basis))
    with pytest.raises(DataError, match=r"`viscosity` of sample 1 should be 0 or more, got -0\.1"):
        operator(torch.tensor([0.1, -0.1]).double())
    with pytest.raises(DataError, match="`diffusivity` of sample 0"):
        Evolution(HeatSpectral(basis, diffusivity=-1.0), [0.1], step=0.1)(wave(basis))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"times": [0.2, 0.1]}, "increasing"),
        ({"times": [-0.1, 0.1]}, "from 0 on"),
        ({"times": []}, "one or more"),
        ({"times": [0.0, math.nan]}, "increasing"),
        ({"step": 0.0}, "positive"),
        ({"step": math.nan}, "positive"),
        ({"step": None, "tolerance": 0.0, "initial": torch.ones(8)}, "`tolerance`"),
        ({"step": None}, "`initial` is needed"),
        ({"unknown": ("viscosity",)}, "`initial` is needed"),
        ({"unknown": ("nu",)}, "'viscosity'"),
        ({"unknown": "initial"}, "tuple of names"),
        ({"scheme": "rk4"}, "'etdrk4'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], match: str) -> None:
    words: dict[str, object] = {"times": [0.1], "step": 0.1} | settings
    with pytest.raises(ConfigError, match=match):
        Evolution(BurgersSpectral(line(8)), words.pop("times"), **words)  # type: ignore[arg-type]


def test_shapes_and_equations_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match="initial"):
        Evolution(BurgersSpectral(line(8)), [0.1], step=0.1, initial=torch.ones(9))
    with pytest.raises(ShapeError, match="`forcing`"):
        BurgersSpectral(line(8), forcing=torch.ones(9))
    with pytest.raises(UnsupportedProblemError, match="Dirichlet"):
        BurgersSpectral(line(8, "neumann"))
    with pytest.raises(UnsupportedProblemError, match="periodic"):
        AdvectionSpectral(line(8, "dirichlet"))
