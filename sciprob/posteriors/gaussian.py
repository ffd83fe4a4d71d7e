"""Gaussian posteriors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.posteriors.base import Posterior, check_levels, needs_generator, single_codomain
from sciprob.random import randn
from sciprob.spaces import Space

_CHUNK = 1 << 22  # numbers held at once while marginal variances are summed from rows of the root


class GaussianPosterior(Posterior):
    """m = mean + L xi with xi standard normal; or, where L is not at hand, mean and exact draws.

    Args:
        space: Space of m.
        mean: `(*space.shape)`.
        root: The linear map L from a white space to `space`; the covariance is L L^T.
        variance: Exact marginal variances `(*space.shape)`, if known.
        draws: Exact, independent draws `(n, *space.shape)` instead of a root, as the
            perturb-and-optimise sampler gives them. Marginal variances are then estimated around
            the known mean, with relative error sqrt(2/n).
        meta: Plain numbers and words.

    Raises:
        ConfigError: Unless exactly one of `root` and `draws` is given.
        ShapeError: If a tensor does not fit the space.
    """

    def __init__(
        self,
        space: Space,
        *,
        mean: Tensor,
        root: Any = None,
        variance: Tensor | None = None,
        draws: Tensor | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(space, meta)
        if (root is None) == (draws is None):
            message = "a Gaussian posterior needs exactly one of `root` and `draws`."
            raise ConfigError(message)
        if draws is not None and len(draws) == 0:
            message = "a Gaussian posterior given by draws needs at least one of them."
            raise DataError(message)
        for name, tensor in (("mean", mean), ("variance", variance), ("draws", draws)):
            if tensor is not None:
                space.batch_shape(tensor, name)
        self._mean = mean.detach()
        self.root = root
        self.draws = None if draws is None else draws.detach()
        self._variance = None if variance is None else variance.detach()

    @property
    def mean(self) -> Tensor:
        """Posterior mean `(*space.shape)`."""
        return self._mean

    @property
    def variance(self) -> Tensor:
        """Marginal variances `(*space.shape)`: as given, else from the root's rows, else from the draws."""
        if self._variance is None:
            self._variance = self._compute_variance()
        return self._variance

    @property
    def std(self) -> Tensor:
        """Marginal standard deviations `(*space.shape)`."""
        return self.variance.clamp_min(0).sqrt()

    def quantile(self, q: float | Tensor) -> Tensor:
        """Mean + z std, z the standard normal quantile; see `Posterior.quantile`."""
        check_levels(q)
        levels = torch.as_tensor(q, dtype=torch.float64, device=self.mean.device)
        z: Tensor = torch.special.ndtri(levels).to(self.mean.dtype)
        return self.mean + z.reshape((*levels.shape, *(1 for _ in self.space.shape))) * self.std

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *space.shape)`.

        Raises:
            DataError: If more draws are asked for than are stored and there is no root.
        """
        if self.draws is None:
            xi = randn((*shape, *self.root.domain.shape), self.mean, generator)
            deviation: Tensor = self.root(xi).detach()
            return self.mean + deviation
        n, stored = math.prod(shape), len(self.draws)
        if n > stored:
            message = f"this posterior holds {stored} exact draws, {n} were asked for; solve with more draws."
            raise DataError(message)
        order = torch.randperm(stored, generator=generator, device=generator.device)[:n]
        return self.draws[order.to(self.draws.device)].reshape((*shape, *self.space.shape))

    @property
    def max_draws(self) -> int | None:
        """Number of stored draws, or None with a root."""
        return None if self.draws is None else len(self.draws)

    def log_prob(self, m: Tensor) -> Tensor:
        """Normalised log density `(*batch,)`, where the root is square and knows inverse and determinant."""
        if self.root is None or self.root.domain.size != self.root.codomain.size:
            return super().log_prob(m)
        batch = self.space.batch_shape(m)
        white = self.root.solve(m - self.mean).reshape(*batch, -1)
        constant = 0.5 * self.space.size * math.log(2 * math.pi) + self.root.log_abs_det()
        log_density: Tensor = -0.5 * white.square().sum(-1) - constant
        return log_density

    def push(self, operator: Any, *, n: int = 200, generator: torch.Generator | None = None) -> Posterior:
        """Gaussian for a linear operator A (mean A m, root A L), else an `Ensemble`; see `Posterior.push`.

        Raises:
            ConfigError: If draws are needed and there is no generator.
        """
        codomain = single_codomain(operator)
        if getattr(operator, "linear", False):
            parts: dict[str, Any] = {"mean": operator(self.mean), "meta": self._origin()}
            if self.draws is not None:
                return GaussianPosterior(codomain, draws=operator(self.draws), **parts)
            return GaussianPosterior(codomain, root=operator @ self.root, **parts)
        count = n if self.max_draws is None else min(n, self.max_draws)
        generator = needs_generator(generator, "pushing a Gaussian through a nonlinear operator")
        return self.ensemble(count, generator=generator).push(operator)

    def covariance(self) -> Tensor:
        """Dense covariance `(size, size)` on the flattened space; for small problems and tests.

        Raises:
            UnsupportedProblemError: If the posterior is given by draws.
        """
        if self.root is None:
            message = "a Gaussian posterior given by draws has no exact covariance; estimate it from `draws`."
            raise UnsupportedProblemError(message)
        dense: Tensor = self.root.to_dense(dtype=self.mean.dtype, device=self.mean.device)
        return dense @ dense.T

    def _compute_variance(self) -> Tensor:
        if self.draws is not None:
            return (self.draws - self.mean).square().mean(0)
        if self.space.size <= self.root.domain.size:
            rows = _images(self.root.T, self.space.shape, self.mean)
            return torch.cat([row.square().sum(1) for row in rows]).reshape(self.space.shape)
        total = self.mean.new_zeros(self.space.size)
        for columns in _images(self.root, self.root.domain.shape, self.mean):
            total += columns.square().sum(0)
        return total.reshape(self.space.shape)


def _images(linear_map: Any, shape: tuple[int, ...], like: Tensor) -> Iterator[Tensor]:
    """What a map makes of the unit vectors, `(k, codomain.size)` at a time."""
    size = math.prod(shape)
    step = max(1, _CHUNK // max(size, linear_map.codomain.size))
    for start in range(0, size, step):
        count = min(step, size - start)
        units = like.new_zeros(count, size)
        units[torch.arange(count), torch.arange(start, start + count)] = 1.0
        yield linear_map(units.reshape(count, *shape)).detach().reshape(count, -1)
