"""Numbers of a model that may be unknown, and the real variables in which they are estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError

Range = Literal["real", "positive", "unit"]


@dataclass(frozen=True)
class Unknown:
    """A number to be estimated.

    Args:
        start: Where the search starts, and median of the prior.
        spread: Standard deviation of the prior: of the number itself (levels), of its logarithm (positive numbers) or
            of its logit (Hurst indices). None for a flat prior in these variables, that is, maximum likelihood.
        truth: Value behind simulated data; by default a draw of the prior, or `start` where it is flat.

    Raises:
        ConfigError: If `spread` is not positive or a number is not finite.
    """

    start: float
    spread: float | None = None
    truth: float | None = None

    def __post_init__(self) -> None:
        numbers = [self.start, *(v for v in (self.spread, self.truth) if v is not None)]
        if not all(map(math.isfinite, numbers)) or (self.spread is not None and self.spread <= 0):
            message = f"an unknown needs finite numbers and a positive `spread`, got {self}."
            raise ConfigError(message)


Quantity = float | Unknown


def to_real(value: Tensor, inside: Range) -> Tensor:
    """The real variable of a number: itself, its logarithm, or its logit."""
    if inside == "positive":
        return value.log()
    return torch.logit(value) if inside == "unit" else value


def from_real(raw: Tensor, inside: Range) -> Tensor:
    """The number of a real variable."""
    if inside == "positive":
        return raw.exp()
    return torch.sigmoid(raw) if inside == "unit" else raw


def check_range(name: str, quantity: Quantity, inside: Range) -> None:
    """Refuse values outside their range.

    Raises:
        ConfigError: Naming the quantity.
    """
    given = [quantity.start, quantity.truth] if isinstance(quantity, Unknown) else [quantity]
    for value in given:
        if value is None or inside == "real":
            continue
        if not (0 < value < (1 if inside == "unit" else math.inf)):
            span = "strictly between 0 and 1" if inside == "unit" else "positive"
            message = f"`{name}` should be {span}, got {value:g}."
            raise ConfigError(message)
