"""The weak form int exp(m) grad u . grad v + alpha u v (boundary) + c u^3 v - f v - g v (boundary), cell by cell.

Shapes: B samples, C cells, Q quadrature points, N states, P parameters; `...` any leading axes. For
elements of degree 1 gradients are constant, and conductivities are summed over the points at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.engines.torch_fe.discretisation import Discretisation


def conductivity(t: Discretisation, m: Tensor) -> Tensor:
    """exp(m) times weights at the quadrature points: `(..., P)` -> `(..., C, Q)`."""
    return (m[..., t.cells.vertices] @ t.cells.linear.T).exp() * t.cells.weights


def matrix_values(t: Discretisation, k: Tensor, u: Tensor, reaction: float) -> Tensor:
    """Entries of dF/du at the pattern's places, from `k (B, C, Q)` and `u (B, N)`: `(B, nnz)`."""
    gradients = t.cells.gradients
    local = torch.einsum("cqid,bcq,cqjd->bcij", gradients, _pointwise(t, k), gradients)
    if reaction != 0.0:
        density = 3 * reaction * _at_points(t, u) ** 2 * t.cells.weights
        local = local + torch.einsum("bcq,qi,qj->bcij", density, t.cells.values, t.cells.values)
    return t.assemble @ local.flatten(1) + t.boundary_values


def residual(t: Discretisation, k: Tensor, u: Tensor, reaction: float) -> Tensor:
    """F(u, m) `(B, N)`, also where the state is given."""
    local = _against_gradients(t, _pointwise(t, k)[..., None] * slopes(t, u))
    if reaction != 0.0:
        local = local + (reaction * _at_points(t, u) ** 3 * t.cells.weights) @ t.cells.values
    return t.scatter @ local.flatten(-2) + t.boundary @ u - t.load


def slopes(t: Discretisation, u: Tensor) -> Tensor:
    """Gradients of states: `(..., N)` -> `(..., C, Q, d)`, Q = 1 for degree 1."""
    return torch.einsum("cqid,...ci->...cqd", t.cells.gradients, u[..., t.cells.dofs])


def parameter_action(t: Discretisation, k: Tensor, grad_u: Tensor, dm: Tensor) -> Tensor:
    """(dF/dm) dm: `k (B, C, Q)`, `grad_u (B, C, Q, d)`, `dm (..., B, P)` -> `(..., B, N)`."""
    change = (dm[..., t.cells.vertices] @ t.cells.linear.T) * k
    return t.scatter @ _against_gradients(t, _pointwise(t, change)[..., None] * grad_u).flatten(-2)


def parameter_transpose(t: Discretisation, k: Tensor, grad_u: Tensor, v: Tensor) -> Tensor:
    """(dF/dm)^T v: `v (..., B, N)` -> `(..., B, P)`."""
    density = k * (slopes(t, v) * grad_u).sum(-1)
    return t.scatter_linear @ (density @ t.cells.linear).flatten(-2)


def source_action(t: Discretisation, m: Tensor) -> Tensor:
    """Int m v dx: `(..., P)` -> `(..., N)`."""
    density = (m[..., t.cells.vertices] @ t.cells.linear.T) * t.cells.weights
    return t.scatter @ (density @ t.cells.values).flatten(-2)


def source_transpose(t: Discretisation, v: Tensor) -> Tensor:
    """Its transpose: `(..., N)` -> `(..., P)`."""
    density = _at_points(t, v) * t.cells.weights
    return t.scatter_linear @ (density @ t.cells.linear).flatten(-2)


def _pointwise(t: Discretisation, k: Tensor) -> Tensor:
    """Where gradients are constant, the sum over the points, `(..., C, 1)`; else all, `(..., C, Q)`."""
    return k.sum(-1, keepdim=True) if t.cells.gradients.shape[1] == 1 else k


def _at_points(t: Discretisation, u: Tensor) -> Tensor:
    return u[..., t.cells.dofs] @ t.cells.values.T


def _against_gradients(t: Discretisation, flux: Tensor) -> Tensor:
    """Sum over the points of flux . grad phi_i: `(..., C, Q, d)` -> `(..., C, k)`."""
    return torch.einsum("cqid,...cqd->...ci", t.cells.gradients, flux)
