r"""Kalman filter and smoother in O(log n) parallel rounds, by associative scans: the results of `sciprob.sde.kalman`.

Filter: element i is p(z_i | z_{i-1}, y_i) = N(A z + b, C) with the likelihood of z_{i-1}, information J and eta.
Smoother: score and information of later data go back by affine maps r -> L^T r + u, N -> L^T N L + V, which compose
without an inverse. Source: Särkkä and García-Fernández, IEEE Trans. Autom. Control 66 (2021), for the filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.sde.kalman import StateSpace
from sciprob.spaces.shapes import broadcast_shapes

Element = tuple[Tensor, ...]


def scan(combine: Callable[[Element, Element], Element], elements: Element) -> Element:
    """All prefixes a_0, a_0 a_1, ... along axis 0 of each tensor, by an associative `combine` (left, right)."""
    n = len(elements[0])
    if n == 1:
        return elements
    pairs = combine(tuple(e[0 : n - 1 : 2] for e in elements), tuple(e[1:n:2] for e in elements))
    odd = scan(combine, pairs)
    count = (n - 1) // 2
    even = combine(tuple(e[:count] for e in odd), tuple(e[2::2] for e in elements)) if count else None
    found = []
    for i, element in enumerate(elements):
        evens = element[:1] if even is None else torch.cat([element[:1], even[i]])
        short = odd[i]
        woven = torch.stack([evens[: len(short)], short], dim=1).flatten(0, 1)
        found.append(torch.cat([woven, evens[len(short) :]]))
    return tuple(found)


@dataclass(frozen=True)
class ParallelFiltered:
    """One-step predictions of all steps, time first: what `kalman_filter` has as lists."""

    matrix: Tensor
    mean: Tensor
    row: Tensor
    innovation: Tensor
    variance: Tensor
    mask: Tensor
    log_evidence: Tensor


def parallel_filter(
    model: StateSpace, values: Tensor, noise_variance: Tensor, observed: Sequence[int | None]
) -> ParallelFiltered:
    """Filter; arguments as for `kalman_filter`. Covariances take the whole batch, that of the values included.

    Raises:
        DataError: If an exact value contradicts or repeats what is already known exactly.
    """
    f = model.matrix[..., model.which, :, :].movedim(-3, 0)
    q = model.noise[..., model.which, :, :].movedim(-3, 0)
    seen = torch.tensor([column is not None for column in observed], device=f.device)
    columns = torch.tensor([column or 0 for column in observed], device=f.device)
    batch = broadcast_shapes(
        values.shape[:-1], noise_variance.shape[:-1], f.shape[1:-2], q.shape[1:-2], model.initial.shape[:-2]
    )
    y = values[..., columns].expand(*batch, -1).movedim(-1, 0)
    r = noise_variance[..., columns].expand(*batch, -1).movedim(-1, 0)
    f, q = (_with_batch(e, batch) for e in (f, q))
    mask = seen.reshape(-1, *(1 for _ in batch))
    means, covariances = _filter(f, q, r, y, mask, model.initial)
    filtered = _predict(f, q, r, y, mask, model.initial, means, covariances)
    known = ~(filtered.variance > 0)
    if bool(known.any()):
        row = int(columns[known.nonzero()[0, 0]])
        message = f"row {row} is exact and already known exactly; give a positive `noise_std` or leave it out."
        raise DataError(message)
    return filtered


def _with_batch(matrices: Tensor, batch: torch.Size) -> Tensor:
    """`(n, *some, s, s)` -> `(n, *batch, s, s)`."""
    n, size = len(matrices), matrices.shape[-1]
    missing = len(batch) + 3 - matrices.ndim
    return matrices.reshape(n, *(1 for _ in range(missing)), *matrices.shape[1:]).expand(n, *batch, size, size)


def _filter(f: Tensor, q: Tensor, r: Tensor, y: Tensor, mask: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """Filtered means and covariances."""
    first = f[0] @ initial @ f[0].mT + q[0]
    prior = torch.cat([first.expand(q[:1].shape), q[1:]])  # element 0 knows the state before it
    f = torch.cat([torch.zeros_like(f[:1]), f[1:]])
    row = prior[..., 0, :]
    s = torch.where(mask, row[..., 0] + r, torch.ones_like(r))
    gain = torch.where(mask[..., None], row / s[..., None], torch.zeros_like(row))
    top = f[..., 0, :]
    a = f - gain[..., :, None] * top[..., None, :]
    c = prior - gain[..., :, None] * row[..., None, :]
    weight = torch.where(mask, 1 / s, torch.zeros_like(s))
    j = top[..., :, None] * top[..., None, :] * weight[..., None, None]
    b = gain * y[..., None]
    eta = top * (weight * y)[..., None]
    found = scan(_combine, (a, b, c, eta, j))
    return found[1], found[2]


def _combine(one: Element, two: Element) -> Element:
    """The element of two neighbouring ones."""
    a1, b1, c1, eta1, j1 = one
    a2, b2, c2, eta2, j2 = two
    eye = torch.eye(a1.shape[-1], dtype=a1.dtype, device=a1.device)
    # A2 (I + C1 J2)^{-1}, whose transpose is (I + J2 C1)^{-1} A2^T
    right = torch.linalg.solve((eye + c1 @ j2).mT, a2.mT).mT
    left = torch.linalg.solve((eye + j2 @ c1).mT, a1).mT  # A1^T (I + J2 C1)^{-1}
    a = right @ a1
    b = (right @ (b1 + (c1 @ eta2[..., None]).squeeze(-1))[..., None]).squeeze(-1) + b2
    c = right @ c1 @ a2.mT + c2
    eta = (left @ (eta2 - (j2 @ b1[..., None]).squeeze(-1))[..., None]).squeeze(-1) + eta1
    j = left @ j2 @ a1 + j1
    return a, b, (c + c.mT) / 2, eta, (j + j.mT) / 2


def _predict(
    f: Tensor, q: Tensor, r: Tensor, y: Tensor, mask: Tensor, initial: Tensor, mean: Tensor, covariance: Tensor
) -> ParallelFiltered:
    """Predictions and evidence from filtered moments."""
    before = torch.cat([initial.expand(covariance[:1].shape), covariance[:-1]])
    predicted = f @ before @ f.mT + q
    start = torch.cat([torch.zeros_like(mean[:1]), mean[:-1]])
    centre = (f @ start[..., None]).squeeze(-1)
    row = predicted[..., 0, :]
    variance = torch.where(mask, row[..., 0] + r, torch.ones_like(r))
    innovation = torch.where(mask, y - centre[..., 0], torch.zeros_like(y))
    terms = innovation.square() / variance + torch.where(mask, (2 * math.pi * variance).log(), torch.zeros_like(y))
    return ParallelFiltered(f, centre, row, innovation, variance, mask, -terms.sum(0) / 2)


def parallel_smooth(filtered: ParallelFiltered) -> tuple[Tensor, Tensor]:
    """Smoothed mean `(*batch, n)` and variance of the first component."""
    f, row, variance, mask = filtered.matrix, filtered.row, filtered.variance, filtered.mask
    gain = torch.where(mask[..., None], row / variance[..., None], torch.zeros_like(row))
    eye = torch.eye(f.shape[-1], dtype=f.dtype, device=f.device)
    # what later data say of the prediction i + 1 goes through F, then through the update of step i
    after = torch.cat([f[1:], torch.zeros_like(f[:1])])
    through = after @ (eye - gain[..., :, None] * eye[0])
    u = torch.nn.functional.pad((filtered.innovation / variance)[..., None], (0, f.shape[-1] - 1))
    v = torch.where(mask, 1 / variance, torch.zeros_like(variance))[..., None, None] * eye[0][:, None] * eye[0]
    _, score, information = (e.flip(0) for e in scan(_compose, (through.flip(0), u.flip(0), v.flip(0))))
    mean = filtered.mean[..., 0] + (row * score).sum(-1)
    reduced = (row[..., None, :] @ information @ row[..., None]).squeeze(-1).squeeze(-1)
    return mean.movedim(0, -1), (row[..., 0] - reduced).movedim(0, -1)


def _compose(late: Element, early: Element) -> Element:
    """Affine map of the earlier step after that of the later one."""
    l1, u1, v1 = late
    l2, u2, v2 = early
    return l1 @ l2, (l2.mT @ u1[..., None]).squeeze(-1) + u2, l2.mT @ v1 @ l2 + v2
