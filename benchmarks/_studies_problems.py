"""Small linear-Gaussian problems with closed-form posteriors, and what solvers need on them."""

from __future__ import annotations

import functools
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciprob import Problem, load_problem
from sciprob.io.mesh import build_mesh
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import DenseMap
from sciprob.pde.collocation import Collocation
from sciprob.pde.collocation_checks import sensor_rows
from sciprob.pde.helmholtz import Laplace
from sciprob.pde.side_conditions import SideCondition
from sciprob.priors import GaussianPrior
from sciprob.priors.kernels import GaussianMixture
from sciprob.problems.collocation_operator import CollocationOperator
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.problems.fractional_problem import path_problem
from sciprob.sde.path_model import PathModel
from sciprob.solvers.setup import make_solver

HURST = 0.3
_PATH_STD = 0.2
_WEIGHTS, _FREQUENCIES, _DECAYS = (1.0, 0.5), (0.0, 2.0), (8.0, 4.0)
_EQUATION_STD, _SIDE_STD, _SENSOR_STD = 2.0, 0.05, 0.1

SETTINGS: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "laplace": {},
    "pcn": {"chains": 4, "samples": 60, "thin": 5, "burn_in": 100},
    "nuts": {"chains": 1, "samples": 90, "warm_up": 90, "target_acceptance": 0.65},
    "diffusion-ensemble": {"particles": 200, "steps": 10},
    "kalman": {},
    "sm-gp": {"kernel": "prior", "null_space": 0},
}
"""Runs of about a second; on these problems chains hardly correlate."""


def problem_of(solver: str, factor: float = 1.0) -> Problem:
    """The problem a solver is tried on, whose solver believes in `factor` times the true noise level."""
    make = {"kalman": path, "sm-gp": rod}.get(solver, poisson)
    right, believed = make(1.0), make(factor)

    def simulator(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if solver == "sm-gp":
            return rod_draw(right, generator)
        truth = right.prior.sample(generator=generator)
        return truth, right.likelihood.sample(truth, generator=generator)

    return replace(believed, simulator=simulator)


def configured(solver: str, **more: Any) -> Any:
    """The solver with its settings here."""
    return make_solver(solver, SETTINGS[solver] | more)


@functools.cache
def _poisson_matrices() -> tuple[GaussianPrior, DenseMap]:
    with tempfile.TemporaryDirectory() as folder:
        mesh = build_mesh("unit_square", size=0.25, out=Path(folder) / "coarse.msh")
        settings = {"engine": "torch", "mesh.inversion": str(mesh), "sensors.count": 20, "prior.length": 0.3}
        fine = load_problem("poisson-source", settings)
    prior: Any = fine.prior
    root = DenseMap(prior.root.to_dense().double(), domain=prior.root.domain, codomain=fine.parameter)
    operator: Any = fine.operator
    matrix = DenseMap(operator.to_dense().double(), domain=fine.parameter, codomain=operator.codomain)
    return GaussianPrior(prior.mean.double(), root), matrix


def poisson(factor: float) -> Problem:
    """`poisson-source` on 30 nodes with 20 sensors; operator and prior as matrices, so that a solve costs little."""
    prior, matrix = _poisson_matrices()
    return Problem("poisson-source", prior, Likelihood(matrix, GaussianNoise(matrix.codomain, 0.01 * factor)))


def path(factor: float) -> Problem:
    """Fractional Brownian motion of H = 0.3 at 12 times of [0, 2], seen at four of them."""
    times = torch.tensor([0.4, 0.9, 1.1, 1.9], dtype=torch.float64)
    model = PathModel(2.0, hurst=HURST, normalisation="unit")
    grid = torch.linspace(0, 2, 9, dtype=torch.float64)
    return path_problem("fractional-path", model, grid, times, None, _PATH_STD * factor)


def rod(factor: float) -> Problem:
    """u_xx = 0 up to errors at 16 points, u = 0 up to errors at the ends, and five noisy sensors."""
    places = torch.tensor([[0.13], [0.31], [0.52], [0.66], [0.9]], dtype=torch.float64)
    sensors = sensor_rows(("x",), places, torch.zeros(5, dtype=torch.float64), _SENSOR_STD * factor)
    ends = tuple(SideCondition.dirichlet(f"x_{end}", std=_SIDE_STD * factor) for end in ("lower", "upper"))
    collocation = Collocation(Laplace("x"), (0.0,), (1.0,), (16,), {}, ends, (sensors,), std=_EQUATION_STD * factor)
    return collocation_problem("rod", collocation, kernels=[GaussianMixture(_WEIGHTS, _FREQUENCIES, _DECAYS)])


def rod_draw(problem: Problem, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A field of the prior on the grid, and its noisy rows."""
    covariance, std = rod_covariance(problem)
    size = math.prod(problem.parameter.shape)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt()
    joint = root @ torch.randn(len(covariance), generator=generator, dtype=torch.float64)
    noise = std * torch.randn(len(std), generator=generator, dtype=torch.float64)
    return joint[:size], joint[size:] + noise


def rod_covariance(problem: Problem) -> tuple[Tensor, Tensor]:
    """Prior covariance of (u on the grid, all rows without errors), from the kernel's formula; std of the errors."""
    operator = problem.operator
    assert isinstance(operator, CollocationOperator)
    rows = operator.functionals(operator.data)
    places, orders, std = [operator.collocation.points().lines[0]], [torch.zeros(16)], []
    for row in rows:
        (name,) = row.terms
        x = row.points.columns(("x",))["x"]
        places.append(x)
        orders.append(torch.full((len(x),), float(len(name))))
        std.append(row.std.expand(len(x)))
    x, order = torch.cat(places), torch.cat(orders).int()
    covariance = torch.empty(len(x), len(x), dtype=torch.float64)
    for p in (0, 2):
        for q in (0, 2):
            block = (-1) ** q * _kernel_derivative(x[order == p, None] - x[None, order == q], p + q)
            covariance[(order == p).nonzero(), (order == q).nonzero().T] = block
    return covariance, torch.cat(std)


def _kernel_derivative(lags: Tensor, order: int) -> Tensor:
    """Derivative of sum_q w_q exp(-a_q tau^2) cos(2 pi mu_q tau), by automatic differentiation."""
    tau = lags.detach().requires_grad_()
    parts = zip(_WEIGHTS, _FREQUENCIES, _DECAYS, strict=True)
    value = torch.stack([w * torch.exp(-a * tau**2) * torch.cos(2 * math.pi * f * tau) for w, f, a in parts]).sum(0)
    for _ in range(order):
        (value,) = torch.autograd.grad(value.sum(), tau, create_graph=True)
    return value.detach()
