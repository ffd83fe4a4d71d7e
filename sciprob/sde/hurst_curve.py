"""A Hurst index that changes with time: a formula, or values at knots."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.expressions import Expression


@dataclass(frozen=True)
class HurstFormula:
    """H(t) from text, such as `0.5 + 0.25*sin(2*pi*t)`.

    Args:
        text: Formula in t; checked where it is evaluated, since it has to lie between 0 and 1 there.
    """

    text: str

    def __call__(self, times: Tensor) -> Tensor:
        """H at `times (n,)`, float64.

        Raises:
            ConfigError: If it leaves (0, 1) there, or the text is no formula in t.
        """
        t = times.double()
        values: Tensor = Expression(self.text, ("t",)).on({"t": t})
        values = values.expand(t.shape)
        outside = ~((values > 0) & (values < 1))
        if bool(outside.any()):
            i = int(outside.nonzero()[0])
            message = (
                f"H(t) = {self.text} should lie strictly between 0 and 1, got {float(values[i]):g} at {float(t[i]):g}."
            )
            raise ConfigError(message)
        return values


@dataclass(frozen=True)
class HurstKnots:
    """H(t) linear in time between knots at 0, horizon / (k - 1), ..., horizon, constant beyond.

    Args:
        values: H at the knots, `(*batch, k)`, k at least 2.
        horizon: Time of the last knot.
    """

    values: Tensor
    horizon: float

    def __call__(self, times: Tensor) -> Tensor:
        """H at `times (n,)`, `(*batch, n)`; differentiable in the values."""
        count = self.values.shape[-1]
        place = (times.to(self.values) / self.horizon).clamp(0, 1) * (count - 1)
        left = place.floor().long().clamp_max(count - 2)
        share = place - left
        return self.values[..., left] * (1 - share) + self.values[..., left + 1] * share
