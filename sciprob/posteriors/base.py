"""The posterior: what every solver returns."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import torch
from sciprob.spaces import Space
from torch import Tensor


class Posterior(abc.ABC):
    """A distribution over the unknown, given the data.

    Args:
        space: Space of the unknown.
        meta: Plain numbers and words: problem, solver, seed, status, diagnostics, solves, seconds.
    """

    def __init__(self, space: Space, meta: Mapping[str, Any] | None = None) -> None:
        self.space = space
        self.meta = dict(meta or {})

    @property
    @abc.abstractmethod
    def mean(self) -> Tensor:
        """Posterior mean `(*space.shape)`."""

    @property
    @abc.abstractmethod
    def std(self) -> Tensor:
        """Marginal posterior standard deviations `(*space.shape)`."""

    @abc.abstractmethod
    def quantile(self, q: float) -> Tensor:
        """Marginal quantiles at level q in (0, 1), `(*space.shape)`."""

    @abc.abstractmethod
    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`."""
