"""Monotone functions of Gaussian posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.posteriors.base import Posterior, needs_generator
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.spaces import Space

_NODES = 80  # of Gauss-Hermite quadrature: the log-normal mean is exact to round-off up to std 3


class TransformedPosterior(Posterior):
    """m = T(z) for a Gaussian posterior of z and an increasing elementwise T.

    Quantiles are exact, T(quantile of z). Mean and std are one-dimensional Gauss-Hermite
    quadratures of the exact marginals. Draws are transformed draws.

    Args:
        base: Posterior of the latent z.
        transform: Elementwise, increasing operator T: callable with leading batch axes, with
            `inverse(m)`, `on(space)` and `settings()` as in `sciprob.operators.parameterise`.
        space: Space of m; default the codomain of the transform.
        meta: Plain numbers and words; default those of `base`.
    """

    def __init__(
        self,
        base: GaussianPosterior,
        transform: Any,
        space: Space | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(space or transform.codomain, base.meta if meta is None else meta)
        self.base = base
        self.transform = transform
        self._moments: tuple[Tensor, Tensor] | None = None

    @property
    def mean(self) -> Tensor:
        """E T(z), `(*space.shape)`."""
        return self._quadrature()[0]

    @property
    def std(self) -> Tensor:
        """Standard deviation of T(z), `(*space.shape)`."""
        return self._quadrature()[1]

    def quantile(self, q: float | Tensor) -> Tensor:
        """T(quantile of z), exact; see `Posterior.quantile`."""
        return self._map(self.base.quantile(q))

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`."""
        return self._map(self.base.sample(shape, generator=generator))

    @property
    def max_draws(self) -> int | None:
        """That of the latent posterior."""
        return self.base.max_draws

    def at(self, points: Tensor) -> Posterior:
        """The field at points: z is interpolated, then transformed, so the closed forms stay.

        This equals interpolating T(z) at the nodes; in between the two differ by no more than the
        space's own interpolation error.

        Raises:
            DataError: If a point lies outside the domain.
        """
        base = self.base.at(points)
        assert isinstance(base, GaussianPosterior)
        space = Space(base.space.shape, self.space.name, base.space.dims, self.space.unit, base.space.coords)
        return TransformedPosterior(base, self.transform.on(base.space), space, self._origin())

    def push(self, operator: Any, *, n: int = 200, generator: torch.Generator | None = None) -> Posterior:
        """`Ensemble` of the operator's values at `n` draws; see `Posterior.push`.

        Raises:
            ConfigError: If there is no generator.
        """
        count = n if self.max_draws is None else min(n, self.max_draws)
        generator = needs_generator(generator, "pushing a transformed Gaussian through an operator")
        return self.ensemble(count, generator=generator).push(operator)

    def _map(self, z: Tensor) -> Tensor:
        values: Tensor = self.transform(z)
        return values.detach()

    def _quadrature(self) -> tuple[Tensor, Tensor]:
        if self._moments is None:
            z, std = self.base.mean, self.base.std
            nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
            weights = weights / weights.sum()
            # Moments around T(mean of z), so that small variances do not cancel.
            centre = self._map(z)
            first, second = torch.zeros_like(centre), torch.zeros_like(centre)
            for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
                deviation = self._map(z + node * std) - centre
                first += weight * deviation
                second += weight * deviation.square()
            self._moments = centre + first, (second - first.square()).clamp_min(0).sqrt()
        return self._moments
