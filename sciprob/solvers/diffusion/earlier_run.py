"""Draws of an earlier posterior in the coordinates of a diffusion prior."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.io.store import load_posterior
from sciprob.operators.base import ForwardOperator
from sciprob.operators.observe import PointObservation
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.solvers.linear_algebra import conjugate_gradients
from sciprob.spaces import GridSpace

_TOLERANCE = 1e-5  # of the latent draws, relative to T^T m
_ITERATIONS = 200


def earlier_draws(folder: str | Path, prior: DiffusionPrior, count: int, generator: torch.Generator) -> Tensor:
    """Latent draws x, `(count, *latent.shape)` in float64, of a saved posterior of the same unknown.

    Fields on another grid are interpolated to the points of this one; T(x) = m is solved by least squares.

    Args:
        folder: Of a run, or of a posterior that was saved.
        prior: The diffusion prior of the unknown, m = T(x).
        count: Number of draws.
        generator: Which draws.

    Raises:
        DataError: If there is no posterior in the folder, or its domain does not hold all points of the unknown.
        ConfigError: If its unknown has another name.
        ShapeError: If it has another shape and there is no grid.
        UnsupportedProblemError: If T is not affine.
    """
    transform, space = prior.transform, prior.space
    if transform is not None and not getattr(transform, "linear", False):
        message = "`start` needs a prior whose unknown is affine in its latent variable; leave it out."
        raise UnsupportedProblemError(message)
    posterior = load_posterior(folder)
    if posterior.space.name != space.name:
        message = (
            f"`start` should be a run for `{space.name}`, but the unknown of `{folder}` is `{posterior.space.name}`."
        )
        raise ConfigError(message)
    fields = posterior.ensemble(count, generator=generator).samples.double()
    if isinstance(space, GridSpace):
        fields = PointObservation(posterior.space, space.points())(fields).reshape(count, *space.shape)
    space.batch_shape(fields, "start")
    fields = fields.to(generator.device)
    return fields if transform is None else _latent(transform, fields)


def _latent(transform: ForwardOperator, fields: Tensor) -> Tensor:
    """X of m = offset + L x."""
    with torch.no_grad():
        offset, linear = transform.linearise(fields.new_zeros(transform.domain.shape))
        rhs = linear.T(fields - offset)
        bound = _TOLERANCE * rhs.flatten(1).norm(dim=1)
        return conjugate_gradients(lambda x: linear.T(linear(x)), rhs, bound, _ITERATIONS).solution
