"""Small Gaussian processes with functionals, and the prior standard deviation of their rows."""

from __future__ import annotations

import torch

from sciprob.pde.functionals import Functionals, ScatteredPoints, TensorPoints
from sciprob.priors.kernels import GaussianMixture, Matern, StudentMixture


def line(a: float, b: float, n: int) -> torch.Tensor:
    return torch.linspace(a, b, n, dtype=torch.float64)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def gaussian(frequency: float = 1.0, length: float = 0.7) -> GaussianMixture:
    return GaussianMixture([1.0, 0.5], [0.0, frequency], [0.5 / length**2] * 2)


def student(frequency: float = 1.0) -> StudentMixture:
    return StudentMixture([1.0, 0.5], [0.0, frequency], [1.5, 1.0])


def matern() -> Matern:
    return Matern(0.8, 2.5, 1.3)


def functional(name, coordinates, points, terms, std=1e-3, batch=(), seed=0) -> Functionals:
    """Rows with random values, which any Gaussian process can be conditioned on."""
    g = torch.Generator().manual_seed(seed)
    terms = {key: c if isinstance(c, torch.Tensor) else number(c) for key, c in terms.items()}
    values = torch.randn(*batch, *points.shape, generator=g, dtype=torch.float64)
    std = std if isinstance(std, torch.Tensor) else number(std)
    return Functionals(name, coordinates, points, terms, values, std)


def poisson_2d(shape=(8, 9), std=1e-3, batch=()) -> list[Functionals]:
    """Laplace u on a grid of unequal sides, Dirichlet data on two of them, Neumann on one, and three sensors."""
    x, y = line(0, 1, shape[0]), line(-0.5, 1, shape[1])
    xy = ("x", "y")
    sensors = torch.tensor([[0.31, 0.2], [0.77, -0.11], [0.5, 0.93]], dtype=torch.float64)
    return [
        functional("poisson", xy, TensorPoints((x, y)), {"xx": 1.0, "yy": 1.0}, 10 * std, batch, 1),
        functional("left", xy, TensorPoints((x[:1], y)), {"": 1.0}, std, batch, 2),
        functional("top", xy, TensorPoints((x, y[-1:])), {"y": 1.0, "": 0.3}, std, batch, 3),
        functional("sensors", xy, ScatteredPoints(sensors), {"": 1.0}, std, batch, 4),
    ]


def advection(shape=(8, 9), std=1e-3, batch=()) -> list[Functionals]:
    """u_t + 3 u_x on a grid, initial and inflow data."""
    x, t = line(0, 1, shape[0]), line(0, 0.5, shape[1])
    xt = ("x", "t")
    return [
        functional("advection", xt, TensorPoints((x, t)), {"t": 1.0, "x": 3.0}, 3 * std, batch, 1),
        functional("initial", xt, TensorPoints((x, t[:1])), {"": 1.0}, std, batch, 2),
        functional("inflow", xt, TensorPoints((x[:1], t)), {"": 1.0}, std, batch, 3),
    ]


def variable_2d(shape=(7, 8), std=1e-3, batch=()) -> list[Functionals]:
    """Coefficients of low rank, of full rank, mixed derivatives, and noise that varies."""
    x, y = line(0, 1, shape[0]), line(0, 1, shape[1])
    xy = ("x", "y")
    g = torch.Generator().manual_seed(9)
    rough = torch.randn(*shape, generator=g, dtype=torch.float64)
    low = 1 + x[:, None] * y.cos() + x.square()[:, None] * y
    noise = std * (1 + x[:, None] + y)
    return [
        functional("full", xy, TensorPoints((x, y)), {"xx": 1.0, "yy": low, "": rough}, 10 * noise, batch, 1),
        functional("low", xy, TensorPoints((x, y)), {"xy": low, "x": x[:, None], "": y}, 10 * std, batch, 2),
        functional("right", xy, TensorPoints((x[-1:], y)), {"": 1.0, "x": y}, std * (1 + y), batch, 3),
    ]


def poisson_3d(shape=(4, 5, 3), std=1e-3, batch=()) -> list[Functionals]:
    """Laplace u, and data on two faces."""
    x, y, z = line(0, 1, shape[0]), line(0, 0.8, shape[1]), line(0, 0.6, shape[2])
    xyz = ("x", "y", "z")
    terms = {"xx": 1.0, "yy": 1.0 + x[:, None, None] * z, "zz": 2.0}
    return [
        functional("poisson", xyz, TensorPoints((x, y, z)), terms, 10 * std, batch, 1),
        functional("left", xyz, TensorPoints((x[:1], y, z)), {"": 1.0}, std, batch, 2),
        functional("top", xyz, TensorPoints((x, y, z[-1:])), {"z": 1.0}, std, batch, 3),
    ]
