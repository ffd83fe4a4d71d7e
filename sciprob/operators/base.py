"""The forward operator: a deterministic, differentiable map between two spaces.

A torch-native operator implements one method, `_apply_batched`, on exactly one leading batch
axis. Shapes, batches, derivatives and linearisation follow.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from sciprob.errors import ShapeError
from sciprob.operators.counting import SolveCounter
from sciprob.spaces import ProductSpace, Space

if TYPE_CHECKING:
    from sciprob.operators.linear import LinearMap

AnySpace = Space | ProductSpace


class Capability(enum.Enum):
    """What an operator, prior, likelihood or problem offers and a solver may need."""

    JVP = "tangent action of the forward operator (jvp)"
    VJP = "adjoint action of the forward operator (vjp)"
    LINEAR = "a linear (or affine) forward operator"
    WHITENED_PRIOR = "a prior that is a map of standard normal variables"
    GAUSSIAN_PRIOR = "a Gaussian prior"
    PRIOR_LOG_PROB = "a prior density"
    DENOISER = "a diffusion prior, or one that is a map of standard normal variables"
    GAUSSIAN_NOISE = "Gaussian noise"
    FAMILY = "a family of problems (`sciprob fit`)"
    COLLOCATION = "an equation on a box (collocation)"
    PATH = "a path of a stochastic differential equation"
    VIDEO = "a prior of videos that can be drawn"


class ForwardOperator(nn.Module):
    """Deterministic map m -> y from `domain` to `codomain`; all leading axes are batch axes.

    Subclasses implement `_apply_batched`. dtype and device of the output are those of the input;
    the argument is never changed; the same input gives the same output.

    Args:
        domain: Space of m.
        codomain: Space of y.
    """

    linear: ClassVar[bool] = False

    def __init__(self, domain: AnySpace, codomain: AnySpace) -> None:
        super().__init__()
        self.domain: Any = domain  # Space | ProductSpace; Any, so that linear maps on plain spaces need no casts
        self.codomain: Any = codomain
        self._stats = SolveCounter()

    def _apply_batched(self, m: Any) -> Any:
        """Evaluate on one leading batch axis: `(B, *domain)` -> `(B, *codomain)`."""
        raise NotImplementedError

    def forward(self, m: Any) -> Any:
        """Evaluate: `(*batch, *domain)` -> `(*batch, *codomain)`.

        Raises:
            ShapeError: If `m` does not end in the domain's shape.
        """
        batch = self.domain.batch_shape(m)
        return self.codomain.split(self._apply_batched(self.domain.merge(m)), batch)

    def jvp(self, m: Any, dm: Any) -> tuple[Any, Any]:
        """Value and tangent `(G(m), J(m) dm)`; `dm` has the shape of `m`."""
        _check_batch(self.domain, dm, "dm", self.domain.batch_shape(m))
        y, dy = torch.func.jvp(self.forward, (_packed(m),), (_packed(dm),))  # type: ignore[misc]
        return y, dy

    def vjp(self, m: Any, v: Any) -> tuple[Any, Any]:
        """Value and adjoint action `(G(m), J(m)^T v)`; `v` has the shape of `G(m)`."""
        _check_batch(self.codomain, v, "v", self.domain.batch_shape(m))
        y, pullback = torch.func.vjp(self.forward, m)  # type: ignore[misc]
        return y, pullback(v)[0]

    def linearise(self, m: Tensor) -> tuple[Any, LinearMap]:
        """Value and derivative at `m`, for many actions at one point.

        Returns:
            `G(m)` and `J(m)` as a `LinearMap`. With `m (*batch, *domain)` its domain is
            `(*batch, *domain.shape)`: the batch of linearisation points is part of the event,
            so that any number of directions can lead.
        """
        from sciprob.operators.linear import Linearisation

        return Linearisation.at(self, m)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the operator can do; torch-native operators have both derivative actions."""
        linear = {Capability.LINEAR} if self.linear else set()
        return frozenset({Capability.JVP, Capability.VJP} | linear)

    @property
    def stats(self) -> SolveCounter:
        """Solves so far, of this operator and all operators it is made of."""
        total = self._stats + SolveCounter()  # a copy: differences of two readings should not vanish
        for child in self.children():
            if isinstance(child, ForwardOperator):
                total = total + child.stats
        return total

    def __matmul__(self, inner: ForwardOperator) -> ForwardOperator:
        """Composition: `(self @ inner)(m) = self(inner(m))`."""
        from sciprob.operators.algebra import compose

        return compose(self, inner)

    def __add__(self, other: ForwardOperator) -> ForwardOperator:
        from sciprob.operators.algebra import add

        return add(self, other)

    def __sub__(self, other: ForwardOperator) -> ForwardOperator:
        return self + (-1.0) * other

    def __rmul__(self, factor: float) -> ForwardOperator:
        from sciprob.operators.algebra import scale

        return scale(factor, self)

    def __neg__(self) -> ForwardOperator:
        return -1.0 * self

    def __reduce__(self) -> Any:
        message = f"{type(self).__name__} is not pickled; save its `state_dict()` and build it again from its settings."
        raise TypeError(message)

    def extra_repr(self) -> str:
        """Domain and codomain, for `print`."""
        return f"{self.domain.name} {self.domain.shape} -> {self.codomain.name} {self.codomain.shape}"


def event_space(space: AnySpace, batch: torch.Size, name: str | None = None) -> Space:
    """The space whose event is a whole batch of elements of `space`."""
    if isinstance(space, ProductSpace):
        message = "linearise a product space through `flatten`, or one factor at a time with `partial`."
        raise ShapeError(message)
    if not batch:
        return space
    dims = tuple(f"batch_{i}" for i in range(len(batch))) + space.dims
    return Space((*batch, *space.shape), name=name or space.name, dims=dims, unit=space.unit)


def _packed(x: Any) -> Any:
    """A copy of what shares memory with itself, as after `expand`, which torch's forward mode refuses."""
    return {name: part.contiguous() for name, part in x.items()} if isinstance(x, dict) else x.contiguous()


def _check_batch(space: Any, x: Any, name: str, expected: torch.Size) -> None:
    batch = space.batch_shape(x, name)
    if batch != expected:
        message = f"`{name}` should have the batch axes {tuple(expected)} of `m`, got {tuple(batch)}."
        raise ShapeError(message)
