"""The nonlinear Poisson equation on (-1, 1) by Chebyshev collocation and Newton's method."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.problems.references.chebyshev import Floats, chebyshev_nodes, differentiation_matrix, values_at

DEGREE = 96


def solve_poisson(z: Tensor, w: Tensor, points: Tensor) -> Tensor:
    """The solution of `NonlinearPoisson` with u(-1) = u(1) = 0 at points `(n, 1)`, `(n, 1)`.

    Args:
        z: Coefficients of s = sum_i z_i T_i, `(k,)`.
        w: Forcing, `(1,)`.
        points: Positions in [-1, 1].

    Raises:
        ConvergenceError: If Newton's method fails; it does not inside the box |z_i| <= 1, 1 <= w <= 2.
    """
    nodes, values = collocate_poisson(z.detach().cpu().double().numpy(), float(w.reshape(())))
    found = values_at(nodes, values, points[:, 0].detach().cpu().double().numpy())
    return torch.from_numpy(found)[:, None].to(points.device)


def collocate_poisson(z: Floats, forcing: float, degree: int = DEGREE) -> tuple[Floats, Floats]:
    """Nodes and values of the collocation polynomial, `(degree + 1,)` each.

    Newton's method from z = 0, whose solution is a parabola, along t z for t from 0 to 1; where a step
    fails it is halved.
    """
    nodes, derivative = _operators(degree)
    s = np.asarray(np.polynomial.chebyshev.chebval(nodes, z), dtype=np.float64)
    u = forcing * (1 - nodes**2) / (2 * (np.log(2) + 0.1))
    reached, step = 0.0, 1.0
    while reached < 1:
        candidate = _newton(u, min(reached + step, 1.0) * s, forcing, derivative)
        if candidate is not None:
            u, reached = candidate, min(reached + step, 1.0)
        elif step < 1e-3:
            message = f"Newton's method for the Poisson reference stopped at {reached:.3g} z for z = {z.tolist()}."
            raise ConvergenceError(message)
        else:
            step /= 2
    return nodes, u


@cache
def _operators(degree: int) -> tuple[Floats, Floats]:
    nodes = chebyshev_nodes(degree)
    return nodes, differentiation_matrix(nodes)


def _newton(u: Floats, s: Floats, forcing: float, derivative: Floats) -> Floats | None:
    """The root of the collocated residual near u, or None."""
    inner = slice(1, -1)
    for _ in range(40):
        slope, kappa = derivative @ u, np.logaddexp(0, u * s) + 0.1
        residual = -(derivative @ (kappa * slope)) - forcing
        change_of_kappa = s / (1 + np.exp(-np.clip(u * s, -500, 500)))
        jacobian = -derivative @ (np.diag(change_of_kappa * slope) + kappa[:, None] * derivative)
        step = np.zeros_like(u)
        step[inner] = np.linalg.solve(jacobian[inner, inner], residual[inner])
        u = u - step
        size = np.abs(step).max()
        if not np.isfinite(size) or size > 100:
            return None
        if size < 1e-10 * np.abs(u).max():  # quadratic: what is left is rounding
            return u
    return None
