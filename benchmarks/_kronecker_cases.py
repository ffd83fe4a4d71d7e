"""The problems of `kronecker_gp.py`: exact solutions, from which every method gets its source and boundary data.

The first eleven are those of Fang et al., ICLR 2024; the others have frequencies, periods and coefficients that are
drawn at random. An exact solution is a torch function, differentiated by autograd, so no method here depends on the
derivatives of another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, cos, sin

PI2 = 2 * math.pi
Exact = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One equation with one exact solution.

    `equation` is `poisson` (Delta u = f), `allen-cahn` (Delta u + u (u^2 - 1) = f) or `advection`
    (u_t + speed u_x = 0, data at t = 0 and at the inflow x = 0 alone).
    """

    name: str
    equation: str
    exact: Exact
    upper: float  # the domain is [0, upper] along each axis
    nodes: int  # along each axis
    largest: float  # the frequency F of the published initialisation, in cycles
    dims: int = 1
    speed: float = 0.0
    bound: float = math.inf  # largest relative error that the package promises

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the axes."""
        return ("x", "t") if self.equation == "advection" else ("x", "y", "z")[: self.dims]

    def values(self, *x: np.ndarray) -> np.ndarray:
        """The exact solution on a tensor grid."""
        return self.exact(*self._mesh(x)).numpy()

    def source(self, *x: np.ndarray) -> np.ndarray:
        """The right-hand side f on a tensor grid."""
        return self.source_at(*self._mesh(x)).numpy()

    def source_at(self, *x: Tensor) -> Tensor:
        """The right-hand side f at points given by one tensor per coordinate."""
        if self.equation == "advection":
            return torch.zeros_like(x[0])
        total = sum(_second(self.exact, list(x), axis) for axis in range(self.dims))
        if self.equation == "allen-cahn":
            u = self.exact(*x)
            total = total + u * (u**2 - 1)
        return total

    def test_lines(self) -> tuple[np.ndarray, ...]:
        """Where errors are taken: much denser than the nodes, and not aligned with them."""
        count = {1: 3001, 2: 601, 3: 101}[self.dims]
        return (np.linspace(0, self.upper, count),) * self.dims

    def random_points(self, count: int) -> Tensor:
        """Points anywhere in the domain, `(count, dims)`."""
        generator = torch.Generator().manual_seed(0)
        return self.upper * torch.rand(count, self.dims, generator=generator, dtype=torch.float64)

    def relative_error(self, u: np.ndarray) -> float:
        """Relative L2 error of values on the test lines."""
        truth = self.values(*self.test_lines())
        return float(np.linalg.norm(u - truth) / np.linalg.norm(truth))

    @staticmethod
    def _mesh(x: tuple[np.ndarray, ...]) -> list[Tensor]:
        return list(torch.meshgrid(*(torch.as_tensor(line) for line in x), indexing="ij"))


def _second(function: Exact, x: list[Tensor], axis: int) -> Tensor:
    """u_xx along one axis, pointwise, by two backward derivatives."""
    with torch.enable_grad():
        line = x[axis].detach().clone().requires_grad_()
        u = function(*x[:axis], line, *x[axis + 1 :])
        slope = torch.autograd.grad(u.sum(), line, create_graph=True)[0]
        return torch.autograd.grad(slope.sum(), line)[0]


def _mixed(x: Tensor) -> Tensor:
    return sin(x) + 0.1 * sin(20 * x) + cos(100 * x)


def paper_cases() -> list[Case]:
    """The eleven problems of the paper, with its domains, nodes and frequency ranges."""
    wave, beat = (lambda x: sin(100 * x)), (lambda x: sin(6 * x) * cos(100 * x))
    return [
        Case("u1: sin 100x", "poisson", wave, PI2, 400, 20, bound=1e-5),
        Case(
            "u2: sin x + .1 sin 20x + .05 sin 100x",
            "poisson",
            lambda x: sin(x) + 0.1 * sin(20 * x) + 0.05 * sin(100 * x),
            1.0,
            900,
            30,
            bound=1e-6,
        ),
        Case("u3: sin 6x cos 100x", "poisson", beat, PI2, 400, 20, bound=1e-5),
        Case("u4: x sin 200x", "poisson", lambda x: x * sin(200 * x), PI2, 900, 50, bound=1e-4),
        Case(
            "u5: sin 500x - 2(x - 1/2)^2",
            "poisson",
            lambda x: sin(500 * x) - 2 * (x - 0.5) ** 2,
            1.0,
            400,
            100,
            bound=5e-4,
        ),
        Case("u6: sin 100x sin 100y", "poisson", lambda x, y: sin(100 * x) * sin(100 * y), PI2, 400, 20, 2, bound=1e-6),
        Case(
            "u7: sin 6x cos 20x + sin 6y cos 20y",
            "poisson",
            lambda x, y: sin(6 * x) * cos(20 * x) + sin(6 * y) * cos(20 * y),
            PI2,
            200,
            20,
            2,
            bound=1e-5,
        ),
        Case("AC: sin 100x", "allen-cahn", wave, PI2, 400, 20, bound=1e-5),
        Case("AC: sin 6x cos 100x", "allen-cahn", beat, PI2, 400, 20, bound=1e-6),
        Case("AC 2-D: product of sums", "allen-cahn", lambda x, y: _mixed(x) * _mixed(y), 1.0, 400, 30, 2, bound=1e-5),
        Case(
            "advection: sin(x - 200t)", "advection", lambda x, t: sin(x - 200 * t), 1.0, 200, 40, 2, 200.0, bound=1e-6
        ),
    ]


def random_cases(seed: int, count: int) -> list[Case]:
    """Poisson problems on a period of random length: two incommensurate waves, a random phase and a parabola."""
    generator = np.random.default_rng(seed)
    cases = []
    for index in range(count):
        upper = float(generator.uniform(0.7, 6.0))
        waves = np.sort(generator.uniform(5.0, 85.0, 2)) * PI2 / upper  # at most 85 waves on 400 nodes
        a, phase, bend = generator.uniform(0.05, 1.0), generator.uniform(0, PI2), generator.uniform(-2, 2)
        low, high, a, phase, bend = map(float, (*waves, a, phase, bend))

        def exact(x: Tensor, low=low, high=high, a=a, phase=phase, bend=bend) -> Tensor:
            return sin(low * x) + a * sin(high * x + phase) + bend * x**2

        name = f"random {index}: {low:.4g}, {high:.4g} on [0, {upper:.3g}]"
        cases.append(Case(name, "poisson", exact, upper, 400, 90 / upper, bound=1e-4))
    return cases


def cube_case(nodes: int) -> Case:
    """A Poisson problem on the unit cube with two frequencies per axis."""

    def exact(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return sin(30 * x) * sin(20 * y) * cos(25 * z) + 0.5 * sin(3 * x + 0.4) * cos(2 * y) * sin(4 * z)

    return Case(f"3-D Poisson, {nodes}^3", "poisson", exact, 1.0, nodes, 10, 3, bound=1e-4)


def wave_case(nodes: int, waves: int, dims: int) -> Case:
    """`waves` full waves along each axis on [0, 2 pi], plus one slow wave; for the scaling in nodes and rank."""

    def exact(*x: Tensor) -> Tensor:
        total = math.prod([sin(waves * line) for line in x], start=torch.ones(()))
        return total + 0.3 * math.prod([cos(2.3 * line) for line in x], start=torch.ones(()))

    return Case(f"{waves} waves, {nodes}^{dims}", "poisson", exact, PI2, nodes, 1.25 * waves / PI2, dims)
