r"""The solution of one member, refined by its own residual: nonlinear least squares in the network's tangents.

With g = du / dtheta and theta ~ N(theta*, S), fields u + g S^{1/2} V a are sought, V the leading directions of the
field's variance, a ~ N(0, I):

    a = argmin |L^{-1/2} r(u + g S^{1/2} V a)|^2 + |a|^2,   cov(a) = (I + A^T L^{-1} A)^{-1},   A = dr / da,

r the residual at M points; L as in `linearised_error`. It is a spectral method whose basis the family's training
has made. No reference solution is used.

The solution takes the first eighth of the directions; what the others would add estimates its error. If errors fall
by the same factor q each time the directions are doubled, then |e| (1 - q^3) is added by all of them, and
|e| q^2 (1 - q) by the last half; both together give |e|.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.laplace import Directions
from sciprob.solvers.rgnp.linearised_error import member_points, residual_noise
from sciprob.solvers.rgnp.network import PointNetwork
from sciprob.solvers.rgnp.tangent_space import TangentSpace

_USED = 8  # one in so many directions
_STEPS = 6
_SHORTEST = 1 / 16  # of a Gauss-Newton step
_SLOWEST = 0.9  # factor by which errors fall, where the expansion hardly converges
_WORTHWHILE = 1e-3  # relative decrease of the objective, below which a step was the last


@dataclass(frozen=True)
class Refinement:
    """What is added to the field of one member, along the leading directions.

    Args:
        coefficients: a `(k,)`, of the first eighth of the directions; the others are zero.
        root: R `(k, k)` with R R^T the covariance of all of them, once the first eighth has seen the residual.
        beyond: What all directions together would add to a, `(k,)`.
        last: What all of them add to the solution with the first half, `(k,)`: how fast the expansion converges.
    """

    coefficients: Tensor
    root: Tensor
    beyond: Tensor
    last: Tensor


def extrapolated(beyond: Tensor, last: Tensor) -> Tensor:
    """The size of the error from those of `beyond` and `last`, elementwise."""
    s = (last / beyond.clamp_min(torch.finfo(beyond.dtype).tiny)).clamp_max(1 / 3)
    q = ((s + (s * (4 - 3 * s)).sqrt()) / (2 * (1 - s))).clamp_max(_SLOWEST)
    return beyond / (1 - q**3)


def refine(family: ProblemFamily, network: PointNetwork, directions: Directions, z: Tensor, w: Tensor) -> Refinement:
    """By Gauss-Newton steps that never raise the objective, for z `(dz,)` and w `(dw,)`, float64."""
    space = TangentSpace.of(family, network, directions, member_points(family).to(z), z, w)
    a = z.new_zeros(space.leading.shape[-1])
    residuals, slopes = space.residuals(a)
    noise = residual_noise(*(torch.einsum("mqe,mek->mqk", slopes, part) for part in (space.leading, space.rest)))
    objective = _objective(residuals, noise, a)
    for _ in range(_STEPS):
        system = _System.of(space, residuals, slopes, noise)
        step, length = system.minimiser(a) - a, 1.0
        while length >= _SHORTEST:
            trial = a + length * step
            found = space.residuals(trial)
            if (value := _objective(found[0], noise, trial)) < objective:
                break
            length /= 2
        else:
            break
        a, (residuals, slopes), before, objective = trial, found, objective, value
        if before - objective < _WORTHWHILE * before:
            break
    system = _System.of(space, residuals, slopes, noise)
    k = max(1, len(a) // _USED)
    used, half = (torch.nn.functional.pad(system.minimiser(a, j), (0, len(a) - j)) for j in (k, len(a) - len(a) // 2))
    root = torch.eye(len(a), dtype=a.dtype, device=a.device)
    root[:k, :k] = torch.linalg.solve_triangular(system.factor(k).mT, root[:k, :k], upper=True)
    return Refinement(used, root, a - used, a - half)


def _objective(residuals: Tensor, noise: Tensor, a: Tensor) -> float:
    value = float((residuals / noise).square().sum() + a.square().sum())
    return value if value == value else float("inf")


@dataclass(frozen=True)
class _System:
    """The least squares that are linearised at one a: rows A / noise `(n, k)`, and r / noise `(n,)`."""

    rows: Tensor
    misfit: Tensor

    @classmethod
    def of(cls, space: TangentSpace, residuals: Tensor, slopes: Tensor, noise: Tensor) -> _System:
        rows = torch.einsum("mqe,mek->mqk", slopes, space.leading) / noise.unsqueeze(-1)
        return cls(rows.flatten(0, 1), (residuals / noise).flatten())

    def factor(self, k: int | None = None) -> Tensor:
        """Cholesky factor of the precision of the first k coefficients."""
        rows = self.rows[:, :k]
        gram = rows.mT @ rows
        gram.diagonal().add_(1.0)
        factor: Tensor = torch.linalg.cholesky(gram)
        return factor

    def minimiser(self, a: Tensor, k: int | None = None) -> Tensor:
        """The best first k coefficients, where the others are zero."""
        right = self.rows[:, :k].mT @ (self.rows @ a - self.misfit)
        return torch.cholesky_solve(right.unsqueeze(-1), self.factor(k)).squeeze(-1)
