"""Phi functions against forty digits, also where they cancel, and the order conditions of the schemes."""

from __future__ import annotations

import math
from itertools import pairwise

import mpmath
import pytest
import torch
from torch import Tensor

from sciprob.engines.spectral.phi import phi_functions
from sciprob.engines.spectral.schemes import ETDRK2, ETDRK4, IMEX
from sciprob.errors import ConfigError

MAGNITUDES = [0.0, 1e-12, 1e-8, 1e-5, 1e-3, 0.03, 0.3, 0.9, 0.999999, 1.0, 1.000001, 1.5, 4.0, 30.0, 700.0, 1e6]


def exact(z: complex, k: int) -> complex:
    """phi_k by its integral-free recurrence in 60 digits, or the series at 0."""
    with mpmath.workdps(60):
        w = mpmath.mpc(z)
        if abs(w) < mpmath.mpf("1e-3"):
            return complex(mpmath.nsum(lambda j: w**j / mpmath.factorial(j + k), [0, 20]))
        value = mpmath.exp(w)
        for j in range(k):
            value = (value - 1 / mpmath.factorial(j)) / w
        return complex(value)


@pytest.mark.parametrize("direction", [-1.0, 1j, -1j, complex(-0.6, 0.8)])
def test_against_many_digits(direction: complex) -> None:
    zs = [m * direction for m in MAGNITUDES]
    argument = torch.tensor(zs, dtype=torch.complex128)
    if direction == -1.0:
        argument = argument.real
    for k, value in enumerate(phi_functions(argument, 3)):
        assert value.is_complex() == argument.is_complex()
        for z, found in zip(zs, value.tolist(), strict=True):
            expected = exact(z, k)
            assert abs(found - expected) <= 2e-15 * (1 + abs(z)) * abs(expected) + 4e-16, (k, z)


def test_growth() -> None:
    found = phi_functions(torch.tensor([3.0, 20.0], dtype=torch.float64), 3)
    for k in range(4):
        expected = torch.tensor([exact(z, k).real for z in (3.0, 20.0)], dtype=torch.float64)
        torch.testing.assert_close(found[k], expected, rtol=1e-14, atol=0)


def test_derivatives_are_finite_and_right() -> None:
    z = torch.tensor([0.0, -1e-9, -0.5, -1.0, -3.0, -200.0], dtype=torch.float64, requires_grad=True)
    for k in (1, 2, 3):
        (found,) = torch.autograd.grad(phi_functions(z, 3)[k].sum(), z)
        # phi_k' = phi_k - k phi_{k+1}, of which phi_4 is by the recurrence and its limit at 0
        phi = phi_functions(z.detach(), 4)
        torch.testing.assert_close(found, phi[k] - k * phi[k + 1], rtol=1e-12, atol=1e-14)


def scalar(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("scheme", [ETDRK2(), ETDRK4()])
def test_exponential_schemes_are_exact_for_constant_forcing(scheme: ETDRK2 | ETDRK4) -> None:
    symbol, h, forcing = scalar([-1e4, -3.0, -1e-3, 0.0, 0.5]), 0.7, 2.0
    u = scalar([1.0, 2.0, -1.0, 0.5, 3.0])
    found = scheme.step(u, 0.0, h, lambda u, t: torch.full_like(u, forcing), scheme.coefficients(symbol, h))
    exact_value = (h * symbol).exp() * u + forcing * torch.where(
        symbol == 0, h, torch.expm1(h * symbol) / torch.where(symbol == 0, 1.0, symbol)
    )
    torch.testing.assert_close(found, exact_value, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("scheme", "order"), [(ETDRK2(), 2), (ETDRK4(), 4), (IMEX(), 2)])
def test_order_with_forcing_in_time(scheme: ETDRK2 | ETDRK4 | IMEX, order: int) -> None:
    """u' = -u + u^2 cos t + ..., forced so that u = sin t + 2: time enters N at the stages' own times."""
    symbol = scalar([-1.0])

    def nonlinear(u: Tensor, t: float) -> Tensor:
        s = math.sin(t) + 2
        return (u * u - s * s) * math.cos(t) + math.cos(t) + s

    errors = []
    for n in (20, 40, 80):
        h = 1.0 / n
        u, c = scalar([2.0]), scheme.coefficients(symbol, h)
        for i in range(n):
            u = scheme.step(u, i * h, h, nonlinear, c)
        errors.append(abs(float(u) - math.sin(1.0) - 2))
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(abs(found - order) <= 0.2 for found in orders), orders


def test_imex_damps_stiff_modes() -> None:
    """L-stability: the amplification of a mode without N vanishes as z -> -infinity."""
    scheme = IMEX()
    c = scheme.coefficients(scalar([-1e2, -1e4, -1e8]), 1.0)
    factor = scheme.step(scalar([1.0, 1.0, 1.0]), 0.0, 1.0, lambda u, t: torch.zeros_like(u), c)
    assert bool((factor.abs() <= scalar([0.1, 1e-3, 1e-7])).all()), factor


def test_unknown_schemes_are_refused() -> None:
    from sciprob.engines.spectral.schemes import scheme_named

    with pytest.raises(ConfigError, match="'etdrk4'"):
        scheme_named("rk45")
