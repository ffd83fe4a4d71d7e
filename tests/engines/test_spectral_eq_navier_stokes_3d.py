"""Navier-Stokes in a box: Beltrami flow, divergence, energy, plane flow as a special case, projection."""

from __future__ import annotations

import math

import pytest
import torch
from spectral_eq_cases import axes, box, observed_orders, relative, run, smooth
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.engines.spectral.equations.navier_stokes_3d import NavierStokes3DSpectral
from sciprob.errors import DataError, UnsupportedProblemError
from sciprob.pde.grid_jets import spectral_rate
from sciprob.testing import OperatorConformance

AXES = ("x", "y", "z")


def abc(basis: SpectralBasis) -> Tensor:
    """Arnold, Beltrami and Childress' flow, which is its own curl."""
    x, y, z = (axes(basis)[axis] for axis in AXES)
    a, b, c = 1.0, 0.7, 0.4
    return torch.stack(
        [
            a * torch.sin(z) + c * torch.cos(y),
            b * torch.sin(x) + a * torch.cos(z),
            c * torch.sin(y) + b * torch.cos(x),
        ]
    )


def swirl(basis: SpectralBasis, seed: int = 0, width: float = 2.0) -> Tensor:
    """Random velocity without divergence."""
    equation = NavierStokes3DSpectral(basis)
    u_hat = basis.to_spectral(smooth(basis, (3,), seed, width)) * basis.dealias()
    return basis.to_grid(equation.project_hat(u_hat))


def divergence(basis: SpectralBasis, u: Tensor) -> Tensor:
    u_hat = basis.to_spectral(u)
    return sum(basis.values_of_derivative(u_hat[..., i, :, :, :], axis) for i, axis in enumerate(AXES))


class TestInitial(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        basis = box((6, 7, 6), ("z", "y", "x"))
        force = 0.5 * swirl(basis, seed=1)
        equation = NavierStokes3DSpectral(basis, viscosity=0.05, drag=0.1, forcing=force)
        return Evolution(equation, (0.2, 0.4), step=0.1), swirl(basis)


class TestForcing(OperatorConformance):
    def make(self) -> tuple[Evolution, Tensor]:
        basis = box((6, 6, 6))
        equation = NavierStokes3DSpectral(basis, viscosity=0.05)
        operator = Evolution(equation, (0.4,), unknown=("forcing",), step=0.1, initial=swirl(basis))
        return operator, smooth(basis, (3,), seed=1)


@pytest.mark.parametrize(("shape", "dims"), [((9, 10, 12), AXES), ((10, 9, 8), ("z", "y", "x"))])
def test_beltrami_flow_decays(shape: tuple[int, ...], dims: tuple[str, ...]) -> None:
    basis = box(shape, dims)
    u0, nu, alpha = abc(basis), 0.1, 0.05
    after = run(NavierStokes3DSpectral(basis, viscosity=nu, drag=alpha), u0, 2.0, 0.1)
    assert float((after - u0 * math.exp(-2 * (nu + alpha))).abs().max()) < 1e-10


def test_the_divergence_stays_zero() -> None:
    basis = box((12, 12, 12))
    equation = NavierStokes3DSpectral(basis, viscosity=0.02, forcing=smooth(basis, (3,), seed=1))
    after = run(equation, swirl(basis), 1.0, 0.05)
    assert float(divergence(basis, after).abs().max()) < 1e-13
    assert relative(after, swirl(basis)) > 0.1


def test_energy_balance() -> None:
    """d/dt |u|^2/2 = f . u - nu |grad u|^2 - alpha |u|^2 in the mean; convection and pressure give nothing."""
    basis = box((12, 10, 11))
    nu, alpha = 0.03, 0.2
    u, f = swirl(basis, width=4.0), smooth(basis, (3,), seed=1)
    equation = NavierStokes3DSpectral(basis, viscosity=nu, drag=alpha, forcing=f)
    gradient = sum(basis.values_of_derivative(basis.to_spectral(u), d).square() for d in AXES)
    found = (u * spectral_rate(equation, u)).sum(0).mean()
    expected = (f * u - nu * gradient - alpha * u.square()).sum(0).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-11)


def test_convection_is_u_grad_u() -> None:
    basis = box((12, 12, 12))
    equation = NavierStokes3DSpectral(basis, viscosity=0.0)
    u = swirl(basis, width=2.0)
    u_hat = basis.to_spectral(u)
    advection = torch.stack(
        [sum(u[j] * basis.values_of_derivative(u_hat[i], AXES[j]) for j in range(3)) for i in range(3)]
    )
    expected = equation.project_hat(-basis.to_spectral(advection) * basis.dealias())
    assert relative(spectral_rate(equation, u), basis.to_grid(expected)) < 1e-12


def test_plane_flow_is_the_vorticity_equation() -> None:
    """A velocity (u, v, 0) that does not depend on z, by the other equation."""
    plane, basis = box((16, 16)), box((16, 16, 4))
    flat = NavierStokes2DSpectral(plane, viscosity=0.05, drag=0.1)
    omega = plane.to_grid(plane.to_spectral(smooth(plane)) * plane.dealias())

    def lift(w: Tensor) -> Tensor:
        u, v = flat.velocity(plane.to_spectral(w)).unbind(-3)
        return torch.stack([u, v, 0 * u]).unsqueeze(-1).expand(3, *basis.grid.shape)

    after = run(NavierStokes3DSpectral(basis, viscosity=0.05, drag=0.1), lift(omega), 1.0, 0.02)
    assert relative(after, lift(run(flat, omega, 1.0, 0.02))) < 1e-10


def test_order_in_time() -> None:
    basis = box((10, 10, 10))
    equation = NavierStokes3DSpectral(basis, viscosity=0.1)
    assert observed_orders(equation, 0.5 * swirl(basis), 0.8, 0.2, "etdrk4") == pytest.approx(4, abs=0.2)


def test_the_projection_is_orthogonal() -> None:
    basis = box((7, 9, 5))
    equation = NavierStokes3DSpectral(basis)
    u = smooth(basis, (2, 3), width=9.0)
    p = equation.project(u)
    assert relative(equation.project(p), p) < 1e-14
    assert float(divergence(basis, p).abs().max()) < 1e-12
    assert float((p * (u - p)).sum().abs()) < 1e-12 * float(u.square().sum())
    assert relative(p, u) > 0.1


def test_refusals() -> None:
    with pytest.raises(UnsupportedProblemError, match="axes"):
        NavierStokes3DSpectral(box((8, 8)))
    basis = box((6, 6, 6))
    with pytest.raises(DataError, match="viscosity"):
        run(NavierStokes3DSpectral(basis, viscosity=-0.1), swirl(basis), 0.1, 0.1)
