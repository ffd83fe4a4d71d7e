"""Bases, states and checks that the tests of the spectral equations share."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from sciprob.engines.spectral import Evolution, SpectralBasis, SpectralEquation
from sciprob.spaces import GridSpace

TWO_PI = 2 * math.pi


def interval(n: int, lower: float, upper: float, boundary: str = "periodic") -> SpectralBasis:
    centring = "periodic" if boundary == "periodic" else "cell"
    return SpectralBasis(
        GridSpace((n,), name="u", dims=("x",), lower=(lower,), upper=(upper,), centring=centring), boundary
    )


def box(shape: tuple[int, ...], dims: tuple[str, ...] = ("x", "y", "z"), length: float = TWO_PI) -> SpectralBasis:
    d = len(shape)
    return SpectralBasis(
        GridSpace(shape, name="u", dims=dims[:d], lower=(0.0,) * d, upper=(length,) * d, centring="periodic")
    )


def axes(basis: SpectralBasis) -> dict[str, Tensor]:
    """Coordinate fields by name."""
    grid = basis.grid
    mesh = torch.meshgrid(*(grid.axis(i) for i in range(len(grid.shape))), indexing="ij")
    return dict(zip(grid.dims, mesh, strict=True))


def smooth(basis: SpectralBasis, lead: tuple[int, ...] = (), seed: int = 0, width: float = 2.0) -> Tensor:
    """Random field of mean zero with modes up to about `width`."""
    noise = torch.randn((*lead, *basis.grid.shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    square = -basis.laplacian() * (basis.grid.spacing[0] * basis.extended_shape[0] / TWO_PI) ** 2
    field = basis.to_grid(basis.to_spectral(noise) * torch.exp(-square / width**2) * (square > 0))
    return field / field.square().mean().sqrt()


def run(equation: SpectralEquation, u: Tensor, time: float, step: float, scheme: str = "etdrk4") -> Tensor:
    """The state at `time`."""
    trajectory: Tensor = Evolution(equation, (time,), step=step, scheme=scheme)(u)
    return trajectory.squeeze(-1 - len(equation.state.shape))


def observed_orders(equation: SpectralEquation, u: Tensor, time: float, step: float, scheme: str) -> float:
    """Slope of log error against log step over three halvings, against a run with a step 32 times smaller."""
    reference = run(equation, u, time, step / 32)
    steps = [step / 2**k for k in range(4)]
    errors = [float((run(equation, u, time, h, scheme) - reference).norm()) for h in steps]
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def solve_by_scipy(rate: Callable[[np.ndarray], np.ndarray], u: Tensor, time: float, method: str) -> Tensor:
    """State at `time` of du/dt = rate(u) by an integrator that knows nothing of ours."""
    solution = solve_ivp(
        lambda t, y: rate(y.reshape(u.shape)).ravel(),
        (0.0, time),
        u.numpy().ravel(),
        method=method,
        rtol=1e-11,
        atol=1e-12,
    )
    assert solution.success
    return torch.from_numpy(solution.y[:, -1].reshape(u.shape))


def relative(x: Tensor, reference: Tensor) -> float:
    return float((x - reference).norm() / reference.norm())
