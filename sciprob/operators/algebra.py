"""Composition, sums, multiples, stacks and partial application of operators."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.base import AnySpace, Capability, ForwardOperator
from sciprob.operators.linear import LinearMap
from sciprob.spaces import ProductSpace, Space


def compose(outer: ForwardOperator, inner: ForwardOperator) -> ForwardOperator:
    """`outer(inner(m))`; linear if both are.

    Raises:
        ShapeError: If the codomain of `inner` is not the domain of `outer`.
    """
    if not outer.domain.compatible(inner.codomain):
        message = (
            f"cannot compose {type(outer).__name__} after {type(inner).__name__}: it takes "
            f"{outer.domain.name} {outer.domain.shape}, but is given {inner.codomain.name} {inner.codomain.shape}."
        )
        raise ShapeError(message)
    if isinstance(outer, LinearMap) and isinstance(inner, LinearMap):
        return LinearComposition(outer, inner)
    return Composition(outer, inner)


def add(first: ForwardOperator, second: ForwardOperator) -> ForwardOperator:
    """`first(m) + second(m)`; linear if both are.

    Raises:
        ShapeError: If the spaces differ.
    """
    if not (first.domain.compatible(second.domain) and first.codomain.compatible(second.codomain)):
        message = (
            f"operators are added on equal spaces only, got {first.domain.shape} -> {first.codomain.shape} "
            f"and {second.domain.shape} -> {second.codomain.shape}."
        )
        raise ShapeError(message)
    if isinstance(first, LinearMap) and isinstance(second, LinearMap):
        return LinearSum(first, second)
    return Sum(first, second)


def scale(factor: float, operator: ForwardOperator) -> ForwardOperator:
    """`factor * operator(m)`; linear if the operator is."""
    if isinstance(operator, LinearMap):
        return LinearMultiple(factor, operator)
    return Multiple(factor, operator)


class Composition(ForwardOperator):
    """`outer @ inner`; derivatives by the chain rule, each part linearised once."""

    def __init__(self, outer: ForwardOperator, inner: ForwardOperator) -> None:
        super().__init__(inner.domain, outer.codomain)
        self.outer = outer
        self.inner = inner

    def _apply_batched(self, m: Any) -> Any:
        return self.outer(self.inner(m))

    def linearise(self, m: Tensor) -> tuple[Any, LinearMap]:
        """The value and the product of the parts' derivatives."""
        u, inner = self.inner.linearise(m)
        y, outer = self.outer.linearise(u)
        return y, cast(LinearMap, outer @ inner)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What both parts can do."""
        return self.outer.capabilities & self.inner.capabilities


class LinearComposition(LinearMap):
    """`outer @ inner` of linear maps: `(AB)^T = B^T A^T`, `(AB)^{-1} = B^{-1} A^{-1}`."""

    def __init__(self, outer: LinearMap, inner: LinearMap) -> None:
        super().__init__(inner.domain, outer.codomain)
        self.outer = outer
        self.inner = inner

    def _apply_batched(self, m: Any) -> Any:
        return self.outer(self.inner(m))

    def _adjoint_batched(self, y: Any) -> Any:
        return self.inner.T(self.outer.T(y))

    def solve(self, y: Tensor) -> Tensor:
        """Inverse of the outer, then of the inner map."""
        return self.inner.solve(self.outer.solve(y))

    def log_abs_det(self) -> Tensor:
        """Sum of both."""
        return self.outer.log_abs_det() + self.inner.log_abs_det()


class Sum(ForwardOperator):
    """Sum of two operators."""

    def __init__(self, first: ForwardOperator, second: ForwardOperator) -> None:
        super().__init__(first.domain, first.codomain)
        self.first = first
        self.second = second

    def _apply_batched(self, m: Any) -> Any:
        return _plus(self.first(m), self.second(m))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What both parts can do."""
        return self.first.capabilities & self.second.capabilities


class LinearSum(LinearMap):
    """Sum of two linear maps."""

    def __init__(self, first: LinearMap, second: LinearMap) -> None:
        super().__init__(first.domain, first.codomain)
        self.first = first
        self.second = second

    def _apply_batched(self, m: Any) -> Any:
        return _plus(self.first(m), self.second(m))

    def _adjoint_batched(self, y: Any) -> Any:
        return _plus(self.first.T(y), self.second.T(y))


