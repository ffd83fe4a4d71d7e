r"""Spectral mixtures: envelopes times cosines, so that dominant frequencies are parameters.

k(tau) = sum_q w_q e_q(tau) cos(2 pi mu_q tau), whose spectral density is a mixture of Gaussians or Student-t
densities centred at +-mu_q. With m = 2 pi mu the product rule reads
(e c)^(n) = sum_j binom(n, j) e^(n-j) m^j cos(m tau + j pi / 2).

Sources: Wilson and Adams, ICML 2013 (Gaussian mixtures); Fang, Cooley, Long, Li, Kirby, Zhe, ICLR 2024,
arXiv 2311.04465 (Student-t mixtures, solving PDEs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError
from sciprob.priors.kernels.base import StationaryKernel, column, components, logarithm
from sciprob.priors.kernels.envelopes import gaussian_envelope, matern_envelope


class _Mixture(StationaryKernel):
    """Weights, frequencies and the product rule; subclasses give the envelopes."""

    log_weights: Tensor
    frequencies: Tensor

    def __init__(self, weights: Tensor, frequencies: Tensor, **gpytorch_settings: Any) -> None:
        super().__init__(weights.shape[:-1], **gpytorch_settings)
        self.log_weights = logarithm("weights", weights)
        self.frequencies = nn.Parameter(frequencies.clone())

    @property
    def weights(self) -> Tensor:
        """Variances w of the components, `(*batch, components)`."""
        return self.log_weights.exp()

    def _envelope(self, lags: Tensor, order: int, event: int) -> list[Tensor]:
        raise NotImplementedError

    def _terms(self, lags: Tensor, orders: Sequence[int], event: int) -> list[Tensor]:
        envelope = self._envelope(lags, max(orders, default=0), event)
        weights = column(self.weights, lags, event)
        m = 2 * math.pi * column(self.frequencies, lags, event)
        cosine, sine = torch.cos(m * lags), torch.sin(m * lags)
        waves = (cosine, -sine, -cosine, sine)  # cos(m tau + j pi / 2)
        return [
            weights * sum(math.comb(n, j) * envelope[n - j] * m.pow(j) * waves[j % 4] for j in range(n + 1))
            for n in orders
        ]


class GaussianMixture(_Mixture):
    r"""k(tau) = sum_q w_q exp(-a_q tau^2) cos(2 pi mu_q tau); all derivatives exist.

    The spectral density of a component is Gaussian around +-mu_q with variance a_q / (2 pi^2):
    GPyTorch's `SpectralMixtureKernel` has a = 2 pi^2 (scale)^2 and does not allow mu = 0.

    Args:
        weights: w > 0, `(*batch, components)`, variances.
        frequencies: mu, in cycles per unit of the coordinate; zero is allowed.
        decay: a > 0, in 1 / coordinate^2.
        gpytorch_settings: `active_dims` and the like.

    Raises:
        ConfigError: If weights or decay are not positive, or shapes disagree.

    Parameters: `log_weights`, `frequencies`, `log_decay`.
    """

    def __init__(self, weights: Any, frequencies: Any, decay: Any, **gpytorch_settings: Any) -> None:
        weights, frequencies, decay = components(weights=weights, frequencies=frequencies, decay=decay)
        super().__init__(weights, frequencies, **gpytorch_settings)
        self.log_decay = logarithm("decay", decay)

    @property
    def decay(self) -> Tensor:
        """a, `(*batch, components)`."""
        return self.log_decay.exp()

    def _envelope(self, lags: Tensor, order: int, event: int) -> list[Tensor]:
        return gaussian_envelope(lags, column(self.decay, lags, event), order)


class StudentMixture(_Mixture):
    r"""k(tau) = sum_q w_q gamma(tau / length_q) cos(2 pi mu_q tau), with Matern's correlation gamma as envelope.

    The spectral density of a component is a Student-t density with 2 nu degrees of freedom around +-mu_q,
    scale = inverse_length / (2 pi). For nu = 5/2 (5 degrees of freedom),
    gamma = (1 + s + s^2 / 3) exp(-s), s = sqrt(5) abs(tau) / length. Derivatives exist up to order 2 nu - 1.

    Args:
        weights: w > 0, `(*batch, components)`, variances.
        frequencies: mu, in cycles per unit of the coordinate; zero is allowed.
        inverse_lengths: 1 / length > 0, in 1 / coordinate.
        smoothness: nu = 1/2, 3/2, 5/2, ...
        gpytorch_settings: `active_dims` and the like.

    Raises:
        ConfigError: If weights or inverse lengths are not positive, shapes disagree, or nu + 1/2 is not whole.

    Parameters: `log_weights`, `frequencies`, `log_inverse_lengths`.
    """

    def __init__(
        self, weights: Any, frequencies: Any, inverse_lengths: Any, smoothness: float = 2.5, **gpytorch_settings: Any
    ) -> None:
        weights, frequencies, inverse_lengths = components(
            weights=weights, frequencies=frequencies, inverse_lengths=inverse_lengths
        )
        super().__init__(weights, frequencies, **gpytorch_settings)
        self.log_inverse_lengths = logarithm("inverse_lengths", inverse_lengths)
        self.smoothness = float(smoothness)
        self.max_order = 2 * half_integer(smoothness)

    @property
    def inverse_lengths(self) -> Tensor:
        """1 / length, `(*batch, components)`."""
        return self.log_inverse_lengths.exp()

    def _envelope(self, lags: Tensor, order: int, event: int) -> list[Tensor]:
        return matern_envelope(lags, column(self.inverse_lengths, lags, event), order, half_integer(self.smoothness))


def half_integer(smoothness: float) -> int:
    """The p of smoothness p + 1/2.

    Raises:
        ConfigError: If p is not a whole number from 0 to 32.
    """
    p = round(smoothness - 0.5)
    if p + 0.5 != smoothness or not 0 <= p <= 32:
        message = f"`smoothness` should be 1/2, 3/2, 5/2, ... up to 65/2 for derivatives, got {smoothness}."
        raise ConfigError(message)
    return p
