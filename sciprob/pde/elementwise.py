"""Derivatives of elementwise functions up to any order, in closed form.

Each function takes `(u, k)` and returns `[f(u), f'(u), ..., f^(k)(u)]`; None stands for zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

Derivatives = list[Tensor | None]


def by_forward_mode(function: Callable[[Tensor], Tensor], u: Tensor, order: int) -> Derivatives:
    """Any elementwise function, by nested `torch.func.jvp`."""
    found: Derivatives = []
    for _ in range(order + 1):
        found.append(function(u))
        function = _slope(function)
    return found


def _slope(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def slope(u: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(function, (u,), (torch.ones_like(u),))[1]
        return tangent

    return slope


def power(u: Tensor, exponent: int | float, order: int) -> Derivatives:
    """`u^p`; from the p-th on the derivatives of a natural power vanish, also at zero."""
    found: Derivatives = []
    factor: int | float = 1
    for k in range(order + 1):
        found.append(factor * u ** (exponent - k) if factor else None)
        factor *= exponent - k
    return found


def exp(u: Tensor, order: int) -> Derivatives:
    """Its own derivative."""
    return [torch.exp(u)] * (order + 1)


def log(u: Tensor, order: int) -> Derivatives:
    """`log(u)`; the k-th derivative is `(-1)^(k-1) (k-1)! u^-k`."""
    return [torch.log(u), *((-1) ** (k - 1) * math.factorial(k - 1) * u**-k for k in range(1, order + 1))]


def sin(u: Tensor, order: int) -> Derivatives:
    """Four derivatives repeat."""
    s, c = torch.sin(u), torch.cos(u)
    return [(s, c, -s, -c)[k % 4] for k in range(order + 1)]


def cos(u: Tensor, order: int) -> Derivatives:
    """The derivatives of the sine from the first on."""
    return sin(u, order + 1)[1:]


def sinh(u: Tensor, order: int) -> Derivatives:
    """Two derivatives alternate."""
    pair = torch.sinh(u), torch.cosh(u)
    return [pair[k % 2] for k in range(order + 1)]


def cosh(u: Tensor, order: int) -> Derivatives:
    """The derivatives of the hyperbolic sine from the first on."""
    return sinh(u, order + 1)[1:]


def tanh(u: Tensor, order: int) -> Derivatives:
    """Polynomials in the value r and s = r' = 1 - r^2."""
    r = torch.tanh(u)
    return [r, *_two_functions(r, torch.addcmul(r.new_ones(()), r, r, value=-1), (1, -2, 1), order)]


def sigmoid(u: Tensor, order: int) -> Derivatives:
    """With s = f' = f - f^2 and r = 1 - 2 f."""
    f = torch.sigmoid(u)
    return [f, *_two_functions(1 - 2 * f, torch.addcmul(f, f, f, value=-1), (-2, 1, 4), order)]


def softplus(u: Tensor, order: int) -> Derivatives:
    """`log(1 + exp(u))`, whose derivative is the sigmoid."""
    value = torch.logaddexp(u, torch.zeros_like(u))
    return [value, *sigmoid(u, order - 1)] if order else [value]


def silu(u: Tensor, order: int) -> Derivatives:
    """`u sigmoid(u)`."""
    return _times_argument(u, sigmoid(u, order))


def gelu(u: Tensor, order: int) -> Derivatives:
    """`u Phi(u)` with the normal distribution function."""
    return _times_argument(u, _normal(u, order))


Rule = tuple[int, int, int]


def _two_functions(r: Tensor, s: Tensor, rule: Rule, order: int) -> Derivatives:
    """S and its derivatives, for r' = a s, s' = b r s, r^2 = 1 - c s: P(s) and r P(s) in turn, few passes each."""
    found: Derivatives = []
    for k in range(order):
        value = _horner(_polynomial(rule, k), s)
        found.append(r * value if k % 2 else value)
    return found


@lru_cache(maxsize=256)
def _polynomial(rule: Rule, k: int) -> tuple[int, ...]:
    """Coefficients of s, s^2, ... in the k-th derivative of s, without the factor r of odd k."""
    if k == 0:
        return (1,)
    a, b, c = rule
    p = _polynomial(rule, k - 1)
    scaled = [b * (i + 1) * q for i, q in enumerate(p)]  # b s P'
    if k % 2:
        return tuple(scaled)
    # From r P to a s P + b (1 - c s) s P'.
    return tuple(x + a * q - c * y for x, q, y in zip([*scaled, 0], [0, *p], [0, *scaled], strict=True))


def _horner(polynomial: Sequence[int], s: Tensor) -> Tensor:
    """`(p_1 + p_2 s + ...) s`, one pass a coefficient."""
    *rest, last = polynomial
    if not rest:
        return s if last == 1 else last * s
    value = torch.add(s.new_tensor(rest[-1]), s, alpha=last)
    for coefficient in rest[-2::-1]:
        value = torch.addcmul(s.new_tensor(coefficient), value, s)
    return value * s


def _times_argument(u: Tensor, factor: Derivatives) -> Derivatives:
    """Derivatives of `u g(u)`: `u g^(k) + k g^(k-1)`."""
    g = [item for item in factor if item is not None]
    return [u * g[0], *(u * g[k] + k * g[k - 1] for k in range(1, len(g)))]


def _normal(u: Tensor, order: int) -> Derivatives:
    """The normal distribution function; its derivatives are `(-1)^k He_k(u)` times the density."""
    found: Derivatives = [torch.special.ndtr(u)]
    density = torch.exp(-0.5 * u * u) / math.sqrt(2 * math.pi)
    previous, current = torch.zeros_like(u), torch.ones_like(u)
    for k in range(order):
        found.append((-1) ** k * current * density)
        previous, current = current, u * current - k * previous
    return found
