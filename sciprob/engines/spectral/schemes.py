"""One-step schemes for u_t = L u + N(u, t) with diagonal L."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from sciprob.engines.spectral.phi import phi_functions
from sciprob.errors import ConfigError

Nonlinear = Callable[[Tensor, float], Tensor]


class Scheme(Protocol):
    """A one-step scheme: coefficients depend on L and h only and are computed once for many steps."""

    order: int

    def coefficients(self, symbol: Tensor, h: float) -> tuple[Tensor, ...]:
        """What multiplies coefficients of the state, from L `(B or 1, ..., *spectral_shape)` and the step."""
        ...

    def step(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> Tensor:
        """The state at t + h."""
        ...


class Exponential:
    """Without N: u(t + h) = exp(h L) u(t), exact."""

    order = 1

    def coefficients(self, symbol: Tensor, h: float) -> tuple[Tensor, ...]:
        """exp(h L)."""
        return ((h * symbol).exp(),)

    def step(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> Tensor:
        """The state at t + h."""
        return u * c[0]


class ETDRK2:
    """Second-order exponential Runge-Kutta of Cox and Matthews, J. Comput. Phys. 176 (2002), eq. (22).

    a = e^z u + h phi_1 N(u),  u(t + h) = a + h phi_2 (N(a) - N(u)),  z = h L.
    """

    order = 2

    def coefficients(self, symbol: Tensor, h: float) -> tuple[Tensor, ...]:
        """e^z, h phi_1, h phi_2."""
        e, phi1, phi2 = phi_functions(h * symbol, 2)
        return e, h * phi1, h * phi2

    def step(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> Tensor:
        """The state at t + h."""
        e, first, second = c
        n = nonlinear(u, t)
        a = e * u + first * n
        return a + second * (nonlinear(a, t + h) - n)


class ETDRK4:
    """Fourth-order exponential Runge-Kutta of Cox and Matthews, J. Comput. Phys. 176 (2002), eqs. (26)-(29).

    The weights phi_1 - 3 phi_2 + 4 phi_3, 2 phi_2 - 4 phi_3 and 4 phi_3 - phi_2 come from stable
    phi functions, which is what the contour integrals of Kassam and Trefethen (2005) are for.
    """

    order = 4

    def coefficients(self, symbol: Tensor, h: float) -> tuple[Tensor, ...]:
        """e^z, e^{z/2}, (h/2) phi_1(z/2), and h times the three weights."""
        e, phi1, phi2, phi3 = phi_functions(h * symbol, 3)
        half, half_phi1 = phi_functions(h / 2 * symbol, 1)
        outer, inner, final = phi1 - 3 * phi2 + 4 * phi3, 2 * phi2 - 4 * phi3, 4 * phi3 - phi2
        return e, half, h / 2 * half_phi1, h * outer, h * inner, h * final

    def step(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> Tensor:
        """The state at t + h."""
        e, half, q, outer, inner, final = c
        n = nonlinear(u, t)
        half_u = half * u
        a = half_u + q * n
        na = nonlinear(a, t + h / 2)
        nb = nonlinear(half_u + q * na, t + h / 2)
        nc = nonlinear(half * a + q * (2 * nb - n), t + h)
        return e * u + outer * n + inner * (na + nb) + final * nc


class IMEX:
    """Implicit-explicit Runge-Kutta ARS(2,2,2): L-stable in L, second order, self-starting.

    (1 - g z) a = u + g h N(u),  (1 - g z) u(t + h) = u + (1 - g) z a + h (d N(u) + (1 - d) N(a)),
    g = 1 - 1/sqrt(2), d = 1 - 1/(2 g), z = h L.

    Source: Ascher, Ruuth and Spiteri, Appl. Numer. Math. 25 (1997), section 2.6.
    """

    order = 2
    gamma = 1 - 1 / math.sqrt(2)

    def coefficients(self, symbol: Tensor, h: float) -> tuple[Tensor, ...]:
        """1 / (1 - g z), and the products of it with the other weights."""
        g = self.gamma
        d = 1 - 1 / (2 * g)
        z = h * symbol
        inverse = 1 / (1 - g * z)
        return inverse, g * h * inverse, (1 - g) * z * inverse, d * h * inverse, (1 - d) * h * inverse

    def step(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> Tensor:
        """The state at t + h."""
        inverse, explicit, implicit, first, second = c
        n = nonlinear(u, t)
        a = inverse * u + explicit * n
        return inverse * u + implicit * a + first * n + second * nonlinear(a, t + self.gamma * h)


SCHEMES: dict[str, Callable[[], Scheme]] = {"etdrk4": ETDRK4, "etdrk2": ETDRK2, "imex": IMEX}


def scheme_named(name: str) -> Scheme:
    """A scheme by name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in SCHEMES:
        message = f"`scheme` should be one of {sorted(SCHEMES)}, got {name!r}."
        raise ConfigError(message)
    return SCHEMES[name]()
