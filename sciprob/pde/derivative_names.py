"""Names of partial derivatives (`"xxt"` is u_xxt) and the combinatorics of product and chain rule.

A name lists the coordinates of differentiation, one letter each; the empty name is the function
itself. Mixed derivatives commute, so a name is kept with its letters in alphabetic order, time
(`t`) last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import product

from sciprob.errors import UnsupportedProblemError

Known = frozenset[str] | None  # None: every derivative is known, as of a constant


@cache
def canonical(name: str) -> str:
    """The ordered name: `yx` -> `xy`, `tx` -> `xt`; `value` is the empty name."""
    return "" if name == "value" else "".join(sorted(name, key=lambda letter: (letter == "t", letter)))


@lru_cache(maxsize=1024)
def ordered(names: frozenset[str]) -> tuple[str, ...]:
    """Names by rising order, then alphabetically: sets have no order of their own to be relied on."""
    return tuple(sorted(names, key=lambda name: (len(name), name)))


@cache
def lower(name: str) -> tuple[str, ...]:
    """All derivatives whose product and chain rules feed into `name`, itself included, by rising order."""
    return ordered(frozenset(first for _, first, _ in product_terms(name)))


def closure(names: Iterable[str]) -> tuple[str, ...]:
    """The smallest set that holds `names` and everything `lower`, by rising order."""
    return ordered(frozenset(below for name in names for below in lower(canonical(name))) | {""})


@cache
def product_terms(name: str) -> tuple[tuple[int, str, str], ...]:
    """Leibniz rule: D^a (u v) = sum of `count` D^b u D^(a-b) v over the terms `(count, b, a - b)`."""
    splits: Counter[tuple[str, str]] = Counter()
    for sides in product((True, False), repeat=len(name)):
        first = "".join(letter for letter, side in zip(name, sides, strict=True) if side)
        second = "".join(letter for letter, side in zip(name, sides, strict=True) if not side)
        splits[first, second] += 1
    return tuple((count, first, second) for (first, second), count in splits.items())


@cache
def chain_terms(name: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Faà di Bruno: D^a f(u) = sum of `count` f^(k)(u) prod_j D^(b_j) u over the terms `(count, (b_1, ..., b_k))`.

    One term per way to group the letters of `name` into blocks; equal ones are counted.
    """
    counts = Counter(tuple(sorted("".join(block) for block in blocks)) for blocks in _set_partitions(name))
    return tuple((count, blocks) for blocks, count in sorted(counts.items()))


def _set_partitions(letters: str) -> Iterable[list[list[str]]]:
    """All partitions of the positions of `letters` into non-empty blocks."""
    if not letters:
        yield []
        return
    first, rest = letters[0], letters[1:]
    for blocks in _set_partitions(rest):
        yield [[first], *blocks]
        for i in range(len(blocks)):
            yield [*blocks[:i], [first, *blocks[i]], *blocks[i + 1 :]]


def common(first: Known, second: Known) -> Known:
    """What a sum knows.

    Raises:
        UnsupportedProblemError: If nothing is known of both.
    """
    if first is None or second is None:
        return second if first is None else first
    shared = first & second
    if not shared:
        message = f"jets that know {sorted(first)} and {sorted(second)} have no derivative in common; ask for more."
        raise UnsupportedProblemError(message)
    return shared


@lru_cache(maxsize=1024)
def multiplicative(known: frozenset[str]) -> frozenset[str]:
    """What a product or a function knows: derivatives of which everything lower is known.

    Raises:
        UnsupportedProblemError: If that is nothing, because the value is missing.
    """
    closed = frozenset(name for name in known if known.issuperset(lower(name)))
    if not closed:
        message = f"a jet that knows {sorted(known)} has no value, so it cannot be multiplied; ask for the value too."
        raise UnsupportedProblemError(message)
    return closed
