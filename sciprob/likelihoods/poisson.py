"""Poisson counts behind an absorbing object."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciprob.likelihoods.checks import finite, nonnegative, positive, refuse
from sciprob.operators.base import Capability
from sciprob.spaces import Space


class PoissonCounts(nn.Module):
    r"""y ~ Poisson(lambda), lambda = intensity exp(-f) + background: X-ray transmission.

    f is the line integral of the attenuation (Beer-Lambert), independent in each detector bin.
    Fisher information W = (intensity exp(-f))^2 / lambda, so without background the weights are
    the expected counts. Computed from logarithms, so no f overflows before exp(-f) does.

    Args:
        space: Space of the data (counts).
        intensity: Expected counts without object, > 0; a number or broadcast to `space.shape`.
        background: Expected counts of scatter and dark current, >= 0.

    Raises:
        DataError: If `intensity` is not positive or `background` negative; the message names the entry.
        ShapeError: If one of them does not broadcast to `space.shape`.

    Source: Fessler, Statistical image reconstruction methods for transmission tomography,
    Handbook of Medical Imaging 2 (2000).
    """

    log_intensity: Tensor
    log_background: Tensor

    def __init__(self, space: Space, intensity: float | Tensor, *, background: float | Tensor = 0.0) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("log_intensity", positive(intensity, space, "intensity").log())
        self.register_buffer("log_background", nonnegative(background, space, "background").log())

    @property
    def capabilities(self) -> frozenset[Capability]:
        """None beyond every noise model's."""
        return frozenset()

    def check(self, y: Tensor) -> None:
        """Refuse data that are not counts.

        Raises:
            DataError: If an entry is negative, fractional or not finite.
        """
        finite(y, self.space)
        refuse((y < 0) | (y != y.round()), y, "data", "photon counts (whole numbers >= 0)", _REMEDY)

    def log_prob(self, clean: Tensor, y: Tensor) -> Tensor:
        """Log p(y | f) = sum y log lambda - lambda - log y!, `(*batch,)`."""
        self.space.batch_shape(clean, "clean")
        self.space.batch_shape(y, "y")
        _, log_rate = self._log_rates(clean)
        y = y.to(clean.dtype)
        return self.space.total(y * log_rate - log_rate.exp() - torch.lgamma(y + 1))

    def score(self, clean: Tensor, y: Tensor) -> Tensor:
        """D log p(y | f) / d f = tau (1 - y / lambda) with tau = intensity exp(-f)."""
        log_signal, log_rate = self._log_rates(clean)
        return log_signal.exp() - y * (log_signal - log_rate).exp()

    def whiten(self, clean: Tensor, v: Tensor) -> Tensor:
        """W^{1/2} v = tau / sqrt(lambda) v."""
        log_signal, log_rate = self._log_rates(clean)
        return (log_signal - log_rate / 2).exp() * v

    def whiten_adjoint(self, clean: Tensor, v: Tensor) -> Tensor:
        """The same, because W is diagonal."""
        return self.whiten(clean, v)

    def sample(self, clean: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw counts with the dtype and device of f, on the generator's device."""
        self.space.batch_shape(clean, "clean")
        rate = self._log_rates(clean)[1].exp().to(generator.device)
        return torch.poisson(rate, generator=generator).to(clean.device)

    def _log_rates(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of tau and lambda."""
        log_signal = self.log_intensity.to(clean.dtype) - clean
        log_background = self.log_background.to(clean.dtype)
        return log_signal, torch.logaddexp(log_signal, log_background.expand_as(log_signal))


_REMEDY = "line integrals are not counts: use `GaussianNoise` for them, or give the raw detector readings"
