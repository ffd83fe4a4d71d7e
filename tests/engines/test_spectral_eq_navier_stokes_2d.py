"""Plane Navier-Stokes: exact vortices, Kolmogorov flow, balances, scipy's solution, symmetries, gradients."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from spectral_eq_cases import axes, box, interval, observed_orders, relative, run, smooth, solve_by_scipy
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.pde.grid_jets import grid_jet, spectral_rate
from sciprob.pde.jet import Jet
from sciprob.pde.navier_stokes_vorticity import NavierStokesVorticity
from sciprob.testing import OperatorConformance
from sciprob.testing.checks import taylor_orders


def within(basis: SpectralBasis, u: Tensor) -> Tensor:
    """Only the modes that survive dealiasing."""
    return basis.to_grid(basis.to_spectral(u) * basis.dealias())


class _NavierStokes(OperatorConformance):
    unknown: ClassVar[str]

    def make(self) -> tuple[Evolution, Tensor]:
        basis = box((9, 12), ("y", "x"))
        u0 = smooth(basis)
        equation = NavierStokes2DSpectral(basis, viscosity=0.05, drag=0.1, forcing=0.5 * smooth(basis, seed=1))
        operator = Evolution(equation, (0.2, 0.5), unknown=(self.unknown,), step=0.05, initial=u0)
        return operator, {"initial": u0, "forcing": smooth(basis, seed=2)}[self.unknown]


class TestInitial(_NavierStokes):
    unknown = "initial"


class TestForcing(_NavierStokes):
    unknown = "forcing"


@pytest.mark.parametrize("name", ["viscosity", "drag"])
def test_one_coefficient_per_sample(name: str) -> None:
    """Values as one by one; central differences; forward against reverse mode."""
    basis = box((12, 12))
    u0 = smooth(basis)
    operator = Evolution(NavierStokes2DSpectral(basis), (0.5,), unknown=(name,), step=0.05, initial=u0)
    c, one = torch.tensor([0.02, 0.3], dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    for value, state in zip(c, operator(c), strict=True):
        assert (
            relative(
                run(NavierStokes2DSpectral(basis, **{"viscosity": 1e-3, name: float(value)}), u0, 0.5, 0.05), state[0]
            )
            < 1e-13
        )
    _, tangent = operator.jvp(c, one)
    assert relative(tangent, (operator(c + 1e-5) - operator(c - 1e-5)) / 2e-5) < 1e-8
    _, gradient = operator.vjp(c, tangent)
    assert torch.allclose(gradient, tangent.square().flatten(1).sum(1), rtol=1e-11)


@pytest.mark.parametrize("shape", [(16, 16), (15, 18)])
@pytest.mark.parametrize("dims", [("x", "y"), ("y", "x")])
def test_taylor_green_vortices_decay(shape: tuple[int, int], dims: tuple[str, str]) -> None:
    basis = box(shape, dims)
    at = axes(basis)
    nu, alpha = 0.05, 0.1
    omega = 2 * torch.cos(at["x"]) * torch.cos(at["y"])
    after = run(NavierStokes2DSpectral(basis, viscosity=nu, drag=alpha), omega, 2.0, 0.05)
    assert float((after - omega * math.exp(-2 * (2 * nu + alpha))).abs().max()) < 1e-10


def test_vortices_in_a_stream_move_with_it() -> None:
    """omega = cos(2 y) + vortices on a shear: not steady. A rotated start gives the rotated flow."""
    basis = box((18, 18))
    equation = NavierStokes2DSpectral(basis, viscosity=0.01)
    u0 = smooth(basis)
    turned = run(equation, u0.T.flip(0).roll(1, 0), 1.0, 0.02)  # by a right angle about a grid point
    assert relative(turned, run(equation, u0, 1.0, 0.02).T.flip(0).roll(1, 0)) < 1e-12
    mirrored = run(equation, -u0.flip(0), 1.0, 0.02)  # a mirror turns vortices the other way round
    assert relative(mirrored, -run(equation, u0, 1.0, 0.02).flip(0)) < 1e-12
    assert relative(run(equation, u0.flip(0), 1.0, 0.02), run(equation, u0, 1.0, 0.02).flip(0)) > 1e-2


def test_the_velocity_belongs_to_the_vorticity() -> None:
    """Curl and divergence of the velocity, by derivatives on the grid."""
    basis = box((15, 18), ("y", "x"))
    omega = smooth(basis)
    omega_hat = basis.to_spectral(omega) * basis.dealias()
    u, v = (basis.to_spectral(w) for w in NavierStokes2DSpectral(basis).velocity(omega_hat).unbind(-3))
    curl = basis.values_of_derivative(v, "x") - basis.values_of_derivative(u, "y")
    assert relative(curl, basis.to_grid(omega_hat)) < 1e-13
    divergence = basis.values_of_derivative(u, "x") + basis.values_of_derivative(v, "y")
    assert float(divergence.abs().max()) < 1e-13


def test_laminar_kolmogorov_flow_is_steady() -> None:
    basis = box((24, 16), ("y", "x"))
    nu, alpha, k = 0.1, 0.05, 3
    equation = NavierStokes2DSpectral.kolmogorov(basis, viscosity=nu, drag=alpha, wavenumber=k, amplitude=0.7)
    laminar = -0.7 * k * torch.cos(k * axes(basis)["y"]) / (nu * k**2 + alpha)
    assert float((run(equation, laminar, 5.0, 0.05) - laminar).abs().max()) < 1e-12
    assert relative(run(equation, 0 * laminar, 30.0, 0.05), laminar) < 1e-6  # and reached from rest


def test_balances_of_energy_and_enstrophy() -> None:
    """d/dt of both from the equation, against viscosity, drag and forcing; convection gives nothing."""
    basis = box((20, 20))
    nu, alpha = 0.03, 0.2
    omega, g = within(basis, smooth(basis, width=6.0)), within(basis, smooth(basis, seed=1))
    rate = spectral_rate(NavierStokes2DSpectral(basis, viscosity=nu, drag=alpha, forcing=g), omega)
    gradient = sum(basis.values_of_derivative(basis.to_spectral(omega), d).square() for d in "xy")
    enstrophy = (omega * rate).mean()
    expected = (g * omega - nu * gradient - alpha * omega.square()).mean()
    assert float(enstrophy) == pytest.approx(float(expected), rel=1e-11)
    laplacian = basis.laplacian()
    psi = basis.to_grid(-basis.to_spectral(omega) / torch.where(laplacian == 0, 1.0, laplacian))
    energy, expected = (psi * rate).mean(), (psi * g - nu * omega.square() - alpha * psi * omega).mean()
    assert float(energy) == pytest.approx(float(expected), rel=1e-11)


def test_without_viscosity_energy_and_enstrophy_stay() -> None:
    """Up to the error in time, which falls by 2^5 or so with the step."""
    basis = box((24, 24))
    u0 = within(basis, smooth(basis, width=3.0))

    def drift(step: float) -> float:
        after = run(NavierStokes2DSpectral(basis, viscosity=0.0), u0, 1.0, step)
        assert relative(after, u0) > 0.1
        return abs(float(after.square().mean() / u0.square().mean()) - 1)

    assert drift(0.02) < 1e-6
    assert drift(0.02) < drift(0.04) / 12


def test_agrees_with_dop853() -> None:
    """u . grad omega written anew in numpy, in advective form."""
    n, nu, alpha = 18, 0.05, 0.1
    basis = box((n, n))
    omega0, g = smooth(basis, width=3.0), smooth(basis, seed=1)
    kx, ky = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)[None]
    keep = (abs(kx) < n / 3) & (ky < n / 3)
    square = kx**2 + ky**2
    inverse = 1 / np.where(square == 0, 1, square)
    forcing = np.fft.rfft2(g.numpy()) * keep

    def rate(omega: np.ndarray) -> np.ndarray:
        c = np.fft.rfft2(omega)
        inside = c * keep
        field = lambda symbol: np.fft.irfft2(1j * symbol * inside, s=(n, n))  # noqa: E731
        convection = field(ky * inverse) * field(kx) - field(kx * inverse) * field(ky)
        return np.fft.irfft2(forcing - np.fft.rfft2(convection) * keep - (nu * square + alpha) * c, s=(n, n))

    equation = NavierStokes2DSpectral(basis, viscosity=nu, drag=alpha, forcing=g)
    assert relative(run(equation, omega0, 1.0, 2e-3), solve_by_scipy(rate, omega0, 1.0, "DOP853")) < 1e-8


@pytest.mark.parametrize(("scheme", "order"), [("etdrk4", 4), ("etdrk2", 2)])
def test_order_in_time(scheme: str, order: int) -> None:
    basis = box((24, 24))
    equation = NavierStokes2DSpectral.kolmogorov(basis, viscosity=0.05, wavenumber=2)
    assert observed_orders(equation, smooth(basis), 1.0, 0.1, scheme) == pytest.approx(order, abs=0.2)


def test_the_strong_residual_vanishes_with_the_grid() -> None:
    """Rate of the semi-discrete flow in the pointwise equation: what is left is the truncation of space."""
    nu, alpha, pde = 0.05, 0.1, NavierStokesVorticity()

    def residual(n: int) -> float:
        basis = box((n, n))
        at = axes(basis)
        u0 = torch.exp(torch.sin(at["x"]) + torch.cos(at["y"] + 0.3))
        u0, g = u0 - u0.mean(), torch.cos(2 * at["x"])
        equation = NavierStokes2DSpectral(basis, viscosity=nu, drag=alpha, forcing=g)
        omega = run(equation, u0, 0.5, 0.01)
        laplacian = basis.laplacian()
        psi = basis.to_grid(-basis.to_spectral(omega) / torch.where(laplacian == 0, 1.0, laplacian))
        jet = grid_jet(basis, omega - omega.mean(), ("x", "y", "xx", "yy"))
        entries = {name: jet[name] for name in ("", "x", "y", "xx", "yy")}
        entries["t"] = spectral_rate(equation, omega).flatten()
        fields = {"vorticity": Jet(entries), "stream": grid_jet(basis, psi, ("x", "y", "xx", "yy"))}
        names = dict(zip(pde.fields, fields.values(), strict=True))
        p = {
            "viscosity": torch.full((1,), nu, dtype=torch.float64),
            "drag": torch.full((1,), alpha, dtype=torch.float64),
        }
        p["forcing"] = g.flatten()
        found = pde.residual({name: x.flatten() for name, x in at.items()}, names, p)
        assert float(found["stream"].abs().max()) < 1e-11
        return float(found["transport"].square().mean().sqrt())

    coarse, fine = residual(24), residual(72)
    assert 1e-8 < coarse < 1e-2
    assert fine < 1e-10


def test_gradient_through_a_thousand_steps() -> None:
    basis = box((12, 12))
    equation = NavierStokes2DSpectral.kolmogorov(basis, viscosity=0.02, wavenumber=2)
    operator = Evolution(equation, (5.0, 10.0), step=0.01, scheme="etdrk2")
    assert operator.n_steps == 1000
    u0, dm, v = smooth(basis), smooth(basis, seed=1), smooth(basis, (2,), seed=2)
    orders = taylor_orders(operator, u0, dm, range(6, 9))
    assert all(1.8 <= order <= 2.2 for order in orders), orders
    _, tangent = operator.jvp(u0, dm)
    _, gradient = operator.vjp(u0, v)
    left, right = float((tangent * v).sum()), float((gradient * dm).sum())
    assert abs(left - right) < 1e-11 * float(tangent.norm() * v.norm())


def test_refusals() -> None:
    for basis in (box((8, 8), ("x", "z")), box((8, 8, 8)), interval(8, 0.0, 1.0)):
        with pytest.raises(UnsupportedProblemError, match="periodic basis with the axes"):
            NavierStokes2DSpectral(basis)
    basis = box((8, 8))
    with pytest.raises(ConfigError, match="from 1 to 2"):
        NavierStokes2DSpectral.kolmogorov(basis, wavenumber=3)
    operator = Evolution(NavierStokes2DSpectral(basis), (0.1,), unknown=("viscosity",), step=0.1, initial=smooth(basis))
    with pytest.raises(DataError, match="`viscosity` of sample 1"):
        operator(torch.tensor([0.1, -0.1], dtype=torch.float64))
    with pytest.raises(DataError, match="drag"):
        run(NavierStokes2DSpectral(basis, drag=-1.0), smooth(basis), 0.1, 0.1)
