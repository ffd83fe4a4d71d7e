"""Posteriors of paths that are known at all times: Gaussian paths conditioned in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.linear import LinearMap
from sciprob.operators.store import storable
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.sde.describe import Conditional, describe_conditional, restore_conditional
from sciprob.sde.path_data import path_space
from sciprob.spaces import Space


@storable("path-root")
class PathRoot(LinearMap):
    """White variables -> path minus mean, for exact draws; see `DensePathPosterior.deviation`.

    Args:
        conditional: The conditioned path, without batch axes.
        codomain: Space of the path.
    """

    def __init__(self, conditional: Conditional, codomain: Space) -> None:
        self_times = codomain.coords["time"]
        super().__init__(Space((conditional.white_size(self_times),), name="xi"), codomain)
        self.conditional, self.times = conditional, self_times

    def _apply_batched(self, m: Any) -> Any:
        return self.conditional.deviation(self.times.to(m.device), m.double()).to(m.dtype)

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The conditioned path and its times, for `restore`."""
        settings, tensors = describe_conditional(self.conditional)
        return settings, tensors | {"times": self.times}

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the map again."""
        return cls(restore_conditional(settings, tensors), path_space(tensors["times"]))


class PathPosterior(GaussianPosterior):
    """A path with its exact mean, standard deviation and draws at any times.

    Where numbers of the equation were estimated, it is the posterior given these estimates.

    Args:
        space: Space of the path, from `path_space`.
        conditional: The conditioned path, without batch axes.
        mean: Mean at the times of the space, if already known.
        variance: Variances there, if already known.
        meta: Plain numbers and words.
    """

    def __init__(
        self,
        space: Space,
        conditional: Conditional,
        *,
        mean: Tensor | None = None,
        variance: Tensor | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        if mean is None or variance is None:
            with torch.no_grad():
                mean, std = conditional.at(space.coords["time"].to(conditional.data.values.device))
            variance = std.square()
        super().__init__(space, mean=mean, root=PathRoot(conditional, space), variance=variance, meta=meta)
        self.conditional = conditional

    def at(self, points: Tensor) -> PathPosterior:
        """The path at any times `(m,)` or `(m, 1)`, from 0 to the horizon of the method; no interpolation.

        Raises:
            ShapeError: If `points` has another shape.
        """
        if points.ndim > 2 or (points.ndim == 2 and points.shape[1] != 1):
            message = f"times should be (m,) or (m, 1), got {tuple(points.shape)}."
            raise ShapeError(message)
        space = path_space(points.flatten(), name=self.space.name, unit=self.space.unit)
        return PathPosterior(space, self.conditional, meta=self._origin())
