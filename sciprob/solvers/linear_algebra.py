"""Matrix-free linear algebra on whitened spaces: conjugate gradients and eigenpairs of Gram maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.operators.linear import LinearMap
from sciprob.random import randn

Apply = Callable[[Tensor], Tensor]
_ENTRIES = 1 << 24  # numbers per chunk of right-hand sides


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Inner products along all axes but the first, `(B,)`, summed in float64."""
    return (x * y).flatten(1).sum(1, dtype=torch.float64)


@dataclass(frozen=True)
class CGResult:
    """What conjugate gradients found.

    Attributes:
        solution: `(B, *event)`.
        residual: Norms of the final residuals `(B,)`.
        iterations: Products with the operator.
        converged: Whether every right-hand side met its tolerance.
    """

    solution: Tensor
    residual: Tensor
    iterations: int
    converged: bool


def conjugate_gradients(apply: Apply, rhs: Tensor, tolerance: float | Tensor, max_iterations: int) -> CGResult:
    """Solve A x = b for a batch of right-hand sides with one symmetric positive definite A.

    All columns share each product with A; every column has its own coefficients and leaves the
    batch once it has converged, so the result of a column does not depend on its neighbours
    beyond round-off.

    Args:
        apply: A on `(k, *event)`, any k up to B.
        rhs: b `(B, *event)`.
        tolerance: Absolute bound on the residual norm, one for all or `(B,)`.
        max_iterations: Bound on the number of products.

    Source: Hestenes and Stiefel, J. Res. Nat. Bur. Standards 49 (1952).
    """
    x, r = torch.zeros_like(rhs), rhs.clone()
    square = inner(r, r)
    bound = torch.as_tensor(tolerance, dtype=torch.float64, device=rhs.device).square().expand_as(square)
    active = (square > bound).nonzero().flatten()
    p, residual, iterations = r[active], r[active], 0
    while len(active) and iterations < max_iterations:
        product = apply(p)
        iterations += 1
        step = _column(square[active] / inner(p, product), rhs)
        x[active] += step * p
        residual = residual - step * product
        fresh = inner(residual, residual)
        p = residual + _column(fresh / square[active], rhs) * p
        square[active] = fresh
        going = fresh > bound[active]
        active, p, residual = active[going], p[going], residual[going]
    return CGResult(x, square.sqrt(), iterations, len(active) == 0)


def block_conjugate_gradients(apply: Apply, rhs: Tensor, tolerance: float, max_iterations: int) -> CGResult:
    """Solve A x = b for a batch of right-hand sides that search one common Krylov space.

    Each product with A serves all columns, so k columns need several times fewer products than
    alone where A has many outlying eigenvalues. Residuals are kept orthonormal by a QR
    factorisation, so columns that converge early, or depend on each other, do no harm. Small
    matrices and recurrences are in float64, products in the dtype of `rhs`.

    Args:
        apply: A, symmetric positive definite, on `(k, *event)`.
        rhs: b `(k, *event)`.
        tolerance: Absolute bound on the residual norm of every column.
        max_iterations: Bound on the number of products.

    Source: Dubrulle, Electron. Trans. Numer. Anal. 12 (2001), after O'Leary, Linear Algebra Appl. 29 (1980).
    """
    q, c = torch.linalg.qr(rhs.flatten(1).T.double())
    s, x, iterations = q, torch.zeros_like(q) @ c, 0
    while bool((c.norm(dim=0) > tolerance).any()) and iterations < max_iterations:
        product = apply(s.T.to(rhs.dtype).reshape(-1, *rhs.shape[1:])).flatten(1).T.double()
        iterations += 1
        gram = s.T @ product
        step = torch.linalg.inv((gram + gram.T) / 2)
        x = x + s @ (step @ c)
        q, r = torch.linalg.qr(q - product @ step)
        s = q + s @ r.T
        c = r @ c
    residual = c.norm(dim=0)
    solution = x.T.to(rhs.dtype).reshape(rhs.shape)
    return CGResult(solution, residual, iterations, bool((residual <= tolerance).all()))


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).reshape(-1, *(1 for _ in like.shape[1:]))


@dataclass(frozen=True)
class Eigenpairs:
    """Largest eigenpairs of B^T B in decreasing order, and what is known of the rest.

    Attributes:
        vectors: Orthonormal `(r, *domain.shape)`.
        values: `(r,)`.
        truncated: Largest eigenvalue left out, as far as it is known; 0 if none is.
        exact: Whether the pairs come from a dense decomposition of the whole map.
    """

    vectors: Tensor
    values: Tensor
    truncated: float
    exact: bool


