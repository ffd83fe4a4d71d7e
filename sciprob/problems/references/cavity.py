"""The lid-driven cavity by Chebyshev collocation, velocity and pressure coupled, second order in time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import lu_factor, lu_solve
from torch import Tensor

from sciprob.problems.references.chebyshev import (
    Floats,
    chebyshev_nodes,
    differentiation_matrix,
    interpolation_matrix,
)


def solve_cavity(z: Tensor, w: Tensor, points: Tensor, degree: int = 24, steps: int = 100) -> Tensor:
    """u, v, p at points `(n, 3)` of (x, y, t), `(n, 3)`; equations and conditions as in `cavity_conditions`.

    Args:
        z: Density and dynamic viscosity, `(2,)`.
        w: Speed of the lid, `(1,)`.
        points: In [0, 1]^3.
        degree: Polynomial degree of the velocity in each direction.
        steps: Time steps to t = 1.

    The lid's profile has a kink at the upper corners, where the divergence of any field with these
    values jumps; convergence in `degree` is algebraic because of it.
    """
    density, viscosity = (float(value) for value in z.detach().cpu())
    cavity = Cavity(density, viscosity, float(w.reshape(())), degree, steps)
    found = cavity.at(points.detach().cpu().double().numpy())
    return torch.from_numpy(found).to(points.device)


@dataclass(frozen=True)
class Cavity:
    """One run: velocities of degree N at the (N + 1)^2 Chebyshev points, pressure of degree N - 2 at the inner ones.

    Momentum and continuity are collocated at the inner points. Each step is the two-step backward
    formula, with the pressure and friction implicit and convection extrapolated, so that one dense
    factorisation of the Stokes matrix serves all steps; the first step is backward Euler.

    Args:
        density: rho.
        viscosity: mu.
        lid: Speed w of the lid, u(x, 1, t) = w (1 - (2x - 1)^6) t.
        degree: N.
        steps: Time steps to t = 1.
    """

    density: float
    viscosity: float
    lid: float
    degree: int
    steps: int

    @cached_property
    def nodes(self) -> Floats:
        """Chebyshev points of [0, 1], `(N + 1,)`."""
        return chebyshev_nodes(self.degree, 0.0, 1.0)

    @cached_property
    def trajectory(self) -> tuple[Floats, Floats]:
        """Velocities `(steps + 1, 2, N + 1, N + 1)` and inner pressures `(steps + 1, N - 1, N - 1)`, axes x, y."""
        n, inner = self.degree - 1, (slice(1, -1), slice(1, -1))
        d, dt = differentiation_matrix(self.nodes), 1 / self.steps
        velocity = np.zeros((self.steps + 1, 2, n + 2, n + 2))
        pressure = np.zeros((self.steps + 1, n, n))
        profile = self.lid * (1 - (2 * self.nodes - 1) ** 6)
        first, later = (lu_factor(self._stokes_matrix(self.density * c / dt)) for c in (1.0, 1.5))
        convection = [np.zeros((2, n, n)), np.zeros((2, n, n))]
        for k in range(1, self.steps + 1):
            wall = np.zeros((n + 2, n + 2))
            wall[:, -1] = profile * k * dt
            friction = self.viscosity * (d @ (d @ wall) + wall @ (d @ d).T)[inner]
            old = velocity[k - 1] if k == 1 else 2 * velocity[k - 1] - 0.5 * velocity[k - 2]
            moved = convection[1] if k == 1 else 2 * convection[1] - convection[0]
            force = self.density * (old[:, 1:-1, 1:-1] / dt - moved)
            force[0] += friction
            flux = -(d @ wall)[inner].ravel()
            flux[0] = 0.0  # this row fixes the pressure's constant instead
            right = np.concatenate([force.ravel(), flux])
            solved = lu_solve(first if k == 1 else later, right).reshape(3, n, n)
            velocity[k, 0] = wall
            velocity[k, :, 1:-1, 1:-1] = solved[:2]
            pressure[k] = solved[2]
            convection = [convection[1], self._convection(velocity[k], d)]
        return velocity, pressure

    def _convection(self, velocity: Floats, d: Floats) -> Floats:
        """(u . grad) of both components at the inner points."""
        u, v = velocity
        found = np.stack([u * (d @ component) + v * (component @ d.T) for component in (u, v)])
        return found[:, 1:-1, 1:-1]

    def _stokes_matrix(self, mass: float) -> Floats:
        """Rows: momentum in x and y, continuity; columns: inner u, v, p, `(3 (N - 1)^2)^2`."""
        d = differentiation_matrix(self.nodes)
        eye, second, slope = np.eye(self.degree - 1), (d @ d)[1:-1, 1:-1], d[1:-1, 1:-1]
        laplacian = np.kron(second, eye) + np.kron(eye, second)
        momentum = mass * np.eye(len(laplacian)) - self.viscosity * laplacian
        gradient = differentiation_matrix(self.nodes[1:-1])
        px, py = np.kron(gradient, eye), np.kron(eye, gradient)
        dx, dy, zero = np.kron(slope, eye), np.kron(eye, slope), np.zeros_like(laplacian)
        matrix = np.block([[momentum, zero, px], [zero, momentum, py], [dx, dy, zero]])
        row = 2 * len(laplacian)
        corner = interpolation_matrix(self.nodes[1:-1], np.zeros(1))
        matrix[row] = 0.0
        matrix[row, row:] = np.kron(corner, corner)  # p(0, 0) = 0
        return matrix

    def at(self, points: Floats) -> Floats:
        """u, v, p at points `(n, 3)`, `(n, 3)`: polynomials in space, cubic ones through four steps in time."""
        velocity, pressure = self.trajectory
        start = np.clip(np.floor(points[:, 2] * self.steps).astype(int) - 1, 0, self.steps - 3)
        found = np.empty((len(points), 3))
        for k in np.unique(start):
            here = start == k
            lagrange = interpolation_matrix(np.arange(4.0), points[here, 2] * self.steps - k)
            for nodes, block, where in (
                (self.nodes, velocity[k : k + 4], slice(0, 2)),
                (self.nodes[1:-1], pressure[k : k + 4, None], slice(2, 3)),
            ):
                x, y = (interpolation_matrix(nodes, points[here, axis]) for axis in (0, 1))
                in_space = np.einsum("ni,scij,nj->nsc", x, block, y, optimize=True)
                found[here, where] = np.einsum("ns,nsc->nc", lagrange, in_space)
        return found
