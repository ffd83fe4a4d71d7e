"""Preconditioned conjugate gradients for many systems at once; each stops by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_CHECK = 4  # iterations between questions whether all have stopped, which make an accelerator wait


class Solution(NamedTuple):
    """What `conjugate_gradients` returns.

    Attributes:
        x: Solutions `(B, n, K)`.
        failed: Which did not converge, or met a matrix that is not positive definite, `(B, K)`.
        history: Norms of the preconditioned residual relative to the first, `(iterations + 1, B, K)`.
    """

    x: Tensor
    failed: Tensor
    history: Tensor


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    precondition: Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Solve A x = b for symmetric positive definite A, from zero.

    A system stops when its preconditioned residual sqrt(r^T M r) has fallen to `tolerance` times the
    first; with a good preconditioner M this is the relative error in the norm of A. It is then left
    alone, so that its result does not depend on the others'. Zero right-hand sides give zero.

    Args:
        product: x -> A x on `(B, n, K)`, system by system.
        precondition: r -> M r, the same.
        rhs: b `(B, n, K)`.
        tolerance: Of the residual.
        max_iterations: Of all systems.
    """
    r, x = rhs, torch.zeros_like(rhs)
    z = precondition(r)
    p, rho = z, _dot(r, z)
    first = rho
    active, failed = rho != 0, torch.zeros_like(rho, dtype=torch.bool)  # NaN is active, and fails
    history = [rho]
    for i in range(max_iterations):
        if i % _CHECK == 0 and not bool(active.any()):
            break
        q = product(p)
        curvature = _dot(p, q)
        broken = active & ~((curvature > 0) & torch.isfinite(curvature) & (rho > 0))
        failed, active = failed | broken, active & ~broken
        alpha = torch.where(active, rho / curvature, 0)
        x = torch.addcmul(x, alpha, p)
        r = torch.addcmul(r, alpha, q, value=-1)
        z = precondition(r)
        following = _dot(r, z)
        p = torch.addcmul(z, torch.where(active, following / rho, 0), p)
        rho = torch.where(active, following, rho)
        active = active & ~(rho <= tolerance**2 * first)
        history.append(rho)
    relative = torch.stack(history).squeeze(2) / torch.where(first != 0, first, 1).squeeze(1)
    return Solution(x, (failed | active).squeeze(1), relative.clamp_min(0).sqrt())


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("bnk,bnk->bk", a, b).unsqueeze(1)
