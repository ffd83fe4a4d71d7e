"""Reference posteriors of `rgnp.py`: the true operators, and methods without any surrogate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciprob.problems.family import ParameterBox
from sciprob.problems.references.burgers import solve_burgers
from sciprob.problems.references.chebyshev import Floats, chebyshev_nodes, differentiation_matrix, interpolation_matrix


@dataclass(frozen=True)
class Marginals:
    """Mean, standard deviation, central 90 % interval of each parameter, `(d,)` each."""

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, members: Tensor, weights: Tensor | None = None) -> Marginals:
        """Of weighted members `(n, d)`."""
        weights = torch.full((len(members),), 1 / len(members)).to(members) if weights is None else weights
        mean = weights @ members
        std = (weights @ (members - mean).square()).sqrt()
        ends = []
        for column in members.unbind(-1):
            order = column.argsort()
            total = weights[order].cumsum(0) - weights[order] / 2
            ends.append(np.interp((0.05, 0.95), total.numpy(), column[order].numpy()))
        low, high = torch.from_numpy(np.array(ends)).unbind(-1)
        return cls(mean, std, low, high)


class PoissonChains:
    """u at points for many z at once, by the collocation of the reference with fewer nodes, warm-started.

    Args:
        points: `(n, 1)`.
        forcing: w.
        degree: 48 nodes: errors of 1e-9 in the median, 1e-6 at worst, far below the noise.
    """

    def __init__(self, points: Tensor, forcing: float, degree: int = 48) -> None:
        self.nodes, self.forcing = chebyshev_nodes(degree), forcing
        self.d = differentiation_matrix(self.nodes)
        self.read = interpolation_matrix(self.nodes, points[:, 0].numpy())
        self.chebyshev = np.polynomial.chebyshev.chebvander(self.nodes, 4)

    def start(self, n: int) -> Floats:
        """Solutions for z = 0, `(n, nodes)`."""
        return np.tile(self.forcing * (1 - self.nodes**2) / (2 * (np.log(2) + 0.1)), (n, 1))

    def solve(self, z: Floats, u: Floats) -> tuple[Floats, Floats]:
        """Solutions `(n, nodes)` from a guess, and whether each converged."""
        s, d, step = z @ self.chebyshev.T, self.d, np.full(len(z), np.inf)
        for _ in range(12):
            slope, kappa = u @ d.T, np.logaddexp(0, u * s) + 0.1
            residual = -((kappa * slope) @ d.T) - self.forcing
            change = s / (1 + np.exp(-np.clip(u * s, -500, 500)))
            inner = kappa[:, :, None] * d + (change * slope)[:, :, None] * np.eye(len(d))
            jacobian = -(d @ inner)[:, 1:-1, 1:-1]
            move = np.linalg.solve(jacobian, residual[:, 1:-1, None])[..., 0]
            u = u.copy()
            u[:, 1:-1] -= np.clip(move, -2, 2)
            step = np.abs(move).max(axis=1)
            if step.max() < 1e-9:
                break
        return u, step < 1e-6


def poisson_posterior(
    box: ParameterBox, points: Tensor, y: Tensor, sigma: float, forcing: float, *, steps: int = 1000, chains: int = 50
) -> Marginals:
    """Differential-evolution chains (ter Braak 2006) on the true operator; started at the best of many draws."""
    rng, operator = np.random.default_rng(0), PoissonChains(points, forcing)
    lower, upper = np.array(box.lower), np.array(box.upper)
    data = y.numpy()

    def log_likelihood(u: Floats, good: Floats) -> Floats:
        return np.where(good, -0.5 * (((u @ operator.read.T) - data) ** 2).sum(1) / sigma**2, -np.inf)

    many = rng.uniform(lower, upper, (40 * chains, box.size))
    solved = [operator.solve(part, operator.start(len(part))) for part in np.split(many, 40)]
    u, good = (np.concatenate(parts) for parts in zip(*solved, strict=True))
    best = np.argsort(log_likelihood(u, good))[-chains:]
    z, u, current, kept = many[best], u[best], log_likelihood(u[best], good[best]), []
    for k in range(steps):
        first, second = (rng.permutation(chains) for _ in range(2))
        gamma = 1.0 if k % 10 == 9 else 2.38 / np.sqrt(2 * box.size)
        proposed = z + gamma * (z[first] - z[second]) + 1e-3 * rng.standard_normal(z.shape)
        inside = ((proposed >= lower) & (proposed <= upper)).all(axis=1)
        candidate, good = operator.solve(np.where(inside[:, None], proposed, z), u)
        found = log_likelihood(candidate, good & inside)
        accepted = np.log(rng.uniform(size=chains)) < found - current
        z, u = np.where(accepted[:, None], proposed, z), np.where(accepted[:, None], candidate, u)
        current = np.where(accepted, found, current)
        if k >= steps // 4:
            kept.append(z.copy())
    return Marginals.of(torch.from_numpy(np.concatenate(kept)))


def burgers_posterior(
    box: ParameterBox, points: Tensor, y: Tensor, sigma: float, frequency: float, nodes: int = 41
) -> Marginals:
    """Both parameters on a grid about the mode, along the axes of the curvature there: no sampling error."""
    w = torch.tensor([frequency], dtype=torch.float64)
    lower, upper = box.ends(points)

    def misfit(z: Tensor) -> Tensor:
        return (solve_burgers(z, w, points)[:, 0] - y) / sigma

    coarse = lower + (upper - lower) * torch.cartesian_prod(*[torch.linspace(0.02, 0.98, 12, dtype=torch.float64)] * 2)
    mode = min(coarse, key=lambda z: float(misfit(z).square().sum()))
    for _ in range(30):
        slope = torch.autograd.functional.jacobian(misfit, mode)
        curvature = slope.mT @ slope + torch.diag(12 / (upper - lower).square())
        step, best = torch.linalg.solve(curvature, slope.mT @ misfit(mode)), misfit(mode).square().sum()
        trials = [torch.clamp(mode - 0.5**k * step, lower, upper) for k in range(8)]
        better = next((z for z in trials if misfit(z).square().sum() < best), mode)
        if torch.equal(better, mode):
            break
        mode = better
    values, axes = torch.linalg.eigh(curvature)
    unit = torch.cartesian_prod(*[torch.linspace(-6, 6, nodes, dtype=torch.float64)] * 2)
    z = mode + unit * values.rsqrt() @ axes.mT
    z = z[((z >= lower) & (z <= upper)).all(-1)]
    logs = torch.stack([-0.5 * misfit(one).square().sum() for one in z])
    return Marginals.of(z, torch.softmax(logs, 0))
