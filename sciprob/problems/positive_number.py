"""The prior of a number that is positive."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sciprob.errors import ConfigError
from sciprob.operators import DenseMap
from sciprob.operators.parameterise import Exp
from sciprob.priors.base import GaussianPrior
from sciprob.priors.transformed import TransformedPrior
from sciprob.spaces import Space


@dataclass(frozen=True)
class PositiveNumber:
    """Prior of a positive number: log-normal.

    Args:
        median: Median.
        spread: Standard deviation of the logarithm; 0.7 is a factor of two.
    """

    median: float
    spread: float

    def __post_init__(self) -> None:
        if not (self.median > 0 and self.spread > 0):
            message = f"`median` and `spread` should be positive, got {self.median} and {self.spread}."
            raise ConfigError(message)

    def on(self, name: str) -> TransformedPrior:
        """The prior of a number called `name`."""
        latent = Space((), name=f"log_{name}")
        root = DenseMap(torch.tensor([[self.spread]], dtype=torch.float64), Space((1,), name="xi"), latent)
        mean = torch.tensor(self.median, dtype=torch.float64).log()
        return TransformedPrior(GaussianPrior(mean, root), Exp(latent, Space((), name=name)))
