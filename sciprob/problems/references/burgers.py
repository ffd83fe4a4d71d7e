"""Burgers' equation with a standing initial wave, exactly by the Cole-Hopf transformation and quadrature."""

from __future__ import annotations

import math

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

QUADRATURE = 80  # nodes between two kinks of the potential
_DROP = 40.0  # what is e^-40 of the largest value counts as zero
_BLOCK = 2**22


def solve_burgers(z: Tensor, w: Tensor, points: Tensor, quadrature: int = QUADRATURE) -> Tensor:
    """The wave u at points `(n, 2)` of (x, t), `(n, 1)` of u_t + a u u_x = nu u_xx with u(0, t) = u(1, t) = 0.

    u(x, 0) = sin(2 pi w x) sin(pi x). The odd extension of period 2 turns the walls into symmetries, and v = a u is

        v(x, t) = int (x - y) / t  E dy / int E dy,   E = exp(-(x - y)^2 / (4 nu t) - Psi(y) / (2 nu)),

    with Psi the integral of v_0 from 0, in closed form. Integrals are Gauss-Legendre between the kinks of
    Psi, which are the integers; the integrand is positive, so that ratios are as accurate where it is tiny.
    Differentiable in z.

    Args:
        z: nu and a, `(2,)`.
        w: Frequency, `(1,)`.
        points: In [0, 1] x [0, inf).
        quadrature: Nodes between two kinks.

    Source: Cole (1951), Hopf (1950).
    """
    nu, advection = z.cpu().double()
    frequency = float(w.reshape(()))
    x, t = points.detach().cpu().double().unbind(-1)
    u: Tensor = initial_wave(x, frequency) + 0 * nu
    later = (t > 0).nonzero()[:, 0]
    for chosen in later.split(max(1, _BLOCK // (10 * quadrature))) if len(later) else ():
        found = _velocity(x[chosen], t[chosen], nu, advection, frequency, quadrature) / advection
        u = u.index_put((chosen,), found)
    return u[:, None].to(points.device)


def initial_wave(x: Tensor, frequency: float) -> Tensor:
    """sin(2 pi w x) sin(pi x)."""
    wave: Tensor = torch.sin(2 * math.pi * frequency * x) * torch.sin(math.pi * x)
    return wave


def _potential(y: Tensor, frequency: float) -> Tensor:
    """Psi / a, even and of period 2: the integral of sin(2 pi w y) sin(pi y) on [0, 1], folded."""
    y = (torch.remainder(y + 1, 2) - 1).abs()
    slow, fast = math.pi * (2 * frequency - 1), math.pi * (2 * frequency + 1)
    first = y * torch.special.sinc(slow * y / math.pi)  # sin(slow y) / slow, also for slow = 0
    potential: Tensor = (first - torch.sin(fast * y) / fast) / 2
    return potential


def _velocity(x: Tensor, t: Tensor, nu: Tensor, advection: Tensor, frequency: float, quadrature: int) -> Tensor:
    """The transformed velocity v at points `(n,)`, t > 0."""
    shape = _potential(torch.linspace(0, 1, 1001, dtype=x.dtype), frequency)
    spread = (shape.max() - shape.min()) * advection.detach() / (2 * nu.detach())
    reach = torch.sqrt(4 * nu.detach() * t * (_DROP + spread))
    low, high = x - reach, x + reach
    kinks = torch.arange(math.floor(float(low.min())), math.ceil(float(high.max())) + 1, dtype=x.dtype)
    ends = torch.minimum(torch.maximum(kinks, low[:, None]), high[:, None])  # panels outside the reach are empty
    nodes, weights = (torch.from_numpy(part) for part in leggauss(quadrature))
    half = ends.diff(dim=-1)[..., None] / 2
    y = (ends[:, :-1, None] + half * (1 + nodes)).flatten(1)
    weight = (half * weights).flatten(1)
    distance = x[:, None] - y
    exponent = -distance.square() / (4 * nu * t[:, None]) - advection * _potential(y, frequency) / (2 * nu)
    masses = weight * torch.exp(exponent - exponent.detach().amax(dim=-1, keepdim=True))
    found: Tensor = (masses * distance).sum(-1) / (t * masses.sum(-1))
    return found
