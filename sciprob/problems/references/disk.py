"""A nonlinear Poisson equation on the unit disk, in closed form by the Kirchhoff transformation."""

from __future__ import annotations

from torch import Tensor


def solve_disk(z: Tensor, w: Tensor, points: Tensor) -> Tensor:
    """The solution of -div((1 + b u^2) grad u) = f (1 + p x + q y), u = 0 for r = 1, at points `(n, 2)`, `(n, 1)`.

    U = u + b u^3 / 3 solves -Laplace U = f (1 + p x + q y), which is a polynomial:
    U = f (1 - r^2) (1/4 + (p x + q y) / 8), and the cubic has one real root.

    Args:
        z: b, p, q, `(3,)`, b >= 0.
        w: f, `(1,)`.
        points: In the unit disk.
    """
    b, p, q = z.detach().double()
    x, y = points.detach().double().unbind(-1)
    potential = w.double() * (1 - x.square() - y.square()) * (1 / 4 + (p * x + q * y) / 8)
    u: Tensor = potential.clone()
    for _ in range(60):  # Newton's method; the left side is increasing and convex for u > 0, odd
        u = u - (u + b * u**3 / 3 - potential) / (1 + b * u.square())
    return u[:, None]
