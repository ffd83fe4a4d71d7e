"""Burgers: orders in time, accuracy in space and a shock, against the formula of Cole and Hopf and a published run."""

from __future__ import annotations

import math
import os
from itertools import pairwise
from pathlib import Path

import pytest
import scipy.io
import scipy.special
import torch
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.burgers import BurgersSpectral
from sciprob.engines.spectral.equations.burgers_2d import Burgers2DSpectral
from sciprob.spaces import GridSpace
from sciprob.testing.checks import loglog_fit

NU = 0.05
DATA = Path(os.environ.get("SCIPROB_DATA") or Path(__file__).parents[3] / "shared" / "data" / "pde_reference")


def cole_hopf(x: Tensor, t: float, k: float, amplitude: float = 1.0, nu: float = NU) -> Tensor:
    """Solution from u_0 = amplitude sin(k x): u = -2 nu (log phi)_x, phi = sum of Bessel functions times cosines."""
    j = torch.arange(1, 80, dtype=torch.float64)
    z = amplitude / (2 * nu * k)
    weight = 2 * torch.as_tensor(scipy.special.ive(j.numpy(), z)) * torch.exp(-nu * (j * k) ** 2 * t)
    phi = float(scipy.special.ive(0, z)) + (weight * torch.cos(j * k * x[:, None])).sum(-1)
    return 2 * nu * (weight * j * k * torch.sin(j * k * x[:, None])).sum(-1) / phi


def make(n: int, boundary: str) -> tuple[SpectralBasis, float]:
    """A basis on (0, 1) and the wavenumber of one period, or of half a period between walls."""
    centring = "periodic" if boundary == "periodic" else "cell"
    grid = GridSpace((n,), name="u", dims=("x",), lower=(0.0,), upper=(1.0,), centring=centring)
    return SpectralBasis(grid, boundary), (2 if boundary == "periodic" else 1) * math.pi