def thin_svd(linear_map: LinearMap, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Singular value decomposition of a map through its shorter side.

    Only min(rows, columns) products are made, with the map or its transpose, in chunks; the long
    side is first reduced by a QR factorisation, which loses no digits, unlike the Gram matrix.
    Decomposed in float64, returned in the dtype of `like`.

    Returns:
        `(left (r, *codomain.shape), values (r,), right (r, *domain.shape))`, r = min(rows, columns).
    """
    rows, columns = linear_map.codomain.size, linear_map.domain.size
    transposed = rows <= columns
    long = _dense(linear_map.T if transposed else linear_map, like).T  # (longer, shorter)
    q, r = torch.linalg.qr(long.double())
    u, values, vh = torch.linalg.svd(r)
    first, second = (q @ u).T.to(like.dtype), vh.to(like.dtype)
    left, right = (second, first) if transposed else (first, second)
    values = values.to(like.dtype)
    return left.reshape(-1, *linear_map.codomain.shape), values, right.reshape(-1, *linear_map.domain.shape)


def _dense(linear_map: LinearMap, like: Tensor) -> Tensor:
    """Images of the unit vectors `(domain.size, codomain.size)`."""
    n = linear_map.domain.size
    step = max(1, _ENTRIES // max(n, linear_map.codomain.size))
    images = like.new_empty(n, linear_map.codomain.size)
    for start in range(0, n, step):
        count = min(step, n - start)
        units = like.new_zeros(count, n)
        units[torch.arange(count), torch.arange(start, start + count)] = 1
        images[start : start + count] = linear_map(units.reshape(count, *linear_map.domain.shape)).flatten(1)
    return images


def gram_eigenpairs(
    linear_map: LinearMap,
    like: Tensor,
    generator: torch.Generator,
    *,
    rank: int,
    tolerance: float,
    direct_limit: int,
    block: int = 16,
) -> Eigenpairs:
    """Eigenpairs of B^T B with eigenvalues above `tolerance`, at most `rank` of them where B is large.

    If the shorter side of B is at most `direct_limit`, all of them by `thin_svd`. Else by a
    randomised block Krylov method with full reorthogonalisation, which grows until an eigenvalue
    below `tolerance` has been seen and all pairs above have converged, or the space holds
    2 `rank` + `block` vectors.

    Sources: Halko, Martinsson, Tropp, SIAM Review 53 (2011); Musco and Musco, NeurIPS (2015).
    """
    if min(linear_map.domain.size, linear_map.codomain.size) <= direct_limit:
        _, singular, right = thin_svd(linear_map, like)
        values = singular.square()
        kept = int((values > tolerance).sum())
        truncated = float(values[kept]) if kept < len(values) else 0.0
        return Eigenpairs(right[:kept], values[:kept], truncated, True)
    krylov = _BlockKrylov(linear_map, like, generator, block)
    while True:
        values, residuals = krylov.extend()
        above = int((values > tolerance).sum())
        settled = bool((residuals[:above] <= 1e-2 * values[:above] + 1e-2 * tolerance).all())
        if (above < len(values) and settled) or krylov.exhausted or krylov.size >= 2 * rank + block:
            break
    good = int((residuals <= 1e-1 * (1 + values)).long().cumprod(0).sum())
    kept = min(above, rank, good)
    truncated = float(values[kept]) if kept < len(values) else 0.0
    return Eigenpairs(krylov.vectors(kept), values[:kept], truncated, False)


class _BlockKrylov:
    """Orthonormal basis of span{X, H X, H^2 X, ...}, H = B^T B, with X Gaussian, and H projected on it."""

    def __init__(self, linear_map: LinearMap, like: Tensor, generator: torch.Generator, block: int) -> None:
        self.map = linear_map
        start = randn((block, linear_map.domain.size), like, generator)
        self.basis = start.new_empty(0, linear_map.domain.size)
        self.projected = torch.zeros(0, 0, dtype=torch.float64, device=like.device)
        self.next = torch.linalg.qr(start.T)[0].T
        self.exhausted = False
        self._rotation = self.projected

    @property
    def size(self) -> int:
        """Vectors in the basis."""
        return len(self.basis)

    def extend(self) -> tuple[Tensor, Tensor]:
        """Add one block; Ritz values in decreasing order and the norms of their residuals."""
        new, old = self.next, self.size
        self.basis = torch.cat([self.basis, new])
        image = self.map.T(self.map(new.reshape(-1, *self.map.domain.shape))).reshape(len(new), -1)
        coefficients = image @ self.basis.T
        remainder = image - coefficients @ self.basis
        again = remainder @ self.basis.T  # twice is enough (Kahan, Parlett)
        remainder = remainder - again @ self.basis
        self._grow((coefficients + again).double(), old)
        values, rotation = torch.linalg.eigh(self.projected)
        values, self._rotation = values.flip(0).clamp_min(0), rotation.flip(1)
        q, r = torch.linalg.qr(remainder.T)
        residuals = (r.double() @ self._rotation[old:]).norm(dim=0)
        # Directions whose remainder is round-off add nothing but noise.
        u, strength, _ = torch.linalg.svd(r)
        useful = strength > 1e2 * torch.finfo(r.dtype).eps * max(1.0, float(values[0]))
        self.next = (q @ u).T[useful]
        self.exhausted = len(self.next) == 0
        return values.to(image.dtype), residuals.to(image.dtype)

    def vectors(self, count: int) -> Tensor:
        """Leading Ritz vectors `(count, *domain.shape)`."""
        rotation = self._rotation[:, :count].to(self.basis.dtype)
        return (rotation.T @ self.basis).reshape(count, *self.map.domain.shape)

    def _grow(self, rows: Tensor, old: int) -> None:
        """Append the coefficients of the new block, symmetric by construction up to round-off."""
        size = self.size
        projected = torch.zeros(size, size, dtype=torch.float64, device=rows.device)
        projected[:old, :old] = self.projected
        projected[old:] = rows
        projected[:old, old:] = rows[:, :old].T
        corner = projected[old:, old:]
        projected[old:, old:] = (corner + corner.T) / 2
        self.projected = projected
