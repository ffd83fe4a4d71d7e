"""Single-scale kernels without oscillation: the squared exponential and Matern's, the usual baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from sciprob.priors.kernels.base import StationaryKernel, column, components, logarithm
from sciprob.priors.kernels.envelopes import gaussian_envelope, matern_envelope
from sciprob.priors.kernels.mixtures import half_integer


class _Single(StationaryKernel):
    """Weight and length; subclasses give the correlation."""

    def __init__(self, length: Any, weight: Any, **gpytorch_settings: Any) -> None:
        weight, length = components(weight=weight, length=length)
        super().__init__(weight.shape[:-1], **gpytorch_settings)
        self.log_weights = logarithm("weight", weight)
        self.log_lengths = logarithm("length", length)

    @property
    def weights(self) -> Tensor:
        """Variances `(*batch, components)`."""
        return self.log_weights.exp()

    @property
    def lengths(self) -> Tensor:
        """Lengths `(*batch, components)`."""
        return self.log_lengths.exp()

    def _correlation(self, lags: Tensor, order: int, event: int) -> list[Tensor]:
        raise NotImplementedError

    def _terms(self, lags: Tensor, orders: Sequence[int], event: int) -> list[Tensor]:
        correlation = self._correlation(lags, max(orders, default=0), event)
        weights = column(self.weights, lags, event)
        return [weights * correlation[n] for n in orders]


class SquaredExponential(_Single):
    """k(tau) = weight exp(-tau^2 / (2 length^2)), the Gaussian mixture's component with mu = 0, a = 1 / (2 length^2).

    Args:
        length: > 0, in the unit of the coordinate; a number, or `(*batch, components)` for a sum of several.
        weight: > 0, the variance; same shapes.
        gpytorch_settings: `active_dims` and the like.

    Raises:
        ConfigError: If a value is not positive, or shapes disagree.
    """

    def __init__(self, length: Any, weight: Any = 1.0, **gpytorch_settings: Any) -> None:
        super().__init__(length, weight, **gpytorch_settings)

    def _correlation(self, lags: Tensor, order: int, event: int) -> list[Tensor]:
        decay = (-2 * self.log_lengths).exp() / 2
        return gaussian_envelope(lags, column(decay, lags, event), order)


class Matern(_Single):
    """k(tau) = weight rho(abs(tau) / length) with Matern's correlation of half-integer smoothness.

    Derivatives exist up to order 2 smoothness - 1; the convention of `length` is that of
    `sciprob.priors.matern` and of GPyTorch.

    Args:
        length: > 0, in the unit of the coordinate; a number, or `(*batch, components)` for a sum of several.
        smoothness: 1/2, 3/2, 5/2, ...
        weight: > 0, the variance; same shapes as `length`.
        gpytorch_settings: `active_dims` and the like.

    Raises:
        ConfigError: If a value is not positive, shapes disagree, or smoothness + 1/2 is not whole.
    """

    def __init__(self, length: Any, smoothness: float = 2.5, weight: Any = 1.0, **gpytorch_settings: Any) -> None:
        super().__init__(length, weight, **gpytorch_settings)
        self.smoothness = float(smoothness)
        self.max_order = 2 * half_integer(smoothness)

    def _correlation(self, lags: Tensor, order: int, event: int) -> list[Tensor]:
        inverse = (-self.log_lengths).exp()
        return matern_envelope(lags, column(inverse, lags, event), order, half_integer(self.smoothness))
