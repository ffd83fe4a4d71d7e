"""Small manufactured problems for the spectral-mixture solver."""

from __future__ import annotations

import math

import torch

import sciprob
from sciprob.pde.helmholtz import Laplace, StationaryAllenCahn
from sciprob.pde.manufactured import Manufactured
from sciprob.pde.side_conditions import SideCondition
from sciprob.problems.collocation_problem import collocation_problem
from sciprob.solvers.kronecker_gp.solver import SpectralMixtureGP


def waves(x):
    """Three incommensurate scales; in units of the interval [0, 1.3]."""
    return torch.sin(31 * x + 0.4) + 0.2 * torch.cos(70 * x) + 0.5 * x


def sides(coordinates):
    return [SideCondition.dirichlet(f"{axis}_{end}") for axis in coordinates for end in ("lower", "upper")]


def collocation(exact=waves, points=(140,), lower=(0.0,), upper=(1.3,), pde=None, parameters=None):
    pde = pde or Laplace("xyz"[: len(points)])
    known = Manufactured(pde, lambda x: exact(*(x[a] for a in pde.coordinates)), parameters or {})
    return known.collocation(lower, upper, points, sides(pde.coordinates))


def problem(exact=waves, truth=False, **more):
    c = collocation(exact, **more)
    u = exact(*c.points().columns(c.coordinates).values()).reshape(c.shape) if truth else None
    return collocation_problem("test", c, truth=u)


def allen_cahn(exact, points=(120,), upper=(1.0,), reaction=1.0):
    pde = StationaryAllenCahn("xyz"[: len(points)])
    lower = (0.0,) * len(points)
    return collocation(exact, points, lower, upper, pde, {"reaction": reaction})


def solved(given, **settings):
    return sciprob.solve(given, SpectralMixtureGP(**settings), progress=False, device="cpu")


def error(posterior, exact, count=997):
    """Relative L2 error on a line between the nodes."""
    low, high = posterior.space.lower[0], posterior.space.upper[0]
    x = torch.linspace(low, high, count, dtype=torch.float64)
    truth = exact(x)
    return float((posterior.at(x[:, None]).mean - truth).norm() / truth.norm())


def cycles(omega):
    return omega / (2 * math.pi)
