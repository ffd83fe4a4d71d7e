"""Numerical checks of derivatives and orders of convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from sciprob.operators.base import ForwardOperator


def adjoint_defect(operator: ForwardOperator, m: Tensor, dm: Tensor, v: Tensor) -> float:
    """Relative defect |<J dm, v> - <dm, J^T v>| / (|J dm| |v| + |dm| |J^T v|) at m.

    About 1e-16 in float64 for a matched pair; a mismatched discretisation shows as 1e-3 or so.
    """
    _, tangent = operator.jvp(m, dm)
    _, pullback = operator.vjp(m, v)
    left = float(operator.codomain.inner(tangent, v))
    right = float(operator.domain.inner(dm, pullback))
    scale = _norm(operator.codomain, tangent) * _norm(operator.codomain, v)
    scale += _norm(operator.domain, dm) * _norm(operator.domain, pullback)
    return abs(left - right) / scale if scale > 0 else abs(left - right)


def taylor_orders(operator: ForwardOperator, m: Tensor, dm: Tensor, steps: Sequence[int] = range(6, 11)) -> list[float]:
    """Observed orders of |G(m + h dm) - G(m) - h J dm| for h = 2^-k, `k` in `steps`.

    Two for a right derivative, one for a wrong one. Empty if the remainder is zero up to
    rounding, as for linear maps.
    """
    y, tangent = operator.jvp(m, dm)
    remainders = []
    for k in steps:
        h = 2.0**-k
        difference = operator(m + h * dm) - y - h * tangent
        remainders.append(_norm(operator.codomain, difference))
    rounding = 1e-13 * _norm(operator.codomain, y) + 1e-13 * _norm(operator.codomain, tangent)
    if max(remainders) <= rounding:
        return []
    return [math.log2(a / b) for a, b in pairwise(remainders)]


def loglog_fit(h: Sequence[float], error: Sequence[float]) -> tuple[float, float]:
    """Order of convergence by least squares: slope of log(error) over log(h), and the fit's residual rms."""
    x, y = np.log(np.asarray(h)), np.log(np.asarray(error))
    coefficients = np.polyfit(x, y, 1)
    return float(coefficients[0]), float(np.sqrt(np.mean((np.polyval(coefficients, x) - y) ** 2)))


def _norm(space: object, x: Tensor) -> float:
    inner: Tensor = space.inner(x, x)  # type: ignore[attr-defined]
    return float(torch.sqrt(inner))
