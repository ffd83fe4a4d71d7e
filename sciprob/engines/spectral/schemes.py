"""One-step schemes for u_t = L u + N(u, t) with diagonal L."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from sciprob.engines.spectral.phi import phi_functions
from sciprob.errors import ConfigError

Nonlinear = Callable[[Tensor, float], Tensor]


class Scheme(Protocol):
    """A one-step scheme: coefficients depend on L and h only and are computed once for many steps.

    `step` is made of operations that autograd records. `step_` does the same in place with fewer
    passes over memory, which take longer than the FFTs; there all tensors are real views
    `(..., 2)` of complex coefficients where the scheme's coefficients are real (see `in_place`).
    """

    order: int

    def coefficients(self, symbol: Tensor, h: float) -> tuple[Tensor, ...]:
        """What multiplies coefficients of the state, from L `(B or 1, ..., *spectral_shape)` and the step."""
        ...

    def step(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> Tensor:
        """The state at t + h."""
        ...

    def step_(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> None:
        """Replace the state by that at t + h."""
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

    def step_(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> None:
        """Replace the state by that at t + h."""
        u.mul_(c[0])


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

    def step_(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> None:
        """Replace the state by that at t + h."""
        e, first, second = c
        n = nonlinear(u, t)
        u.mul_(e).addcmul_(first, n)
        u.addcmul_(second, nonlinear(u, t + h) - n)


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

    def step_(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> None:
        """Replace the state by that at t + h."""
        e, half, q, outer, inner, final = c
        n = nonlinear(u, t)
        half_u = half * u
        a = torch.addcmul(half_u, q, n)
        na = nonlinear(a, t + h / 2)
        nb = nonlinear(half_u.addcmul_(q, na), t + h / 2)
        nc = nonlinear(a.mul_(half).addcmul_(q, nb, value=2).addcmul_(q, n, value=-1), t + h)
        u.mul_(e).addcmul_(outer, n).addcmul_(inner, na).addcmul_(inner, nb).addcmul_(final, nc)


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

    def step_(self, u: Tensor, t: float, h: float, nonlinear: Nonlinear, c: Sequence[Tensor]) -> None:
        """Replace the state by that at t + h."""
        inverse, explicit, implicit, first, second = c
        n = nonlinear(u, t)
        u.mul_(inverse)
        a = torch.addcmul(u, explicit, n)
        u.addcmul_(first, n).addcmul_(second, nonlinear(a, t + self.gamma * h)).addcmul_(implicit, a)


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


def in_place(nonlinear: Nonlinear, c: Sequence[Tensor]) -> tuple[Callable[[Tensor], Tensor], Nonlinear, list[Tensor]]:
    """What `step_` works on: a view of the state, the nonlinear term and the coefficients in that view.

    Complex times real costs a third of complex times complex, once real coefficients are doubled
    to act on real and imaginary parts.
    """
    if any(x.is_complex() for x in c):
        return lambda u: u, nonlinear, list(c)
    doubled = [torch.stack([x, x], dim=-1) for x in c]
    real, whole = torch.view_as_real, torch.view_as_complex
    return real, lambda u, t: real(nonlinear(whole(u), t)), doubled
