"""Data of flow problems: errors of the sensors, and a finer run that makes truth and measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.operators import ForwardOperator
from sciprob.priors.base import Prior
from sciprob.spaces import Space

if TYPE_CHECKING:
    from sciprob.operators.host import HostOperator


@dataclass(frozen=True)
class FlowNoise:
    """Independent Gaussian errors.

    Args:
        velocity: Standard deviation of each component of the velocity.
        pressure: Standard deviation of the pressure.
    """

    velocity: float
    pressure: float

    def __post_init__(self) -> None:
        if not (self.velocity > 0 and self.pressure > 0):
            message = f"the noise's standard deviations should be positive, got {self.velocity} and {self.pressure}."
            raise ConfigError(message)

    def on(self, space: Space) -> Tensor:
        """Standard deviations of `(..., n_components)` values in the order (u, v[, p])."""
        std = [self.velocity, self.velocity, self.pressure][: space.shape[-1]]
        return torch.tensor(std, dtype=torch.float64).expand(space.shape).clone()


class FinerFlowSimulator:
    """Truth from the prior, data from a finer mesh and a smaller time step than the inversion's.

    Args:
        build: Makes the finer flow; called at the first use.
        points: Sensors `(n, d)`.
        measured: Which fields they measure.
        prior: Prior of the unknown numbers.
        noise: The likelihood's noise model.
    """

    def __init__(
        self, build: Callable[[], HostOperator], points: Tensor, measured: tuple[Any, ...], prior: Prior, noise: Any
    ) -> None:
        self._build, self._points, self._measured = build, points, measured
        self._prior, self._noise = prior, noise

    @cached_property
    def operator(self) -> ForwardOperator:
        """The finer model of the data."""
        from sciprob.engines.fenicsx_flow_space import FlowObservation

        flow = self._build()
        return FlowObservation(flow.codomain, self._points, self._measured) @ flow

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Truth and data, on the device of the noise model."""
        device = self._noise.std.device
        truth = self._prior.sample(generator=generator)
        with torch.no_grad():
            clean = self.operator(truth.cpu()).to(device)
        data: Tensor = self._noise.sample(clean, generator=generator)
        return truth.to(device), data
