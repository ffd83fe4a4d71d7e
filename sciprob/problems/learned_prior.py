"""The choice between a Gaussian prior and a trained diffusion prior, in the settings of problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.operators.algebra import Affine
from sciprob.operators.base import ForwardOperator
from sciprob.operators.linear import FunctionMap, LinearMap
from sciprob.priors.base import Prior
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.spaces import GridSpace, Space


@dataclass(frozen=True, kw_only=True)
class PriorChoice:
    """What the priors of problems share.

    Args:
        kind: `gaussian`, described by the other settings; `diffusion`, a trained network, which the other settings
            do not touch.
        weights: Name or file of the trained prior (`sciprob train-prior`), for `diffusion`.
    """

    kind: Literal["gaussian", "diffusion"] = "gaussian"
    weights: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "diffusion") != bool(self.weights):
            message = (
                '`kind` and `weights` of a prior go together: `kind = "diffusion"` needs the `weights` of a trained '
                f"prior, any other kind has none; got {self.kind!r} and {self.weights!r}."
            )
            raise ConfigError(message)

    @property
    def learned(self) -> bool:
        """Whether the prior is a trained network."""
        return self.kind == "diffusion"

    def trained(self, space: GridSpace) -> DiffusionPrior:
        """The trained prior with its unknown on the grid of the problem.

        Raises:
            ConfigError: If it was trained for another size, or is not known.
        """
        from sciprob.priors.diffusion.store import load_diffusion_prior

        return placed(load_diffusion_prior(self.weights), space, self.weights)


def placed(prior: DiffusionPrior, space: Space, name: str) -> DiffusionPrior:
    """The same diffusion prior with another space of the same shape for its unknown.

    Raises:
        ConfigError: If the shapes differ.
    """
    if prior.space.shape != space.shape:
        message = (
            f"the prior `{name}` was trained for fields of shape {prior.space.shape}, but the problem's "
            f"`{space.name}` has {space.shape}; set the problem's size to that, or train a prior for this one."
        )
        raise ConfigError(message)
    return DiffusionPrior(
        prior.denoiser,
        renamed(prior.transform, prior.space, space),
        surrogate=prior.surrogate,
        sigma_max=prior.sigma_max,
        sigma_min=prior.sigma_min,
    )


def renamed(transform: ForwardOperator | None, domain: Space, codomain: Space) -> ForwardOperator:
    """The transform with another codomain of the same shape; the identity for None. Affine maps stay affine."""
    relabel = identity(domain, codomain)
    if transform is None:
        return relabel
    if isinstance(transform, Affine):
        linear = relabel @ transform.map
        assert isinstance(linear, LinearMap)
        return Affine(linear, transform.offset)
    return relabel @ transform


def identity(domain: Space, codomain: Space) -> LinearMap:
    """The same numbers under another name."""
    return FunctionMap(domain, codomain, lambda x: x * 1, lambda y: y * 1)


class RefinedPrior(Prior):
    """Draws of a prior on a grid, interpolated to a finer one: truths for the data of a finer model.

    Args:
        coarse: Prior on the inversion's grid.
        refine: Linear map of its fields to values at all points of `space`.
        space: The finer grid.
    """

    def __init__(self, coarse: Prior, refine: LinearMap, space: GridSpace) -> None:
        super().__init__(space)
        self.coarse, self.refine = coarse, refine

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`."""
        draws = self.coarse.sample(shape, generator=generator)
        with torch.no_grad():
            fine: Tensor = self.refine(draws)
        return fine.reshape(*shape, *self.space.shape)
