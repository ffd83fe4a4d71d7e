"""Priors of positive or bounded fields."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.operators.parameterise import Elementwise
from sciprob.priors.base import Prior


class TransformedPrior(Prior):
    """m = t(x) with x from a latent prior: log-normal fields, fractions between 0 and 1.

    Args:
        latent: Prior of x.
        transform: Increasing elementwise map t.

    Raises:
        ShapeError: If the transform does not act on the latent space.
    """

    def __init__(self, latent: Prior, transform: Elementwise) -> None:
        if not transform.domain.compatible(latent.space):
            message = f"`transform` should act on {latent.space.shape}, got one on {transform.domain.shape}."
            raise ShapeError(message)
        super().__init__(transform.codomain)
        self.latent = latent
        self.transform = transform

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Whitened, or with a density, where the latent prior is; Gaussian no more."""
        return self.latent.capabilities & {Capability.WHITENED_PRIOR, Capability.PRIOR_LOG_PROB}

    @property
    def whitening(self) -> ForwardOperator:
        """Xi -> t(latent.whitening(xi))."""
        return self.transform @ self.latent.whitening

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`."""
        return cast(Tensor, self.transform(self.latent.sample(shape, generator=generator)))

    def log_prob(self, m: Tensor) -> Tensor:
        """Change of variables, log p(x) - sum log t'(x) at x = t^{-1}(m); -infinity outside the range of t.

        Raises:
            UnsupportedProblemError: If the latent prior has no density.
        """
        lower, upper = self.transform.range
        inside = (m > lower) & (m < upper)
        midpoint = self.transform(torch.zeros_like(m))  # keeps values and derivatives finite outside
        x = self.transform._inverse(torch.where(inside, m, midpoint))
        density = self.latent.log_prob(x) - self.space.total(self.transform.log_derivative(x))
        return torch.where(self.space.total(~inside) == 0, density, -torch.inf)
