"""Allen-Cahn: order in time, accuracy in space, scipy's solution, layers, energy, refusals."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.fft import dct, idct
from spectral_eq_cases import TWO_PI, axes, box, interval, observed_orders, relative, run, smooth, solve_by_scipy
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.allen_cahn import AllenCahnSpectral
from sciprob.errors import DataError, SciprobWarning
from sciprob.testing import OperatorConformance


def start(basis: SpectralBasis) -> Tensor:
    x = axes(basis)["x"]
    return 0.6 * torch.cos(x) + 0.3 * torch.cos(2 * x)


class _AllenCahn(OperatorConformance):
    unknown: ClassVar[str]

    def make(self) -> tuple[Evolution, Tensor]:
        basis = interval(16, 0.0, TWO_PI)
        u0 = start(basis)
        equation = AllenCahnSpectral(basis, diffusivity=1.0, reaction=1.0, forcing=0.3 * u0)
        operator = Evolution(equation, (0.2, 0.5), unknown=(self.unknown,), step=0.05, initial=u0)
        return operator, {"initial": u0, "forcing": 0.5 * u0.roll(2)}[self.unknown]


class TestInitial(_AllenCahn):
    unknown = "initial"


class TestForcing(_AllenCahn):
    unknown = "forcing"


@pytest.mark.parametrize(("scheme", "order"), [("etdrk4", 4), ("etdrk2", 2)])
def test_order_in_time(scheme: str, order: int) -> None:
    basis = interval(48, 0.0, TWO_PI)
    equation = AllenCahnSpectral(basis, diffusivity=0.1, reaction=1.0)
    assert observed_orders(equation, start(basis), 2.0, 0.25, scheme) == pytest.approx(order, abs=0.2)


@pytest.mark.filterwarnings("ignore:layers of width")
@pytest.mark.parametrize("boundary", ["periodic", "neumann", "dirichlet"])
def test_accuracy_in_space_is_spectral(boundary: str) -> None:
    """Each grid of n points is part of the grid of 3 n, cells too, so that states are compared point by point."""
    length, first = (TWO_PI, 0) if boundary == "periodic" else (math.pi, 1)

    def state(n: int) -> Tensor:
        basis = interval(n, 0.0, length, boundary)
        x = axes(basis)["x"]
        u = torch.sin(x) + 0.3 * torch.sin(2 * x) if boundary == "dirichlet" else start(basis)
        return run(AllenCahnSpectral(basis, diffusivity=0.5, reaction=1.0), u, 1.0, 0.02)

    sizes = (24, 72, 216) if boundary == "periodic" else (12, 36, 108)
    coarse, middle, fine = (state(n) for n in sizes)
    assert 1e-8 < relative(coarse, fine[first::3][first::3]) < 1e-2
    assert relative(middle, fine[first::3]) < 1e-11


def test_agrees_with_radau() -> None:
    """The Galerkin system written anew with scipy's cosine transform on a grid fine enough for the cube."""
    n, d, r = 32, 0.1, 2.0
    basis = interval(n, 0.0, math.pi, "neumann")
    u0 = smooth(basis, width=2.0) * 0.5
    keep = np.arange(n) * 4 < 2 * n
    square = np.arange(n) ** 2

    def rate(u: np.ndarray) -> np.ndarray:
        c = dct(u)
        cube = dct(idct(c * keep) ** 3) * keep
        return idct((r - d * square) * c - r * cube)

    ours = run(AllenCahnSpectral(basis, diffusivity=d, reaction=r), u0, 1.0, 0.005)
    assert relative(ours, solve_by_scipy(rate, u0, 1.0, "Radau")) < 1e-8


def test_a_layer_stands_still() -> None:
    basis = interval(256, -16.0, 16.0, "neumann")
    d, r = 0.5, 1.0
    layer = torch.tanh(axes(basis)["x"] / math.sqrt(2 * d / r))
    after = run(AllenCahnSpectral(basis, diffusivity=d, reaction=r), layer, 2.0, 0.05)
    assert float((after - layer).abs().max()) < 1e-8
    other = run(AllenCahnSpectral(basis, diffusivity=1.2 * d, reaction=r), layer, 2.0, 0.05)
    assert float((other - layer).abs().max()) > 1e-2


def test_a_neumann_solution_is_half_of_an_even_periodic_one() -> None:
    half = interval(20, 0.0, math.pi, "neumann")
    whole = SpectralBasis(
        type(half.grid)((40,), name="u", dims=("x",), lower=(0.0,), upper=(TWO_PI,), centring="cell"), "periodic"
    )
    u = smooth(half)
    both = torch.cat([u, u.flip(0)])
    settings = {"diffusivity": 0.3, "reaction": 1.5}
    left = run(AllenCahnSpectral(half, **settings), u, 0.5, 0.05)
    right = run(AllenCahnSpectral(whole, **settings), both, 0.5, 0.05)
    assert relative(left, right[:20]) < 1e-12


def test_the_energy_falls() -> None:
    basis = box((32, 32))
    equation = AllenCahnSpectral(basis, diffusivity=0.2, reaction=1.0)
    states = Evolution(equation, tuple(0.25 * k for k in range(9)), step=0.05)(smooth(basis))
    gradient = sum(basis.values_of_derivative(basis.to_spectral(states), d).square() for d in "xy")
    energy = (0.1 * gradient + 0.25 * (1 - states.square()).square()).mean((-2, -1))
    assert bool((energy.diff() < 0).all())


def test_refusals_and_warnings() -> None:
    coarse = interval(16, 0.0, TWO_PI)
    with pytest.warns(SciprobWarning, match=r"grid of at least \(126,\)"):
        run(AllenCahnSpectral(coarse, diffusivity=0.01), start(coarse), 0.1, 0.1)
    equation = AllenCahnSpectral(interval(16, 0.0, TWO_PI), diffusivity=1.0)
    operator = Evolution(equation, (0.1,), unknown=("diffusivity",), step=0.1, initial=start(coarse))
    with pytest.raises(DataError, match="`diffusivity` of sample 1"):
        operator(torch.tensor([1.0, -1.0], dtype=torch.float64))