def test_the_reference_solves_the_equation() -> None:
    """Central differences in time and space, of fourth order, so that a slip in the formula shows."""
    x, k, h = torch.linspace(0.05, 0.95, 19, dtype=torch.float64), 2 * math.pi, 1e-3

    def difference(f: list[Tensor]) -> Tensor:
        return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)

    shifts = (-2, -1, 1, 2)
    u_t = difference([cole_hopf(x, 0.3 + s * h, k) for s in shifts])
    u_x = difference([cole_hopf(x + s * h, 0.3, k) for s in shifts])
    u = cole_hopf(x, 0.3, k)
    second = [cole_hopf(x + s * h, 0.3, k) for s in shifts]
    u_xx = (-second[0] + 16 * second[1] - 30 * u + 16 * second[2] - second[3]) / (12 * h * h)
    torch.testing.assert_close(u_t + u * u_x, NU * u_xx, rtol=0, atol=1e-7)
    torch.testing.assert_close(cole_hopf(x, 0.0, k), torch.sin(k * x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet"])
@pytest.mark.parametrize(
    ("scheme", "order", "counts"),
    [
        ("etdrk4", 4.0, (32, 48, 64, 96)),
        ("etdrk2", 2.0, (64, 96, 128, 192)),
        ("imex", 2.0, (64, 96, 128, 192)),
    ],
)
def test_order_in_time(boundary: str, scheme: str, order: float, counts: tuple[int, ...]) -> None:
    basis, k = make(72, boundary)
    x = basis.grid.axis(0)
    errors = []
    for n in counts:
        operator = Evolution(BurgersSpectral(basis, viscosity=NU), [0.25, 0.5], step=0.5 / n, scheme=scheme)
        assert operator.n_steps == n
        exact = torch.stack([cole_hopf(x, t, k) for t in (0.25, 0.5)])
        errors.append(float((operator(torch.sin(k * x)) - exact).norm() / exact.norm()))
    found, misfit = loglog_fit([0.5 / n for n in counts], errors)
    assert abs(found - order) <= 0.2, (found, errors)
    assert misfit <= 0.1


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet"])
@pytest.mark.parametrize("odd", [0, 1])
def test_accuracy_in_space_is_spectral(boundary: str, odd: int) -> None:
    """Each doubling of the grid squares the error, about; no power of the spacing does that."""
    errors = []
    for n in (12, 24, 48):
        basis, k = make(n + odd, boundary)
        x = basis.grid.axis(0)
        exact = cole_hopf(x, 0.3, k)
        found = Evolution(BurgersSpectral(basis, viscosity=NU), [0.3], step=1e-3)(torch.sin(k * x))[0]
        errors.append(float((found - exact).abs().max()))
    assert all(fine <= 10 * coarse**1.8 for coarse, fine in pairwise(errors)), errors
    assert errors[-1] <= 1e-6


def test_single_precision_keeps_its_digits() -> None:
    basis, k = make(64, "periodic")
    x = basis.grid.axis(0)
    operator = Evolution(BurgersSpectral(basis, viscosity=NU), [0.5], step=1e-3)
    found = operator(torch.sin(k * x).float())[0]
    assert found.dtype == torch.float32
    assert float((found.double() - cole_hopf(x, 0.5, k)).abs().max()) <= 5e-6  # 500 steps of 6e-8


@pytest.mark.parametrize("dims", [("y", "x"), ("x", "y")])
def test_plane_waves_of_the_vector_equation(dims: tuple[str, str]) -> None:
    """A gradient u = n w(n . x, t) moves as w does on the line, with |n|^2 times the viscosity and speed."""
    grid = GridSpace((36, 40), name="u", dims=dims, lower=(0.0, 0.0), upper=(1.0, 1.0), centring="periodic")
    equation = Burgers2DSpectral(SpectralBasis(grid), viscosity=NU)
    axes = dict(zip(dims, torch.meshgrid(grid.axis(0), grid.axis(1), indexing="ij"), strict=True))
    s, t = axes["x"] - axes["y"], 0.15  # n = (1, -1): w_t + 2 w w_s = 2 nu w_ss, so that 2 w solves Burgers with 2 nu

    def exact(t: float) -> Tensor:
        w = cole_hopf(s.reshape(-1), t, 2 * math.pi, amplitude=1.2, nu=2 * NU).reshape(s.shape) / 2
        return torch.stack([w, -w])

    found = Evolution(equation, [t], step=2e-3)(exact(0.0))[0]
    torch.testing.assert_close(found, exact(t), rtol=0, atol=2e-6)


def test_turning_the_plane_turns_the_solution() -> None:
    """Exchange of x and y with the components; not a gradient, so that the rotation counts."""
    generator = torch.Generator().manual_seed(0)
    grid = GridSpace((16, 16), name="u", dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 1.0), centring="periodic")
    basis = SpectralBasis(grid)
    smoothing = torch.exp(0.004 * basis.laplacian())
    u0 = basis.to_grid(basis.to_spectral(torch.randn(2, 16, 16, generator=generator, dtype=torch.float64)) * smoothing)
    operator = Evolution(Burgers2DSpectral(basis, viscosity=0.02), [0.2], step=0.01)
    turned = operator(u0.flip(0).transpose(-1, -2)).flip(1).transpose(-1, -2)
    torch.testing.assert_close(turned, operator(u0), rtol=0, atol=1e-13)


def test_the_vector_equation_in_advective_form() -> None:
    """The nonlinear term of smooth fields equals -(u . grad) u by derivatives on the grid."""
    grid = GridSpace((24, 30), name="u", dims=("y", "x"), lower=(0.0, 0.0), upper=(1.0, 2.0), centring="periodic")
    basis = SpectralBasis(grid)
    y, x = torch.meshgrid(grid.axis(0), grid.axis(1), indexing="ij")
    u = torch.stack(
        [torch.sin(math.pi * x) * torch.cos(2 * math.pi * y), torch.cos(math.pi * x) + torch.sin(4 * math.pi * y)]
    )
    u_hat = basis.to_spectral(u)[None]
    found = basis.to_grid(Burgers2DSpectral(basis).nonlinear(u_hat, 0.0, {}))[0]
    gradients = [basis.values_of_derivative(u_hat, dim)[0] for dim in ("x", "y")]
    torch.testing.assert_close(found, -(u[0] * gradients[0] + u[1] * gradients[1]), rtol=0, atol=1e-11)


def test_a_published_shock() -> None:
    """nu = 0.01 / pi, u_0 = -sin(pi x) on (-1, 1): a shock of width 0.006 at the origin."""
    path = DATA / "burgers_shock.mat"
    if not path.exists():
        pytest.skip(f"no reference solution at {path}; set SCIPROB_DATA")
    data = scipy.io.loadmat(path)
    points, times = torch.as_tensor(data["x"]).reshape(-1), torch.as_tensor(data["t"]).reshape(-1)
    expected = torch.as_tensor(data["usol"]).T  # (times, points)
    n = 1024
    grid = GridSpace((n,), name="u", dims=("x",), lower=(-1.0,), upper=(1.0,), centring="cell")
    equation = BurgersSpectral(SpectralBasis(grid, "dirichlet"), viscosity=0.01 / math.pi)
    operator = Evolution(equation, times.tolist(), step=2e-3)
    found = operator(-torch.sin(math.pi * grid.axis(0)))
    modes = torch.arange(1, n, dtype=torch.float64) * math.pi / 2
    series = 2 / n * found @ torch.sin(modes * (grid.axis(0)[:, None] + 1))
    at_points = series @ torch.sin(modes * (points[:, None] + 1)).T
    error = float((at_points - expected).norm() / expected.norm())
    assert error < 1e-3, error
