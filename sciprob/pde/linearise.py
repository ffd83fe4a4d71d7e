"""The linear part of an equation, as coefficients of derivatives."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.pde.derivative_names import ordered
from sciprob.pde.jet import Jet, Number
from sciprob.pde.pde import PDE, Fields, Points, Residuals

Coefficients = dict[str, dict[str, dict[str, Tensor]]]


def linearised(
    pde: PDE, x: Points, u: Fields, p: Mapping[str, Tensor | Jet | Number] | None = None
) -> tuple[Residuals, Coefficients]:
    """Residual and its derivative at a field: r(u + v) = r(u) + sum_a c_a D^a v + O(v^2).

    For a linear equation the c do not depend on u and the remainder is zero: with u = 0 they are the
    operator, and -r(0) is the source. So Gaussian-process blocks cov(L u, L u) are sums of c_a c_b
    times kernel derivatives, and Gauss-Newton steps of nonlinear equations come from the same call.

    Args:
        pde: The equation.
        x: Coordinates of the points, each `(*batch, n)`.
        u: Jets of the fields at which to linearise.
        p: Parameters, as in `PDE`.

    Returns:
        The residuals, and `c[equation][field][derivative]`, `(*batch, n)` each; derivatives that do not
        occur are left out.
    """
    value = pde(x, u, p)
    coefficients: Coefficients = {name: {field: {} for field in pde.fields} for name in pde.equations}
    for field in pde.fields:
        for derivative in ordered(frozenset((*pde.fields[field], ""))):
            if not u[field].knows(derivative):
                continue
            for name, slope in _slopes(pde, x, u, p, field, derivative).items():
                if bool((slope != 0).any()):
                    coefficients[name][field][derivative] = slope
    return value, coefficients


def _slopes(
    pde: PDE, x: Points, u: Fields, p: Mapping[str, Tensor | Jet | Number] | None, field: str, derivative: str
) -> Residuals:
    """Derivative of all residuals with respect to one entry of one jet: they are pointwise, so one tangent does."""
    jet = u[field]
    entry = jet[derivative].contiguous()  # tangents refuse expanded tensors, as jets of zero have

    def residuals(values: Tensor) -> Residuals:
        changed = jet.with_entries({**jet.entries, derivative: values})
        return pde(x, {**u, field: changed}, p)

    slopes: Residuals = torch.func.jvp(residuals, (entry,), (torch.ones_like(entry),))[1]
    return slopes
