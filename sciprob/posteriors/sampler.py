"""Posteriors known through a sampler: networks, SDE paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.spaces import Space

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]


class SamplerPosterior(Posterior):
    """Samples on demand; moments and quantiles from `n_moments` draws with a fixed seed.

    Args:
        space: Space of m.
        draw: `(shape, generator)` -> draws `(*shape, *space.shape)`.
        n_moments: Number of draws behind `mean`, `std` and `quantile`.
        seed: Seed of those draws, so that moments do not depend on when they are asked for.
        meta: Plain numbers and words.
    """

    def __init__(
        self,
        space: Space,
        draw: Draw,
        n_moments: int = 1000,
        *,
        seed: int = 0,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(space, meta)
        self.draw = draw
        self.n_moments = n_moments
        self.seed = seed
        self._stored: Ensemble | None = None

    @property
    def stored(self) -> Ensemble:
        """The draws behind the moments; this is what `save` writes."""
        if self._stored is None:
            generator = torch.Generator().manual_seed(self.seed)
            self._stored = Ensemble(self.space, self.sample((self.n_moments,), generator=generator), meta=self.meta)
        return self._stored

    @property
    def mean(self) -> Tensor:
        """Mean of the stored draws `(*space.shape)`; its Monte-Carlo error is `mean_error`."""
        return self.stored.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation of the stored draws `(*space.shape)`."""
        return self.stored.std

    @property
    def mean_error(self) -> Tensor:
        """Monte-Carlo standard error of `mean`, std / sqrt(n_moments), `(*space.shape)`."""
        return self.stored.std / math.sqrt(self.n_moments)

    def quantile(self, q: float | Tensor) -> Tensor:
        """Quantiles of the stored draws; see `Posterior.quantile`."""
        return self.stored.quantile(q)

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Fresh draws `(*shape, *space.shape)`.

        Raises:
            ShapeError: If the sampler returns another shape.
        """
        with torch.no_grad():
            draws = self.draw(shape, generator)
        return self.space.split(self.space.merge(draws), torch.Size(shape))

    def push(self, operator: Any, *, n: int = 200, generator: torch.Generator | None = None) -> Ensemble:
        """Ensemble of the operator's values at `n` fresh draws, or at the stored ones without a generator."""
        members = self.stored if generator is None else self.ensemble(n, generator=generator)
        return members.push(operator)
