"""Reaction-diffusion: exact fronts, uniform states, scipy's solution, accuracy, systems, refusals."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from spectral_eq_cases import TWO_PI, axes, box, interval, relative, run, smooth, solve_by_scipy
from torch import Tensor

from sciprob.engines.spectral import Evolution
from sciprob.engines.spectral.equations.reaction_diffusion import (
    FisherKPPSpectral,
    GrayScottSpectral,
    ReactionDiffusionSpectral,
)
from sciprob.errors import DataError
from sciprob.testing import OperatorConformance


class _FisherKPP(OperatorConformance):
    unknown: ClassVar[str]

    def make(self) -> tuple[Evolution, Tensor]:
        basis = interval(12, 0.0, TWO_PI, "neumann")
        u0 = 0.4 + 0.2 * torch.cos(axes(basis)["x"])
        equation = FisherKPPSpectral(basis, diffusivity=0.2, growth=1.0 + 0.3 * u0)
        operator = Evolution(equation, (0.0, 0.5), unknown=(self.unknown,), step=0.05, initial=u0)
        return operator, {"initial": u0, "growth": 1.0 + u0}[self.unknown]


class TestFisherKPPInitial(_FisherKPP):
    unknown = "initial"


class TestFisherKPPGrowth(_FisherKPP):
    unknown = "growth"


class TestGrayScottInitial(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        basis = box((8, 9))
        u0 = torch.stack([0.8 + 0.1 * smooth(basis), 0.2 + 0.05 * smooth(basis, seed=1)])
        return Evolution(GrayScottSpectral(basis, diffusivity=(0.02, 0.01)), (0.5, 1.0), step=0.1), u0


class TestGrayScottDiffusivity(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        basis = interval(12, 0.0, TWO_PI)
        u0 = torch.stack([0.8 + 0.1 * smooth(basis), 0.2 + 0.05 * smooth(basis, seed=1)])
        operator = Evolution(GrayScottSpectral(basis), (1.0,), unknown=("diffusivity",), step=0.1, initial=u0)
        return operator, torch.tensor([0.2, 0.3], dtype=torch.float64)


def front(x: Tensor, time: float) -> Tensor:
    """Ablowitz and Zeppetella's exact front of u_t = u_xx + u (1 - u), speed 5 / sqrt(6)."""
    return (1 + torch.exp((x - 5 * time / math.sqrt(6)) / math.sqrt(6))) ** -2


def test_a_front_invades_at_its_speed() -> None:
    basis = interval(400, -60.0, 60.0, "neumann")
    x = axes(basis)["x"]
    after = run(FisherKPPSpectral(basis), front(x, 0.0), 4.0, 0.01)
    inner = x.abs() < 30  # away from the ends, where the front is flat up to 1e-11
    assert float((after - front(x, 4.0)).abs()[inner].max()) < 1e-8


def test_uniform_states_follow_the_reaction() -> None:
    basis = interval(8, 0.0, 1.0)
    u0 = torch.full((8,), 0.2, dtype=torch.float64)
    logistic = 1 / (1 + (1 / 0.2 - 1) * math.exp(-2.0 * 1.5))
    after = run(FisherKPPSpectral(basis, growth=2.0), u0, 1.5, 0.005)
    assert torch.allclose(after, torch.tensor(logistic, dtype=torch.float64), rtol=1e-9)
    start = torch.tensor([[0.6], [0.3]], dtype=torch.float64).expand(2, 8)
    states = run(GrayScottSpectral(basis, feed=0.3, kill=0.1), start, 2.0, 0.01)
    exact = solve_ivp(
        lambda t, y: [-y[0] * y[1] ** 2 + 0.3 * (1 - y[0]), y[0] * y[1] ** 2 - 0.4 * y[1]],
        (0, 2),
        [0.6, 0.3],
        rtol=1e-11,
        atol=1e-12,
    ).y[:, -1]
    assert torch.allclose(states, torch.from_numpy(exact)[:, None], rtol=1e-9)


def test_gray_scott_agrees_with_radau() -> None:
    """The semi-discrete system written anew in numpy."""
    n, length, diffusivity, feed, kill = 24, 1.0, (2e-3, 1e-3), 0.04, 0.06
    basis = interval(n, 0.0, length)
    u0 = torch.stack([1 - 0.3 * torch.cos(TWO_PI * axes(basis)["x"]) ** 2, 0.2 + 0.1 * smooth(basis)])
    k = np.fft.rfftfreq(n, 1 / n)
    keep, square = k < n / 4, (TWO_PI * k / length) ** 2

    def rate(state: np.ndarray) -> np.ndarray:
        c = np.fft.rfft(state)
        u, v = np.fft.irfft(c * keep, n)
        reaction = np.stack([feed * (1 - u) - u * v**2, u * v**2 - (feed + kill) * v])
        diffusion = -np.array(diffusivity)[:, None] * square * c
        return np.fft.irfft(diffusion + keep * np.fft.rfft(reaction), n)

    equation = GrayScottSpectral(basis, diffusivity=diffusivity, feed=feed, kill=kill)
    assert relative(run(equation, u0, 5.0, 0.02), solve_by_scipy(rate, u0, 5.0, "Radau")) < 1e-8


def test_neumann_is_spectral_and_dirichlet_is_not_for_even_reactions() -> None:
    """What the class says: the odd extension of u^2 has a kink in its second derivative."""

    def error(boundary: str, n: int) -> float:
        def state(size: int) -> Tensor:
            basis = interval(size, 0.0, math.pi, boundary)
            x = axes(basis)["x"]
            u = torch.sin(x) if boundary == "dirichlet" else 0.5 + 0.4 * torch.cos(x)
            return run(FisherKPPSpectral(basis, diffusivity=0.3, growth=1.0), u, 1.0, 0.02)

        return relative(state(n), state(9 * n)[4::9])

    assert error("neumann", 24) < 1e-12
    assert 1e-9 < error("dirichlet", 24) < 1e-4
    assert error("dirichlet", 72) < error("dirichlet", 24) / 9


def test_users_can_bring_their_own_reaction() -> None:
    """u_t = D u_xx - c u has the exact decay of each mode."""
    basis = interval(16, 0.0, TWO_PI)
    equation = ReactionDiffusionSpectral(basis, lambda u, p: -p["decay"] * u, {"decay": 0.7}, diffusivity=0.1, degree=1)
    u0 = torch.cos(3 * axes(basis)["x"])
    assert relative(run(equation, u0, 1.0, 0.01), u0 * math.exp(-0.9 - 0.7)) < 1e-9
    operator = Evolution(equation, (1.0,), unknown=("decay",), step=0.01, initial=u0)
    slow, fast = operator(torch.tensor([0.2, 1.2], dtype=torch.float64))
    assert relative(fast, slow * math.exp(-1.0)) < 1e-8


def test_negative_diffusivities_are_refused() -> None:
    basis = interval(8, 0.0, 1.0)
    operator = Evolution(GrayScottSpectral(basis), (1.0,), unknown=("diffusivity",), step=0.1, initial=torch.ones(2, 8))
    with pytest.raises(DataError, match="sample 1"):
        operator(torch.tensor([[1e-3, 1e-3], [1e-3, -1e-3]], dtype=torch.float64))
