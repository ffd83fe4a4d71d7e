"""Stationary diffusion: linear with a conductivity field, and nonlinear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.pde.coordinates import coordinate_jets
from sciprob.pde.jet import Jet, as_jet
from sciprob.pde.pde import PDE, Fields, Parameters, Points, Residuals, SpatialPDE, value_of


@dataclass(frozen=True)
class Poisson(SpatialPDE):
    """-div(kappa grad u) - f = 0, linear.

    Parameters: `conductivity` kappa, by default 1: a jet with first derivatives where it varies (as
    `torch.exp` of the jet of a log-conductivity), else constant; `forcing` f.

    Args:
        space: Axes, `"x"`, `"xy"` or `"xyz"`.

    Raises:
        ConfigError: For other axes.
        UnsupportedProblemError: On use, if the conductivity varies over the points and is not a jet.
    """

    equations: ClassVar[tuple[str, ...]] = ("poisson",)
    parameters: ClassVar[tuple[str, ...]] = ("conductivity", "forcing")
    defaults: ClassVar[Mapping[str, float]] = {"conductivity": 1.0}
    linear: ClassVar[bool] = True
    differentiated: ClassVar[tuple[str, ...]] = ("conductivity",)
    space: str = "xy"

    @property
    def fields(self) -> Mapping[str, tuple[str, ...]]:
        """The potential."""
        return {"u": (*self.space, *self.second)}

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        return {"poisson": -divergence_of_flux(p["conductivity"], u["u"], self.space) - value_of(p["forcing"])}


def divergence_of_flux(conductivity: Tensor | Jet, u: Jet, space: str) -> Tensor:
    """div(kappa grad u) along the axes `space`.

    Raises:
        UnsupportedProblemError: If the conductivity varies over the points and is not a jet.
    """
    if isinstance(conductivity, Tensor) and conductivity.ndim and conductivity.shape[-1] != 1:
        message = (
            f"`conductivity` varies over points, {tuple(conductivity.shape)}, so its gradient counts; give a jet "
            "with first derivatives, or (*batch, 1) if it is constant."
        )
        raise UnsupportedProblemError(message)
    kappa = as_jet(conductivity, u)
    terms = [kappa.value * u[2 * axis] + kappa[axis] * u[axis] for axis in space]
    return sum(terms[1:], start=terms[0])


@dataclass(frozen=True)
class NonlinearPoisson(PDE):
    """-(kappa(u, x) u')' - w = 0 on (-1, 1), kappa = log(1 + exp(u s(x))) + 0.1, s = sum_i z_i T_i(x).

    T_i are Chebyshev polynomials, by recurrence. Parameters: `z0` ... `z4`, `forcing` w. For z = 0 and
    u(-1) = u(1) = 0 the solution is w (1 - x^2) / (2 (log 2 + 0.1)).

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x",)
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"u": ("x", "xx")}
    equations: ClassVar[tuple[str, ...]] = ("poisson",)
    parameters: ClassVar[tuple[str, ...]] = ("z0", "z1", "z2", "z3", "z4", "forcing")

    def conductivity(self, x: Points, u: Jet, p: Parameters) -> Jet:
        """The jet of kappa(u(x), x), up to the first derivative."""
        position = coordinate_jets(x, ("x",))["x"]
        polynomials = [Jet.constant(position.zero + 1), position]
        for _ in range(3):
            polynomials.append(2 * position * polynomials[-1] - polynomials[-2])
        s = polynomials[0] * value_of(p["z0"])
        for i, polynomial in enumerate(polynomials[1:], start=1):
            s = s + polynomial * value_of(p[f"z{i}"])
        return _softplus(u * s) + 0.1

    def residual(self, x: Points, u: Fields, p: Parameters) -> Residuals:
        """See the class."""
        flux = self.conductivity(x, u["u"], p) * u["u"].derivative("x")
        return {"poisson": -flux["x"] - value_of(p["forcing"])}


def _softplus(u: Jet) -> Jet:
    softplus: Jet = torch.nn.functional.softplus(u)  # type: ignore[arg-type, assignment]
    return softplus
