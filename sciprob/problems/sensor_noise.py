"""Errors of sensors, as a setting."""

from __future__ import annotations

from dataclasses import dataclass

from sciprob.errors import ConfigError


@dataclass(frozen=True)
class SensorNoise:
    """Independent Gaussian errors.

    Args:
        std: Standard deviation, in the unit of the state.
    """

    std: float

    def __post_init__(self) -> None:
        if not self.std > 0:
            message = f"`std` of the noise should be positive, got {self.std}."
            raise ConfigError(message)
