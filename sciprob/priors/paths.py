"""Paths of stochastic differential equations as priors."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.operators.base import Capability
from sciprob.operators.linear import DenseMap
from sciprob.priors.base import GaussianPrior, Prior
from sciprob.sde.path_model import PathModel
from sciprob.sde.simulate import simulate_path
from sciprob.spaces import Space

_LARGEST = 1500  # times up to which a Gaussian path has its covariance root as a matrix


class PathPrior(Prior):
    """The law of x at the times of `space`, for solvers that know paths (`Capability.PATH`).

    Unknown numbers of the model are part of the prior: a draw draws them first, as `PathModel.truth` does.

    Args:
        space: Space of the path, from `path_space`.
        model: The equation.
    """

    def __init__(self, space: Space, model: PathModel) -> None:
        super().__init__(space)
        self.model = model

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Paths."""
        return frozenset({Capability.PATH})

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, n)`, float64, with one draw of the unknown numbers for all."""
        values = self.model.values(self.model.truth(generator))
        return simulate_path(self.model, values, self.space.coords["time"], generator=generator, shape=shape)


class GaussianPathPrior(GaussianPrior):
    """A Gaussian path with known numbers, which general Gaussian solvers take too.

    Args:
        space: Space of the path, at most 1500 times.
        model: The equation, without unknowns.
    """

    def __init__(self, space: Space, model: PathModel) -> None:
        process = model.process(model.values(model.start()))
        times = space.coords["time"]
        white = Space((len(times),), name="xi")
        root = DenseMap(covariance_root(process.covariance(times, times)), white, space)
        super().__init__(process.mean(times), root)
        self.model = model

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Paths, and what a Gaussian has."""
        return super().capabilities | {Capability.PATH}


def path_prior(space: Space, model: PathModel) -> PathPrior | GaussianPathPrior:
    """The Gaussian prior where the path is one, known, with a closed covariance and not too long."""
    plain = model.gaussian and not model.unknowns and len(space.coords["time"]) <= _LARGEST
    reversion = float(model.values(model.start()).get("reversion", torch.zeros(()))) if plain else 0.0
    closed = reversion == 0 or (reversion > 0 and model.kind == "I")
    return GaussianPathPrior(space, model) if plain and closed else PathPrior(space, model)


def covariance_root(covariance: Tensor) -> Tensor:
    """A matrix R with R R^T = covariance, which may be singular; by eigenvectors of the correlation."""
    deviation = covariance.diagonal().clamp_min(0).sqrt()
    safe = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    values, vectors = torch.linalg.eigh(covariance / (safe[:, None] * safe))
    root: Tensor = deviation[:, None] * vectors * values.clamp_min(0).sqrt()
    return root
