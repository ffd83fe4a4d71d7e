"""Sum, product and chain rule on the entries of jets; an entry that is missing is zero."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from sciprob.pde.derivative_names import chain_terms, product_terms

Entries = Mapping[str, Tensor]


def add(names: Iterable[str], u: Entries, v: Entries) -> dict[str, Tensor]:
    """Entries of u + v."""
    return _present({name: _total([u.get(name), v.get(name)]) for name in names})


def multiply(names: Iterable[str], u: Entries, v: Entries) -> dict[str, Tensor]:
    """Entries of u v by the product rule."""
    return _present({name: _total([_product(u, v, *term) for term in product_terms(name)]) for name in names})


def compose(names: Iterable[str], f: Sequence[Tensor | None], u: Entries) -> dict[str, Tensor]:
    """Entries of f(u) by the chain rule, from the derivatives of f at u; None stands for zero."""
    return _present({name: _total([_chained(f, u, *term) for term in chain_terms(name)]) for name in names})


def differentiate(entries: Mapping[str, Any], coordinate: str) -> dict[str, Any]:
    """Entries of a first derivative: those that have the letter, without it."""
    return {name.replace(coordinate, "", 1): entry for name, entry in entries.items() if coordinate in name}


def _product(u: Entries, v: Entries, count: int, first: str, second: str) -> Tensor | None:
    if first not in u or second not in v:
        return None
    term = u[first] * v[second]
    return term if count == 1 else count * term


def _chained(f: Sequence[Tensor | None], u: Entries, count: int, blocks: tuple[str, ...]) -> Tensor | None:
    outer = f[len(blocks)]
    if outer is None or any(block not in u for block in blocks):
        return None
    for block in blocks:
        outer = outer * u[block]
    return outer if count == 1 else count * outer


def _total(terms: Sequence[Tensor | None]) -> Tensor | None:
    present = [term for term in terms if term is not None]
    return sum(present[1:], start=present[0]) if present else None


def _present(entries: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {name: entry for name, entry in entries.items() if entry is not None}
