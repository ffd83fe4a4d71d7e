"""Coefficient fields as short sums of products of functions of one axis each."""

from __future__ import annotations

import torch
from torch import Tensor

_LOST = 1e-15  # of the largest singular value: round-off of the field itself


def separate(field: Tensor, shape: tuple[int, ...], most: int = 8) -> list[tuple[Tensor, ...]] | None:
    """Write c(x_1, ..., x_d) as sum_t prod_j a_tj(x_j), to round-off.

    Constants, functions of one coordinate and products need one term; the rest comes from singular
    value decompositions that split off one axis after the other.

    Args:
        field: Broadcasts to `shape`; axes of length 1 are constant.
        shape: Points along each axis.
        most: Largest number of terms that is worth it.

    Returns:
        Terms with one vector per axis, `(shape[j],)`; or None if more than `most` are needed.
    """
    field = _without_constant_axes(field.reshape((1,) * (len(shape) - field.ndim) + field.shape))
    terms = _split(field, most)
    if terms is None:
        return None
    return [tuple(a.expand(n) for a, n in zip(term, shape, strict=True)) for term in terms]


def _without_constant_axes(field: Tensor) -> Tensor:
    """The field with axes along which it does not change cut to length 1."""
    for axis, n in enumerate(field.shape):
        first = field.narrow(axis, 0, 1) if n else field
        if n > 1 and bool((field == first).all()):
            field = first
    return field


def _split(field: Tensor, most: int) -> list[tuple[Tensor, ...]] | None:
    rest = field.shape[1:]
    if not rest:
        return [(field,)]
    if field.shape[0] == 1 or rest.numel() == 1:
        pairs = [(field.new_ones(1), field[0])] if field.shape[0] == 1 else [(field.flatten(), field.new_ones(rest))]
    else:
        u, s, vh = torch.linalg.svd(field.flatten(1), full_matrices=False)
        kept = int((s > _LOST * max(field.flatten(1).shape) * s[0]).sum())
        if kept > most:
            return None
        pairs = [(u[:, t] * s[t], vh[t].reshape(rest)) for t in range(kept)]
    terms: list[tuple[Tensor, ...]] = []
    for first, remainder in pairs:
        inner = _split(remainder, most)
        if inner is None or len(terms) + len(inner) > most:
            return None
        terms += [(first, *others) for others in inner]
    return terms
