"""Weighted ensembles: particles, chains, pushed-forward draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError, NonFiniteError
from sciprob.posteriors.base import Posterior, check_levels, single_codomain
from sciprob.spaces import Space

_CHUNK = 1 << 22  # numbers sorted at once for quantiles


class Ensemble(Posterior):
    """Members with weights; expectations are weighted sums.

    Args:
        space: Space of m.
        samples: Members `(n, *space.shape)`; for Markov chains all draws of the first chain, then
            all of the second, and so on.
        log_weights: `(n,)`, up to a constant; default equal weights.
        chains: Number of chains the members come from; default None, independent members.
        meta: Plain numbers and words.

    Raises:
        DataError: If there is no member, or the members do not divide into `chains`.
        ShapeError: If the members do not fit the space.
        NonFiniteError: If the weights are not usable.
    """

    def __init__(
        self,
        space: Space,
        samples: Tensor,
        log_weights: Tensor | None = None,
        chains: int | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(space, meta)
        if len(space.batch_shape(samples, "samples")) != 1 or len(samples) == 0:
            message = f"`samples` should be (n, {', '.join(map(str, space.shape))}), n > 0, got {tuple(samples.shape)}."
            raise DataError(message)
        if chains is not None and (chains < 1 or len(samples) % chains):
            message = f"{len(samples)} members do not divide into {chains} chains of equal length."
            raise DataError(message)
        self.samples = samples.detach()
        self.chains = chains
        self.log_weights = None if log_weights is None else _checked(log_weights.detach(), len(samples))

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def max_draws(self) -> int | None:
        """Number of members."""
        return len(self)

    @property
    def weights(self) -> Tensor:
        """Normalised weights `(n,)`."""
        if self.log_weights is None:
            return torch.full((len(self),), 1 / len(self), dtype=self.samples.dtype, device=self.samples.device)
        return torch.softmax(self.log_weights, 0).to(self.samples.dtype)

    @property
    def ess(self) -> float:
        """Effective sample size of the weights, 1 / sum w^2; knows nothing of autocorrelation."""
        return float(1 / self.weights.double().square().sum())

    @property
    def mean(self) -> Tensor:
        """Weighted mean `(*space.shape)`."""
        mean: Tensor = torch.tensordot(self.weights, self.samples, dims=1)
        return mean

    @property
    def std(self) -> Tensor:
        """Standard deviations `(*space.shape)`, with the factor 1 / (1 - sum w^2): n / (n - 1) for equal weights.

        Raises:
            DataError: If all weight is on one member.
        """
        remainder = 1 - 1 / self.ess
        if remainder < 1e-9:
            message = "the spread of an ensemble needs at least two members with weight, this one has one."
            raise DataError(message)
        spread: Tensor = torch.tensordot(self.weights, (self.samples - self.mean).square(), dims=1)
        return (spread / remainder).sqrt()

    def quantile(self, q: float | Tensor) -> Tensor:
        """Weighted quantiles by the mid-point rule; see `Posterior.quantile`.

        The k-th smallest member stands at the level (sum of weights below) + w_k / 2; linear in
        between, constant beyond the outermost members.
        """
        check_levels(q)
        levels = torch.as_tensor(q, dtype=torch.float64, device=self.samples.device)
        flat = self.samples.reshape(len(self), -1)
        step = max(1, _CHUNK // len(self))
        parts = [self._quantile(flat[:, i : i + step], levels.reshape(-1)) for i in range(0, flat.shape[1], step)]
        return torch.cat(parts, dim=1).reshape((*levels.shape, *self.space.shape))

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Members drawn with replacement by their weights, `(*shape, *space.shape)`."""
        n = math.prod(shape)
        weights = self.weights.to(generator.device)
        index = torch.multinomial(weights, n, replacement=True, generator=generator) if n else torch.zeros(0).long()
        return self.samples[index.to(self.samples.device)].reshape((*shape, *self.space.shape))

    def ensemble(self, n: int, *, generator: torch.Generator) -> Ensemble:
        """`n` equally weighted members by systematic resampling."""
        return self.resample(n, generator=generator)

    def resample(self, n: int | None = None, *, generator: torch.Generator) -> Ensemble:
        """Equally weighted members by systematic resampling, in the original order.

        One uniform number u picks the members at the weight levels (i + u) / n; each member
        appears n w times, rounded up or down. With equal weights and n at most the size of the
        ensemble no member appears twice.
        """
        n = len(self) if n is None else n
        u = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
        levels = (torch.arange(n, dtype=torch.float64, device=u.device) + u) / n
        cumulative = self.weights.double().to(u.device).cumsum(0)
        index = torch.searchsorted(cumulative, levels * cumulative[-1], right=True).clamp_max(len(self) - 1)
        return Ensemble(self.space, self.samples[index.to(self.samples.device)], meta=self.meta)

    def push(self, operator: Any, *, n: int = 200, generator: torch.Generator | None = None) -> Ensemble:
        """Ensemble of `operator(member)`, all members in one batched call, weights and chains kept."""
        codomain = single_codomain(operator)
        with torch.no_grad():
            values = operator(self.samples)
        return Ensemble(codomain, values, self.log_weights, self.chains, self._origin())

    def by_chain(self) -> Tensor:
        """Members as `(chains, draws, *space.shape)`; one chain for independent members."""
        return self.samples.reshape(self.chains or 1, -1, *self.space.shape)

    def _quantile(self, columns: Tensor, levels: Tensor) -> Tensor:
        values, order = columns.T.contiguous().sort(dim=-1)
        weights = self.weights.double()[order] if self.log_weights is not None else self.weights.double()
        positions = weights.cumsum(-1) - weights / 2
        wanted = levels.expand(*positions.shape[:-1], -1).contiguous()
        right = torch.searchsorted(positions.contiguous(), wanted).clamp(1, max(1, len(self) - 1))
        right = right.clamp_max(len(self) - 1)
        left = (right - 1).clamp_min(0)
        low, high = positions.gather(-1, left), positions.gather(-1, right)
        share = ((wanted - low) / (high - low).clamp_min(1e-300)).clamp(0, 1).to(values.dtype)
        shape = (len(values), len(levels))
        below, above = values.gather(-1, left.expand(shape)), values.gather(-1, right.expand(shape))
        return torch.lerp(below, above, share.expand(shape)).T


def _checked(log_weights: Tensor, n: int) -> Tensor:
    if tuple(log_weights.shape) != (n,):
        message = f"`log_weights` should be ({n},), one per member, got {tuple(log_weights.shape)}."
        raise DataError(message)
    if bool(log_weights.isnan().any()) or not bool(torch.isfinite(log_weights.max())):
        message = "log weights should be finite or -inf with at least one finite, got NaN, +inf or only -inf."
        raise NonFiniteError(message)
    return log_weights