class Multiple(ForwardOperator):
    """A number times an operator."""

    def __init__(self, factor: float, operator: ForwardOperator) -> None:
        super().__init__(operator.domain, operator.codomain)
        self.factor = float(factor)
        self.operator = operator

    def _apply_batched(self, m: Any) -> Any:
        return _times(self.factor, self.operator(m))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the operator."""
        return self.operator.capabilities


class LinearMultiple(LinearMap):
    """A number times a linear map."""

    def __init__(self, factor: float, operator: LinearMap) -> None:
        super().__init__(operator.domain, operator.codomain)
        self.factor = float(factor)
        self.operator = operator

    def _apply_batched(self, m: Any) -> Any:
        return _times(self.factor, self.operator(m))

    def _adjoint_batched(self, y: Any) -> Any:
        return _times(self.factor, self.operator.T(y))

    def solve(self, y: Tensor) -> Tensor:
        """Inverse of the map divided by the number."""
        return self.operator.solve(y) / self.factor

    def log_abs_det(self) -> Tensor:
        """N log |factor| more than that of the map."""
        log_abs_det: Tensor = self.operator.log_abs_det() + self.operator.domain.size * math.log(abs(self.factor))
        return log_abs_det


class Affine(ForwardOperator):
    """`offset + A m`; its derivative is the same everywhere, which is all that `Capability.LINEAR` promises."""

    linear: ClassVar[bool] = True

    offset: Tensor

    def __init__(self, map: LinearMap, offset: Tensor) -> None:
        super().__init__(map.domain, map.codomain)
        self.codomain.batch_shape(offset, "offset")
        self.map = map
        self.register_buffer("offset", offset)

    def _apply_batched(self, m: Any) -> Any:
        return self.map(m) + self.offset.to(m.dtype)

    def linearise(self, m: Tensor) -> tuple[Any, LinearMap]:
        """The value and, without batch axes, the linear part."""
        if self.domain.batch_shape(m):
            return super().linearise(m)
        return self(m), self.map


class Stack(ForwardOperator):
    """Several operators of the same m, side by side: a dictionary of results."""

    def __init__(self, operators: dict[str, ForwardOperator]) -> None:
        domain = _common_domain(operators)
        super().__init__(domain, ProductSpace({k: cast(Space, g.codomain) for k, g in operators.items()}))
        for name, operator in operators.items():
            self.add_module(name, operator)
        self.names = tuple(operators)

    def _apply_batched(self, m: Any) -> Any:
        return {name: getattr(self, name)(m) for name in self.names}


class LinearStack(LinearMap):
    """Several linear maps side by side; the adjoint adds up theirs."""

    def __init__(self, operators: dict[str, LinearMap]) -> None:
        domain = _common_domain(operators)
        super().__init__(domain, ProductSpace({k: cast(Space, g.codomain) for k, g in operators.items()}))
        for name, operator in operators.items():
            self.add_module(name, operator)
        self.names = tuple(operators)

    def _apply_batched(self, m: Any) -> Any:
        return {name: getattr(self, name)(m) for name in self.names}

    def _adjoint_batched(self, y: Any) -> Any:
        total = getattr(self, self.names[0]).T(y[self.names[0]])
        for name in self.names[1:]:
            total = total + getattr(self, name).T(y[name])
        return total


def stack(**operators: ForwardOperator) -> ForwardOperator:
    """Operators of one m side by side: `stack(a=G, b=H)(m) = {"a": G(m), "b": H(m)}`.

    Raises:
        ShapeError: If their domains differ.
    """
    if all(isinstance(g, LinearMap) for g in operators.values()):
        return LinearStack(cast(dict[str, LinearMap], operators))
    return Stack(operators)


class Partial(ForwardOperator):
    """An operator on a product space with some factors held fixed."""

    def __init__(self, operator: ForwardOperator, **fixed: Tensor) -> None:
        domain = operator.domain
        if not isinstance(domain, ProductSpace) or not set(fixed) < set(domain.factors):
            message = f"`partial` fixes some factors of a product space, got {sorted(fixed)} for {domain.name}."
            raise ShapeError(message)
        free = {name: space for name, space in domain.factors.items() if name not in fixed}
        self_domain: AnySpace = next(iter(free.values())) if len(free) == 1 else ProductSpace(free)
        super().__init__(self_domain, operator.codomain)
        self.operator = operator
        self.free = tuple(free)
        self.fixed = tuple(fixed)
        for name, value in fixed.items():
            domain.factors[name].batch_shape(value, name)
            self.register_buffer(f"fixed_{name}", value)

    def _apply_batched(self, m: Any) -> Any:
        free = dict(m) if isinstance(m, dict) else {self.free[0]: m}
        b = len(next(iter(free.values())))
        values = {name: getattr(self, f"fixed_{name}") for name in self.fixed}
        return self.operator(free | {k: v.expand(b, *v.shape) for k, v in values.items()})


def _common_domain(operators: Any) -> AnySpace:
    domains = [g.domain for g in operators.values()]
    if not domains or not all(domains[0].compatible(d) for d in domains):
        message = f"stacked operators need one common domain, got {[d.shape for d in domains]}."
        raise ShapeError(message)
    return cast(AnySpace, domains[0])


def _plus(a: Any, b: Any) -> Any:
    return {k: a[k] + b[k] for k in a} if isinstance(a, dict) else a + b


def _times(factor: float, a: Any) -> Any:
    return {k: factor * v for k, v in a.items()} if isinstance(a, dict) else factor * a
