"""Elementwise monotone maps that keep a parameter positive or between bounds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.operators.base import ForwardOperator, event_space
from sciprob.operators.linear import DiagonalMap, LinearMap
from sciprob.spaces import Space


class Elementwise(ForwardOperator):
    """m_i = t(x_i) with a smooth, strictly increasing t from the real line onto (lower, upper).

    Because t increases, quantiles of x map to quantiles of m. Subclasses implement
    `_apply_batched`, `_inverse` and `log_derivative` on tensors of any shape.

    Args:
        domain: Space of x.
        codomain: Space of m, of the same shape; default the same space.

    Raises:
        ShapeError: If the shapes differ.
    """

    kind: ClassVar[str]

    def __init__(self, domain: Space, codomain: Space | None = None) -> None:
        codomain = domain if codomain is None else codomain
        if domain.shape != codomain.shape:
            message = f"an elementwise map keeps the shape {domain.shape}, got the codomain {codomain.shape}."
            raise ShapeError(message)
        super().__init__(domain, codomain)

    @property
    def range(self) -> tuple[float, float]:
        """Infimum and supremum of m; neither is attained, except by rounding."""
        return 0.0, math.inf

    def inverse(self, m: Tensor) -> Tensor:
        """The x with t(x) = m, elementwise.

        Raises:
            DataError: If an entry of m lies outside the open range.
        """
        lower, upper = self.range
        bad = ~((m > lower) & (m < upper))
        if bool(bad.any()):
            entry = tuple(int(i) for i in bad.nonzero()[0])
            message = (
                f"`{self.codomain.name}` should lie strictly between {lower:g} and {upper:g}, entry {entry} is "
                f"{float(m[entry]):g}; choose another parameterisation or correct the value."
            )
            raise DataError(message)
        return self._inverse(m)

    def _inverse(self, m: Tensor) -> Tensor:
        """The inverse inside the range; NaN or infinite elsewhere."""
        raise NotImplementedError

    def log_derivative(self, x: Tensor) -> Tensor:
        """Log t'(x), elementwise."""
        raise NotImplementedError

    def linearise(self, m: Tensor) -> tuple[Any, LinearMap]:
        """The value and the diagonal of derivatives."""
        space = event_space(self.domain, self.domain.batch_shape(m))
        return self(m), DiagonalMap(self.log_derivative(m.detach()).exp(), space)

    def settings(self) -> dict[str, Any]:
        """Plain description `{"kind": ..., ...}`; `from_settings` rebuilds the map from it."""
        return {"kind": self.kind}

    def on(self, domain: Space, codomain: Space | None = None) -> Self:
        """The same function on another space, as after evaluation at points."""
        arguments = {key: value for key, value in self.settings().items() if key != "kind"}
        return type(self)(domain, codomain, **arguments)


class Exp(Elementwise):
    """m = exp(x) > 0; x is a log-quantity and its differences are relative changes."""

    kind = "exp"

    def _apply_batched(self, m: Any) -> Any:
        return m.exp()

    def _inverse(self, m: Tensor) -> Tensor:
        return m.log()

    def log_derivative(self, x: Tensor) -> Tensor:
        """Log exp(x) = x."""
        return x


class Softplus(Elementwise):
    """m = log(1 + exp(x)) > 0; nearly m = x for large x, so large values grow no faster than x."""

    kind = "softplus"

    def _apply_batched(self, m: Any) -> Any:
        return torch.logaddexp(m, torch.zeros_like(m))

    def _inverse(self, m: Tensor) -> Tensor:
        return m + torch.log(-torch.expm1(-m))

    def log_derivative(self, x: Tensor) -> Tensor:
        """Log sigmoid(x)."""
        return functional.logsigmoid(x)


class Bounded(Elementwise):
    """m = lower + (upper - lower) sigmoid(x), between two bounds.

    Args:
        domain: Space of x.
        codomain: Space of m; default the same space.
        lower: Lower bound.
        upper: Upper bound.

    Raises:
        ConfigError: If the bounds are not finite and increasing.
    """

    kind = "bounded"

    def __init__(self, domain: Space, codomain: Space | None = None, *, lower: float = 0.0, upper: float = 1.0) -> None:
        super().__init__(domain, codomain)
        if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            message = f"bounds should be finite with lower < upper, got {lower} and {upper}; swap or correct them."
            raise ConfigError(message)
        self.lower, self.upper = float(lower), float(upper)

    @property
    def range(self) -> tuple[float, float]:
        """The bounds."""
        return self.lower, self.upper

    def settings(self) -> dict[str, Any]:
        """Kind and bounds."""
        return {"kind": self.kind, "lower": self.lower, "upper": self.upper}

    def _apply_batched(self, m: Any) -> Any:
        # from the nearer bound, so that the distance to it keeps its relative accuracy
        width = self.upper - self.lower
        return torch.where(m < 0, self.lower + width * torch.sigmoid(m), self.upper - width * torch.sigmoid(-m))

    def _inverse(self, m: Tensor) -> Tensor:
        return (m - self.lower).log() - (self.upper - m).log()

    def log_derivative(self, x: Tensor) -> Tensor:
        """Log of (upper - lower) sigmoid(x) sigmoid(-x)."""
        return math.log(self.upper - self.lower) + functional.logsigmoid(x) + functional.logsigmoid(-x)


ELEMENTWISE: dict[str, type[Elementwise]] = {cls.kind: cls for cls in (Exp, Softplus, Bounded)}


def from_settings(settings: Mapping[str, Any], domain: Space, codomain: Space | None = None) -> Elementwise:
    """Build an elementwise map from its `settings()`, as in files: `{"kind": "bounded", "lower": 0, "upper": 1}`.

    Raises:
        ConfigError: If the kind is unknown or an argument is not one of its settings.
    """
    kind = settings.get("kind")
    if kind not in ELEMENTWISE:
        nearest = difflib.get_close_matches(str(kind), ELEMENTWISE, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {sorted(ELEMENTWISE)}."
        message = f"unknown elementwise map {kind!r}; {hint}"
        raise ConfigError(message)
    arguments = {key: value for key, value in settings.items() if key != "kind"}
    allowed = {"lower", "upper"} if kind == "bounded" else set()
    if not set(arguments) <= allowed:
        message = f"the map {kind!r} takes {sorted(allowed) or 'no settings'}, got {sorted(arguments)}."
        raise ConfigError(message)
    return ELEMENTWISE[kind](domain, codomain, **arguments)
