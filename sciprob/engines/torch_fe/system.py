"""Linear systems of a batch of samples: one matrix each, any number of right-hand sides."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.engines.torch_fe.conjugate_gradients import Solution, conjugate_gradients
from sciprob.engines.torch_fe.discretisation import Discretisation
from sciprob.engines.torch_fe.preconditioner import Matrices, TwoLevel

BLOCK = 2**25  # numbers in the largest temporary tensor; bounds the memory of big batches


@dataclass(frozen=True)
class LinearSolver:
    """Settings of conjugate gradients.

    Args:
        tolerance: Relative error in the energy norm, as `conjugate_gradients` estimates it.
        max_iterations: At which a solve has failed.
    """

    tolerance: float = 1e-12
    max_iterations: int = 500


class System:
    """Matrices of the free states with their preconditioners, zero where the state is given.

    Args:
        tables: The discretisation, on the device of the values.
        values: Entries of the matrices `(B, nnz)`.
        solver: Settings.
    """

    def __init__(self, tables: Discretisation, values: Tensor, solver: LinearSolver) -> None:
        self._tables, self._solver = tables, solver
        self._matrices = Matrices(tables.pattern, values)
        self._inverse = TwoLevel(self._matrices, values, tables.coarse)

    def solve(self, rhs: Tensor, *, tolerance: float | None = None) -> Solution:
        """Solve for right-hand sides `(B, N, K)`; those where the state is given do not matter.

        Never raises: `failed` of the result says which systems have no solution.
        """
        free = self._tables.free
        inner = rhs[:, free]
        block = max(1, BLOCK // max(1, inner.shape[0] * inner.shape[1]))
        parts = [self._solve_block(part, tolerance or self._solver.tolerance) for part in inner.split(block, dim=2)]
        x = torch.zeros_like(rhs).index_copy_(1, free, torch.cat([part.x for part in parts], dim=2))
        longest = max(len(part.history) for part in parts)
        histories = [_lengthened(part.history, longest) for part in parts]
        return Solution(x, torch.cat([part.failed for part in parts], dim=1), torch.cat(histories, dim=2))

    def _solve_block(self, rhs: Tensor, tolerance: float) -> Solution:
        product, inverse = self._matrices.__matmul__, self._inverse
        iterations = self._solver.max_iterations
        return conjugate_gradients(product, inverse, rhs, tolerance=tolerance, max_iterations=iterations)


def _lengthened(history: Tensor, n: int) -> Tensor:
    """The last norms repeated, for systems that stopped earlier."""
    return torch.cat([history, history[-1:].expand(n - len(history), -1, -1)])


def linear_failure(solution: Solution) -> str:
    """Half a sentence on a solve that failed."""
    n = len(solution.history) - 1
    return f"conjugate gradients gave up after {n} iterations: the matrix overflows or is not positive definite"
