"""Drifts b(x) of stochastic differential equations, with numbers that may be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sciprob.sde.quantities import Quantity, Range


@dataclass(frozen=True)
class AffineDrift:
    """b(x) = reversion (level - x); reversion 0 is no drift.

    Args:
        reversion: theta, 1 / time. A known one may be 0 or negative; an unknown one is positive.
        level: mu.
    """

    reversion: Quantity = 0.0
    level: Quantity = 0.0

    linear = True

    @property
    def ranges(self) -> dict[str, Range]:
        """Range of each number, by name."""
        return {"reversion": "positive", "level": "real"}

    def __call__(self, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The drift at `x`; `values` hold all numbers by name and broadcast."""
        return values["reversion"] * (values["level"] - x)


@dataclass(frozen=True)
class DoubleWellDrift:
    """b(x) = strength x (1 - (x / width)^2): minima of the potential at +- width, a barrier at 0.

    Args:
        strength: 1 / time, positive.
        width: Positive.
    """

    strength: Quantity = 1.0
    width: Quantity = 1.0

    linear = False

    @property
    def ranges(self) -> dict[str, Range]:
        """Range of each number, by name."""
        return {"strength": "positive", "width": "positive"}

    def __call__(self, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The drift at `x`; `values` hold all numbers by name and broadcast."""
        return values["strength"] * x * (1 - (x / values["width"]).square())


Drift = AffineDrift | DoubleWellDrift
