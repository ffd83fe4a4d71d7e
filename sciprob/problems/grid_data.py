"""Where and when states on grids are measured, and data of a finer grid."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sciprob.operators import ForwardOperator, LinearMap, PointObservation
from sciprob.operators.observe_spectral import SpaceTimeObservation, SpectralObservation
from sciprob.priors.base import Prior
from sciprob.spaces import GridSpace, Space

Model = tuple[Prior, ForwardOperator]


class Measurements:
    """Where, and for trajectories when, a state is measured.

    Args:
        points: Places `(n, d)`.
        snapshots: Times at which every place is measured; None for stationary states.
        times: Instead, the time of each place, `(n,)`.
    """

    def __init__(self, points: Tensor, snapshots: Tensor | None = None, times: Tensor | None = None) -> None:
        self.points, self.times = points, times
        self._snapshots = snapshots

    @property
    def stored_times(self) -> Tensor:
        """Times that a trajectory stores, so that no measurement lies between two of them."""
        if self.times is not None:
            stored: Tensor = torch.cat([self.times.new_zeros(1), self.times]).unique()
            return stored
        assert self._snapshots is not None
        return self._snapshots

    @property
    def coordinates(self) -> dict[str, Tensor]:
        """Coordinates of all measurements, one entry each."""
        points, times = self.points, self.times
        if times is None and self._snapshots is not None:
            times = self._snapshots.repeat_interleave(len(points))
            points = points.repeat(len(self._snapshots), 1)
        coords = {axis: points[:, i] for i, axis in enumerate("xyz"[: points.shape[1]])}
        return coords if times is None else coords | {"time": times}

    def observe(self, state: Space, grid: GridSpace, boundary: str) -> LinearMap:
        """The observation of a field or trajectory on `grid`."""
        if self.times is None:
            return SpectralObservation(state, grid, self.points, boundary)
        # two neighbours suffice, because every time is stored
        return SpaceTimeObservation(state, grid, self.points, self.times, boundary=boundary, order=2)


class FinerGridSimulator:
    """Truth and data from a finer grid than the inversion's, so that no method gains from sharing it.

    The truth is drawn from the prior on the fine grid, observed through the fine model with the
    likelihood's own noise, and evaluated at the points of the inversion's grid.

    Args:
        build: Makes prior and observed operator on the fine grid; called at the first use.
        noise: The likelihood's noise model.
        space: Space of the unknown in the inversion; a grid, or a space without geometry.
    """

    def __init__(self, build: Callable[[], Model], noise: Any, space: Space) -> None:
        self._build, self._noise, self._space = build, noise, space

    @cached_property
    def model(self) -> Model:
        """Prior and observed operator on the fine grid."""
        return self._build()

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Truth on the inversion's grid and data, on the device of the noise model."""
        prior, operator = self.model
        fine = prior.sample(generator=generator)
        with torch.no_grad():
            clean = operator(fine).to(self._noise.std.device)
        data: Tensor = self._noise.sample(clean, generator=generator)
        truth = fine
        if isinstance(prior.space, GridSpace) and isinstance(self._space, GridSpace):
            truth = transfer(prior.space, self._space)(fine).reshape(self._space.shape)
        return truth.to(clean.device), data


def transfer(fine: GridSpace, coarse: GridSpace) -> LinearMap:
    """Values of a fine field at all points of a coarse grid, `(coarse.size,)`.

    Trigonometric on periodic grids; multilinear on bounded ones, where a field without boundary
    conditions has no short trigonometric series.
    """
    if fine.centring == "periodic":
        return SpectralObservation(fine, fine, coarse.points())
    return PointObservation(fine, coarse.points())
