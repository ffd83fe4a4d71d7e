"""Prior variances of rows, and what of them grid values of the field explain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.pde.functionals import Functionals, TensorPoints
from sciprob.problems.differentiation import AxisDifferentiation


def row_variances(rows: Functionals, axes: Sequence[AxisDifferentiation]) -> tuple[Tensor, Tensor]:
    r"""Variance of sum_a c_a D^a u under the separable prior, and of its conditional mean given the grid values.

    The first is sum_ab c_a c_b prod_j (-1)^(b_j) k_j^(a_j + b_j)(0); their difference is the conditional variance,
    which a model of grid values leaves out unless it counts as noise.

    Returns:
        Both `(*rows.shape)`.

    Source: Snelson and Ghahramani, NeurIPS 2005, for the difference as independent noise.
    """
    lines = rows.points.lines if isinstance(rows.points, TensorPoints) else rows.points.points.unbind(1)
    total = torch.zeros((2, *rows.shape), dtype=rows.values.dtype, device=rows.values.device)
    for a, c in rows.terms.items():
        for b, e in rows.terms.items():
            pair = [torch.ones(rows.shape).to(total) for _ in range(2)]
            for j, (axis, line, p, q) in enumerate(zip(axes, lines, rows.orders(a), rows.orders(b), strict=True)):
                spread = [-1 if i == j else 1 for i in range(len(axes))] if len(rows.shape) > 1 else [-1]
                explained = (axis.features(line, p) * axis.features(line, q)).sum(1)
                pair = [pair[0] * axis.prior(p, q), pair[1] * explained.reshape(spread)]
            total = total + c * e * torch.stack(pair)
    return total[0], total[1]
