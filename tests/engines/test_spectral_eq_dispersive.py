"""Kuramoto-Sivashinsky and Korteweg-de Vries: orders, scipy's solutions, solitons, invariants, refusals."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from spectral_eq_cases import TWO_PI, axes, box, interval, observed_orders, relative, run, smooth, solve_by_scipy
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.korteweg_de_vries import KortewegDeVriesSpectral
from sciprob.engines.spectral.equations.kuramoto_sivashinsky import KuramotoSivashinskySpectral
from sciprob.errors import DataError, SciprobWarning, UnsupportedProblemError
from sciprob.testing import OperatorConformance

LENGTH = 32 * math.pi


def chaos(basis: SpectralBasis) -> Tensor:
    """Kassam and Trefethen's initial state."""
    x = axes(basis)["x"]
    return torch.cos(x / 16) * (1 + torch.sin(x / 16))


def soliton(x: Tensor, time: float, speed: float, a: float = 6.0, b: float = 1.0) -> Tensor:
    return 3 * speed / a / torch.cosh(math.sqrt(speed / b) / 2 * (x - speed * time)).square()


class _KuramotoSivashinsky(OperatorConformance):
    unknown: ClassVar[str]

    def make(self) -> tuple[Evolution, Tensor]:
        basis = interval(32, 0.0, 20.0)
        u0 = smooth(basis)
        equation = KuramotoSivashinskySpectral(basis, forcing=0.1 * u0)
        operator = Evolution(equation, (0.2, 1.0), unknown=(self.unknown,), step=0.1, initial=u0)
        return operator, {"initial": u0, "forcing": u0.roll(3)}[self.unknown]


class TestKuramotoSivashinskyInitial(_KuramotoSivashinsky):
    unknown = "initial"


class TestKuramotoSivashinskyForcing(_KuramotoSivashinsky):
    unknown = "forcing"


