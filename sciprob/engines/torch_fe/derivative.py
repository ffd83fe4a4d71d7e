"""Derivatives of elliptic states: solves with the matrices at given points, any number of directions at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciprob.engines.torch_fe.discretisation import Discretisation
from sciprob.engines.torch_fe.system import BLOCK, System, linear_failure
from sciprob.engines.torch_fe.weak_form import (
    conductivity,
    matrix_values,
    parameter_action,
    parameter_transpose,
    slopes,
)
from sciprob.errors import ConvergenceError
from sciprob.operators.base import event_space
from sciprob.operators.linear import ExplicitLinearMap

if TYPE_CHECKING:
    from sciprob.engines.torch_fe.elliptic import EllipticOperator


class Points:
    """J = -(dF/du)^{-1} dF/dm at B parameters with their states, zero where u is given.

    Args:
        operator: The operator.
        m: Parameters `(B, P)`, float64.
        u: States `(B, N)`.
        numbers: Of the samples, for messages `(B,)`.
    """

    def __init__(self, operator: EllipticOperator, m: Tensor, u: Tensor, numbers: Tensor) -> None:
        self._numbers = numbers
        self._count = operator.count  # a bound method, so that no module is referred to
        self._t = t = operator.tables(m)
        self._k, self._slopes = conductivity(t, m), slopes(t, u)
        self._system = System(t, matrix_values(t, self._k, u, operator.reaction), operator.linear_solver)
        self._count(factorisations=len(m))

    def tangent(self, dm: Tensor) -> Tensor:
        """J dm: `(K, B, P)` -> `(K, B, N)`."""
        self._count(tangent=dm.shape[0] * dm.shape[1])
        return self._blockwise(dm, lambda x: self._solve(-parameter_action(self._t, self._k, self._slopes, x)))

    def adjoint(self, v: Tensor) -> Tensor:
        """J^T v: `(K, B, N)` -> `(K, B, P)`; the matrix is its own transpose."""
        self._count(adjoint=v.shape[0] * v.shape[1])
        return self._blockwise(v, lambda x: -parameter_transpose(self._t, self._k, self._slopes, self._solve(x)))

    def _blockwise(self, x: Tensor, action: Callable[[Tensor], Tensor]) -> Tensor:
        block = max(1, BLOCK // (max(1, self._k.numel() * self._slopes.shape[-1])))
        return torch.cat([action(part) for part in x.split(block)])

    def _solve(self, rhs: Tensor) -> Tensor:
        """Solve with the matrices, `(K, B, N)`."""
        solution = self._system.solve(rhs.permute(1, 2, 0))
        if bool(solution.failed.any()):
            row, column = solution.failed.nonzero()[0].tolist()
            i, history = int(self._numbers[row]), tuple(solution.history[:, row, column].tolist())
            message = f"the derivative of sample {i} could not be solved: {linear_failure(solution)}; check its state."
            raise ConvergenceError(message, sample=i, history=history)
        return solution.x.permute(2, 0, 1)


class EllipticDerivative(ExplicitLinearMap):
    """Derivative of an `EllipticOperator` at a batch of points, built by its `linearise`.

    Args:
        operator: The operator; it counts the solves.
        batch: Batch axes of the points, part of the event here.
        m: Points `(B, P)`, float64.
        u: Their states `(B, N)`.
    """

    def __init__(self, operator: EllipticOperator, batch: torch.Size, m: Tensor, u: Tensor) -> None:
        super().__init__(event_space(operator.domain, batch), event_space(operator.codomain, batch))
        everywhere = torch.ones(len(m), dtype=torch.bool, device=m.device)
        self._blocks = blocks_of(everywhere, operator.tables(m))
        self._points = [Points(operator, m[rows], u[rows], rows) for rows in self._blocks]
        self._sizes = (len(m), operator.domain.size, operator.codomain.size)

    def _matvec(self, x: Tensor) -> Tensor:
        b, source, _ = self._sizes
        w = x.detach().double().reshape(len(x), b, source)
        parts = [p.tangent(w[:, rows]) for p, rows in zip(self._points, self._blocks, strict=True)]
        return _joined(parts, w).reshape(len(x), *self.codomain.shape).to(x.dtype)

    def _rmatvec(self, y: Tensor) -> Tensor:
        b, _, target = self._sizes
        w = y.detach().double().reshape(len(y), b, target)
        parts = [p.adjoint(w[:, rows]) for p, rows in zip(self._points, self._blocks, strict=True)]
        return _joined(parts, w).reshape(len(y), *self.domain.shape).to(y.dtype)


def _joined(parts: list[Tensor], like: Tensor) -> Tensor:
    """Results of all samples; none if there are none."""
    return torch.cat(parts, dim=1) if parts else like.new_zeros(0)


def blocks_of(which: Tensor, t: Discretisation) -> list[Tensor]:
    """Numbers of the samples chosen, in blocks that are solved together; bounds the memory of large batches."""
    c, q, k, d = t.cells.gradients.shape[0], t.cells.weights.shape[1], *t.cells.gradients.shape[2:]
    size = max(1, BLOCK // max(len(t.pattern), c * k * max(k, q * d)))
    return [rows for rows in which.nonzero().flatten().split(size) if len(rows)]
