"""Drifts b(x) of stochastic differential equations, with numbers that may be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.sde.quantities import Quantity, Range, Unknown


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
    vectors: ClassVar[Mapping[str, int]] = {}

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
    vectors: ClassVar[Mapping[str, int]] = {}

    @property
    def ranges(self) -> dict[str, Range]:
        """Range of each number, by name."""
        return {"strength": "positive", "width": "positive"}

    def __call__(self, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The drift at `x`; `values` hold all numbers by name and broadcast."""
        return values["strength"] * x * (1 - (x / values["width"]).square())


@dataclass(frozen=True)
class NetworkDrift:
    r"""b(x) = strength (d + sum_j c_j tanh(2 a_j x / reach + 2 b_j) / sqrt(units)) with unknown weights a, b, c, d.

    A priori all weights are standard normal: b is a smooth random function of size `strength` that
    varies over distances of about `reach`. The search starts at b = 0.

    Args:
        units: Number of hidden units.
        reach: Of x.
        strength: Of b.
    """

    units: int = 8
    reach: float = 1.0
    strength: float = 1.0

    linear = False
    weights: ClassVar[Unknown] = Unknown(0.0, spread=1.0)

    @property
    def ranges(self) -> dict[str, Range]:
        """The weights, in one vector."""
        return {"weights": "real"}

    @property
    def vectors(self) -> Mapping[str, int]:
        """Numbers that are vectors, and their lengths."""
        return {"weights": 3 * self.units + 1}

    def start(self) -> Tensor:
        """Weights at the start of the search, `(3 units + 1,)`: random units, of which none counts."""
        generator = torch.Generator().manual_seed(0)
        inner = randn((2 * self.units,), torch.zeros(0, dtype=torch.float64), generator)
        return torch.cat([inner, inner.new_zeros(self.units + 1)])

    def __call__(self, x: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The drift at `x` of any shape; `values` hold the weights."""
        slopes, shifts, heights, level = values["weights"].split([self.units] * 3 + [1])
        hidden = torch.tanh(2 * x[..., None] * (slopes / self.reach) + 2 * shifts)
        value: Tensor = self.strength * (level[0] + (hidden @ heights) / self.units**0.5)
        return value


Drift = AffineDrift | DoubleWellDrift | NetworkDrift