class TestKortewegDeVriesInitial(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        basis = interval(15, 0.0, TWO_PI)
        equation = KortewegDeVriesSpectral(basis, convection=1.0, dispersion=0.1, viscosity=0.02)
        return Evolution(equation, (0.1, 0.5), step=0.05), smooth(basis, width=1.5)


@pytest.mark.parametrize("name", ["anti_diffusion", "hyperdiffusion"])
def test_derivative_by_a_coefficient(name: str) -> None:
    """Central differences, and forward against reverse mode."""
    basis = interval(32, 0.0, 20.0)
    operator = Evolution(KuramotoSivashinskySpectral(basis), (1.0,), unknown=(name,), step=0.05, initial=smooth(basis))
    c, one = torch.tensor([0.9, 1.1], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    _, tangent = operator.jvp(c, one)
    difference = (operator(c + 1e-5) - operator(c - 1e-5)) / 2e-5
    assert relative(tangent, difference) < 1e-8
    v = torch.randn(tangent.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _, gradient = operator.vjp(c, v)
    assert torch.allclose(gradient, (v * tangent).sum((-2, -1)), rtol=1e-11)


@pytest.mark.parametrize(("scheme", "order"), [("etdrk4", 4), ("etdrk2", 2)])
def test_order_in_time(scheme: str, order: int) -> None:
    basis = interval(128, 0.0, LENGTH)
    found = observed_orders(KuramotoSivashinskySpectral(basis), chaos(basis), 4.0, 0.2, scheme)
    assert found == pytest.approx(order, abs=0.2)


def test_accuracy_in_space_is_spectral() -> None:
    def state(n: int) -> Tensor:
        basis = interval(n, 0.0, LENGTH)
        return run(KuramotoSivashinskySpectral(basis), chaos(basis), 10.0, 0.05)

    fine = state(1024)
    errors = [relative(state(n), fine[:: 1024 // n]) for n in (128, 256, 512)]
    assert 1e-4 < errors[0] < 1e-2
    assert 1e-8 < errors[1] < 1e-6
    assert errors[2] < 1e-11


@pytest.mark.parametrize("equation", ["kuramoto-sivashinsky", "korteweg-de-vries"])
def test_agrees_with_scipy(equation: str) -> None:
    """The semi-discrete systems written anew in numpy."""
    n = 48
    k = np.fft.rfftfreq(n, 1 / n)
    keep = k < n / 3
    if equation == "kuramoto-sivashinsky":
        basis, time, method = interval(n, 0.0, 32.0), 5.0, "Radau"
        k = k * 2 * math.pi / 32.0
        ours, linear, speed = KuramotoSivashinskySpectral(basis), k**2 - k**4, 1.0
    else:
        basis, time, method = interval(n, 0.0, TWO_PI), 0.3, "DOP853"
        ours = KortewegDeVriesSpectral(basis, convection=1.5, dispersion=0.05, viscosity=0.01)
        linear, speed = -0.01 * k**2 + 0.05j * k**3, 1.5
        linear[-1] = linear[-1].real  # the highest mode has no odd derivative
    u0 = smooth(basis, width=3.0)

    def rate(u: np.ndarray) -> np.ndarray:
        c = np.fft.rfft(u)
        square = np.fft.rfft(np.fft.irfft(c * keep, n) ** 2)
        return np.fft.irfft(linear * c - 0.5j * speed * k * keep * square, n)

    assert relative(run(ours, u0, time, time / 1000), solve_by_scipy(rate, u0, time, method)) < 1e-8


@pytest.mark.parametrize(("a", "b"), [(6.0, 1.0), (1.0, 0.5)])
def test_a_soliton_keeps_its_shape(a: float, b: float) -> None:
    basis = interval(256, -20.0, 20.0)
    x, speed, time = axes(basis)["x"], 2.0, 2.5
    equation = KortewegDeVriesSpectral(basis, convection=a, dispersion=b)
    after = run(equation, soliton(x, 0.0, speed, a, b), time, 1e-3)
    assert relative(after, soliton(x, time, speed, a, b)) < 1e-7


def test_solitons_pass_each_other_and_conserve_mass_and_momentum() -> None:
    """After the collision both have their heights again, the fast one in front."""
    basis = interval(256, -20.0, 20.0)
    x = axes(basis)["x"]
    u0 = soliton(x + 10, 0.0, 4.0) + soliton(x + 2, 0.0, 1.0)
    states = Evolution(KortewegDeVriesSpectral(basis), (0.0, 3.0, 6.0), step=2e-3)(u0)
    assert torch.allclose(states.mean(-1), u0.mean(), rtol=1e-11)
    assert torch.allclose(states.square().mean(-1), u0.square().mean(), rtol=1e-8)
    peaks = (states[-1] > states[-1].roll(1)) & (states[-1] > states[-1].roll(-1)) & (states[-1] > 0.2)
    heights = states[-1][peaks].sort().values
    assert heights.tolist() == pytest.approx([0.5, 2.0], rel=0.02)
    fast, slow = (float(x[(states[-1] - h).abs().argmin()]) for h in (2.0, 0.5))
    assert fast > slow


def test_the_mean_is_conserved() -> None:
    basis = interval(64, 0.0, 40.0)
    u0 = smooth(basis) + 0.3
    assert float(run(KuramotoSivashinskySpectral(basis), u0, 5.0, 0.05).mean()) == pytest.approx(0.3, abs=1e-13)


def test_refusals_and_warnings() -> None:
    with pytest.raises(UnsupportedProblemError, match="one periodic axis"):
        KuramotoSivashinskySpectral(box((8, 8)))
    with pytest.raises(UnsupportedProblemError, match="one periodic axis"):
        KortewegDeVriesSpectral(interval(8, 0.0, 1.0, "dirichlet"))
    coarse = interval(32, 0.0, LENGTH)
    with pytest.warns(SciprobWarning, match="at least 120 points"):
        run(KuramotoSivashinskySpectral(coarse), chaos(coarse), 0.1, 0.1)
    fine = interval(64, 0.0, 20.0)
    for name, value in (("anti_diffusion", -1.0), ("hyperdiffusion", 0.0)):
        with pytest.raises(DataError, match=name):
            run(KuramotoSivashinskySpectral(fine, **{name: value}), smooth(fine), 0.1, 0.1)
    with pytest.raises(DataError, match="viscosity"):
        run(KortewegDeVriesSpectral(fine, viscosity=-1e-3), smooth(fine), 0.1, 0.1)
