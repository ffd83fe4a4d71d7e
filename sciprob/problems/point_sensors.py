"""Where sensors stand, and data of a finer model: what problems with point sensors share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError
from sciprob.operators import ForwardOperator, PointObservation
from sciprob.priors.base import Prior
from sciprob.random import Streams
from sciprob.spaces import FESpace, Mesh


@dataclass(frozen=True)
class SensorLayout:
    """Sensors at random places, uniform over the domain.

    Args:
        count: How many.
        seed: Seed of their places.
        distance: Smallest distance from the boundary (from its nodes), holes included.
    """

    count: int = 50
    seed: int = 1
    distance: float = 0.05

    def __post_init__(self) -> None:
        if self.count < 1:
            message = f"`count` should be at least 1, got {self.count}."
            raise ConfigError(message)
        if not self.distance >= 0:
            message = f"`distance` should not be negative, got {self.distance}."
            raise ConfigError(message)

    def place(self, mesh: Mesh) -> Tensor:
        """Points `(count, d)`, float64; those of a smaller count are the first of a larger one.

        Raises:
            ConfigError: If next to no point of the domain is that far from the boundary.
        """
        from scipy.spatial import cKDTree

        boundary = cKDTree(mesh.points[np.unique(mesh.boundary_facets)])
        lower, upper = mesh.points.min(axis=0), mesh.points.max(axis=0)
        generator = Streams(self.seed)["sensors"]
        kept: list[Any] = []
        for _ in range(1000):
            uniform = torch.rand(200, mesh.dim, generator=generator, dtype=torch.float64).numpy()
            points = lower + (upper - lower) * uniform
            cell, _ = mesh.locator.locate(points, 0.0)
            kept.extend(points[(cell >= 0) & (boundary.query(points)[0] >= self.distance)])
            if len(kept) >= self.count:
                return torch.tensor(np.array(kept[: self.count]))
        message = f"`distance` = {self.distance:g} from the boundary leaves no room for {self.count} sensors; lower it."
        raise ConfigError(message)


class FinerMeshSimulator:
    """Truth and data from a finer mesh than the inversion's, so that no method gains from sharing the mesh of its data.

    The truth is drawn from the prior on the fine mesh, observed through the fine forward model with
    the likelihood's own noise, and interpolated at the nodes of the coarse mesh.

    Args:
        build: Makes the prior and the operator m -> full state on the fine mesh; called at the first use.
        points: Sensors `(n, d)`.
        noise: The likelihood's noise model.
        space: Space of the unknown in the inversion.
    """

    def __init__(
        self,
        build: Callable[[], tuple[Prior, ForwardOperator]],
        points: Tensor,
        noise: Any,
        space: FESpace,
    ) -> None:
        self._build = build
        self._points = points
        self._noise = noise
        self._space = space

    @cached_property
    def model(self) -> tuple[Prior, ForwardOperator, PointObservation]:
        """Prior, observed forward operator and interpolation to the coarse nodes, all of the fine mesh.

        Raises:
            DataError: If the fine mesh does not cover the sensors and the coarse mesh.
        """
        prior, state = self._build()
        try:
            observe = PointObservation(state.codomain, self._points)
            transfer = PointObservation(prior.space, self._space.points())
        except DataError as error:
            message = f"the mesh of the data does not cover the inversion's: {error}"
            raise DataError(message) from error
        return prior, observe @ state, transfer

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Truth on the coarse nodes and data, on the device of the noise model."""
        prior, operator, transfer = self.model
        fine = prior.sample(generator=generator)
        with torch.no_grad():
            clean = operator(fine).to(self._noise.std.device)
        data: Tensor = self._noise.sample(clean, generator=generator)
        return transfer(fine).to(clean.device), data
