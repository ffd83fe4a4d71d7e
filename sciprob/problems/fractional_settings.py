"""Settings of problems whose unknown is a path: drift, initial law, observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.random import Streams
from sciprob.sde.diffusions import RootDiffusion
from sciprob.sde.drifts import AffineDrift, DoubleWellDrift, Drift, NetworkDrift
from sciprob.sde.quantities import Quantity, Unknown


@dataclass(frozen=True)
class DriftSettings:
    """The drift b(x).

    Args:
        kind: `none`; `affine`: reversion (level - x); `double-well`: strength x (1 - (x / width)^2); `network`: an
            unknown smooth function, by a neural network.
        reversion: 1 / time.
        level: Where `affine` tends to.
        strength: 1 / time; of a network the size of b that is expected.
        width: Distance of the wells from 0.
        units: Hidden units of the network.
        reach: Distance in x over which the network is expected to vary.
    """

    kind: Literal["none", "affine", "double-well", "network"]
    reversion: Quantity = 0.0
    level: Quantity = 0.0
    strength: Quantity = 1.0
    width: Quantity = 1.0
    units: int = 8
    reach: float = 1.0

    def __post_init__(self) -> None:
        known = isinstance(self.strength, float)
        if self.kind == "network" and not (known and self.strength > 0 and self.units >= 1 and self.reach > 0):  # type: ignore[operator]
            message = (
                "a network as drift needs positive numbers `units`, `reach` and `strength`, got "
                f"{self.units}, {self.reach} and {self.strength}."
            )
            raise ConfigError(message)

    def drift(self) -> Drift:
        """The drift itself."""
        if self.kind == "network":
            assert isinstance(self.strength, float)
            return NetworkDrift(self.units, self.reach, self.strength)
        if self.kind == "double-well":
            return DoubleWellDrift(self.strength, self.width)
        return AffineDrift() if self.kind == "none" else AffineDrift(self.reversion, self.level)


@dataclass(frozen=True)
class DiffusionSettings:
    """How the size of the noise depends on x: scale s(x) o dB, in Stratonovich's sense.

    Args:
        kind: `constant`: 1; `root`: sqrt(1 + (x / width)^2).
        width: Of `root`.
    """

    kind: Literal["constant", "root"] = "constant"
    width: Quantity = 1.0

    def diffusion(self) -> RootDiffusion | None:
        """The diffusion itself; None where it is constant."""
        return RootDiffusion(self.width) if self.kind == "root" else None


@dataclass(frozen=True)
class InitialSettings:
    """The law of x(0), N(mean, std^2).

    Args:
        mean: Mean.
        std: Standard deviation; 0 for a known start.
    """

    mean: float = 0.0
    std: float = 0.0

    def __post_init__(self) -> None:
        if not self.std >= 0:
            message = f"`std` of the start should not be negative, got {self.std}."
            raise ConfigError(message)


@dataclass(frozen=True)
class ObservationSettings:
    """When the path is observed, and how well.

    Args:
        std: Standard deviation of the errors, positive; a table (`start`, ...) if it is unknown.
        times: Times of the observations.
        values: What was observed then; without them data are simulated.
        count: Without `times`: number of grid times, drawn at random.
        seed: Of the drawn times.
    """

    std: Quantity
    times: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    count: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        number = self.nominal_std
        if not number > 0:
            message = f"`std` of the observations should be positive, got {number}; write 1e-3 for nearly exact values."
            raise ConfigError(message)
        if (not self.times) == (self.count < 1):
            message = f"give `times` of the observations or their `count`, got {len(self.times)} and {self.count}."
            raise ConfigError(message)
        if self.values and len(self.values) != len(self.times):
            message = f"`values` should be as many as `times`, got {len(self.values)} and {len(self.times)}."
            raise ConfigError(message)

    @property
    def nominal_std(self) -> float:
        """The standard deviation, or where its search starts."""
        return self.std.start if isinstance(self.std, Unknown) else self.std

    @property
    def true_std(self) -> float:
        """The standard deviation behind simulated data."""
        if not isinstance(self.std, Unknown):
            return self.std
        return self.std.start if self.std.truth is None else self.std.truth

    def on(self, grid: Tensor) -> Tensor:
        """Times of the observations, sorted; those drawn are of the grid after its first time."""
        if self.times:
            return torch.tensor(sorted(self.times), dtype=torch.float64)
        if self.count > len(grid) - 1:
            message = f"`count` of the observations should be at most the {len(grid) - 1} steps, got {self.count}."
            raise ConfigError(message)
        order = torch.randperm(len(grid) - 1, generator=Streams(self.seed)["observations"])[: self.count]
        return grid[1 + order.sort().values]
