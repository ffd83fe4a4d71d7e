"""Priors: what is known of the unknown before the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.operators.linear import LinearMap
from sciprob.spaces import Space

if TYPE_CHECKING:
    from sciprob.priors.diffusion.prior import DiffusionPrior


class Prior(nn.Module):
    """A distribution over a space.

    Every prior can be sampled; the rest is declared in `capabilities`:
    `WHITENED_PRIOR` has `whitening`, `GAUSSIAN_PRIOR` has `mean` and `root`, `PRIOR_LOG_PROB` has `log_prob`.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What this prior offers to solvers."""
        return frozenset()

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`."""
        raise NotImplementedError

    def log_prob(self, m: Tensor) -> Tensor:
        """Log density `(*batch,)`, where `PRIOR_LOG_PROB` is declared."""
        message = f"{type(self).__name__} has no density in closed form."
        raise UnsupportedProblemError(message)

    @property
    def whitening(self) -> ForwardOperator:
        """Map xi -> m that turns standard normal variables into the prior (`WHITENED_PRIOR`)."""
        message = f"{type(self).__name__} is not a map of standard normal variables."
        raise UnsupportedProblemError(message)

    @property
    def diffusion(self) -> DiffusionPrior:
        """This prior by its denoiser (`DENOISER`): exact in the white coordinates of `whitening`."""
        from sciprob.priors.diffusion.prior import DiffusionPrior

        return DiffusionPrior.of_whitened(self)


class GaussianPrior(Prior):
    """m = mean + L xi with xi standard normal on a white space; covariance L L^T.

    Args:
        mean: `(*space.shape)`.
        root: The map L, from the white space (any shape, possibly larger than m) to `space`.
    """

    mean: Tensor

    def __init__(self, mean: Tensor, root: LinearMap) -> None:
        super().__init__(root.codomain)
        root.codomain.batch_shape(mean, "mean")
        self.root = root
        self.register_buffer("mean", mean)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """A Gaussian is whitened by its root."""
        return frozenset({Capability.GAUSSIAN_PRIOR, Capability.WHITENED_PRIOR})

    @property
    def white(self) -> Space:
        """Space of xi."""
        white: Space = self.root.domain
        return white

    @property
    def covariance(self) -> LinearMap:
        """L L^T on the space."""
        covariance = self.root @ self.root.T
        assert isinstance(covariance, LinearMap)
        return covariance

    @property
    def whitening(self) -> ForwardOperator:
        """The affine map xi -> mean + L xi."""
        from sciprob.operators.algebra import Affine

        return Affine(self.root, self.mean)

    def variance(self) -> Tensor:
        """Marginal variances `(*space.shape)`, exact; by the rows of L unless a subclass knows better."""
        dense = self.root.to_dense(dtype=self.mean.dtype, device=self.mean.device)
        return dense.square().sum(1).reshape(self.space.shape)

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`."""
        from sciprob.random import randn

        draws: Tensor = self.mean + self.root(randn((*shape, *self.white.shape), self.mean, generator))
        return draws
