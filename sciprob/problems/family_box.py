"""A box of parameters with the uniform prior, and its map to the cube [-1, 1]^d."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.spaces import Space


@dataclass(frozen=True)
class ParameterBox:
    """Numbers z in [lower, upper], independent and uniform; without names an empty box, for a family without them.

    Two scales are offered. The prior (`sample`) is uniform in z itself. Networks see `unit(z)` in [-1, 1]^d, in
    which parameters with `log` are scaled by their logarithm, so that `from_unit` of uniform points is
    log-uniform in them: corners with a small viscosity are then trained as often as the others.

    Args:
        names: One name per parameter.
        lower: Lower ends.
        upper: Upper ends.
        log: Which parameters have a logarithmic unit scale; by default none.
        name: Name of their space.

    Raises:
        ConfigError: If the lengths differ, an interval is empty, or a logarithm is asked of a bound that is not
            positive.
    """

    names: tuple[str, ...] = ()
    lower: tuple[float, ...] = ()
    upper: tuple[float, ...] = ()
    log: tuple[bool, ...] = ()
    name: str = "z"

    def __post_init__(self) -> None:
        if not self.log:
            object.__setattr__(self, "log", (False,) * len(self.names))
        if len({len(self.names), len(self.lower), len(self.upper), len(self.log)}) != 1:
            message = (
                f"a parameter box needs as many lower and upper ends (and log flags) as names, got {self.names}, "
                f"{self.lower}, {self.upper}, {self.log}."
            )
            raise ConfigError(message)
        for name, low, high, log in zip(self.names, self.lower, self.upper, self.log, strict=True):
            if not (-math.inf < low < high < math.inf):
                message = f"parameter `{name}` needs finite ends with lower < upper, got {low} and {high}."
                raise ConfigError(message)
            if log and low <= 0:
                message = f"parameter `{name}` has a logarithmic scale, so its ends should be positive, got {low}."
                raise ConfigError(message)

    @property
    def size(self) -> int:
        """Number of parameters d."""
        return len(self.names)

    @property
    def space(self) -> Space:
        """The space of z, `(d,)`, with the names as labels."""
        return Space((self.size,), name=self.name, labels=self.names)

    def ends(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper ends, `(d,)` each, in dtype and on the device of `like`."""
        return like.new_tensor(self.lower), like.new_tensor(self.upper)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws of the uniform prior, `(n, d)`, float64, on the generator's device."""
        q = torch.rand(n, self.size, generator=generator, device=generator.device, dtype=torch.float64)
        lower, upper = self.ends(q)
        return lower + (upper - lower) * q

    def unit(self, z: Tensor) -> Tensor:
        """Parameters `(*batch, d)` in the scale of networks: [-1, 1] inside the box, beyond it outside.

        Where the scale is logarithmic, values that are not positive give NaN or -inf; `contains` says so before.
        """
        lower, upper = self._scaled_ends(z)
        return 2 * (self._scaled(z) - lower) / (upper - lower) - 1

    def from_unit(self, unit: Tensor) -> Tensor:
        """The inverse of `unit`, `(*batch, d)`."""
        lower, upper = self._scaled_ends(unit)
        scaled = lower + (upper - lower) * (unit + 1) / 2
        return torch.where(self._flags(unit), scaled.exp(), scaled)

    def contains(self, z: Tensor) -> Tensor:
        """Whether parameters `(*batch, d)` lie in the closed box, up to rounding, `(*batch,)`; NaN does not."""
        self.space.batch_shape(z)
        lower, upper = self.ends(z)
        slack = 4 * torch.finfo(z.dtype).eps * (upper.abs() + lower.abs())
        return ((z >= lower - slack) & (z <= upper + slack)).all(-1)

    def _flags(self, like: Tensor) -> Tensor:
        return torch.tensor(self.log, dtype=torch.bool, device=like.device)

    def _scaled(self, z: Tensor) -> Tensor:
        flags = self._flags(z)  # a second `where` keeps the gradient of the branch not taken finite
        return torch.where(flags, torch.where(flags, z, torch.ones_like(z)).log(), z)

    def _scaled_ends(self, like: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self.ends(like)
        return self._scaled(lower), self._scaled(upper)
