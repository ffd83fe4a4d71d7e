"""Mean and covariance of a family of fields, estimated from draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.operators.fourier import spectrum_weights
from sciprob.operators.kronecker import mode_products
from sciprob.priors.diffusion.spectral_prior import CosineSpectrum, SpectralPrior
from sciprob.priors.diffusion.spectrum import FourierSpectrum, Spectrum, cosine_basis
from sciprob.spaces import Space

_CHUNK = 128  # draws held at a time
_SHRINK = 0.02  # of correlations between low modes, so that no combination of them seems to be known from few draws


@dataclass(frozen=True)
class FieldStatistics:
    """The Gaussian N(m, C) nearest to a family among those whose C has known eigenvectors.

    Args:
        mean: m, `(*grid)`, float64.
        variances: Variances of the Fourier modes (half spectrum) of periodic fields, of the cosine modes
            `(*grid)` of others.
        low: Covariance of the cosine modes of low frequency, see `CosineSpectrum`; None for periodic fields.
    """

    mean: Tensor
    variances: Tensor
    low: Tensor | None = None

    @property
    def spectrum(self) -> Spectrum:
        """C."""
        if self.variances.shape == self.mean.shape:
            return CosineSpectrum(self.variances, self.low)
        return FourierSpectrum(tuple(self.mean.shape), self.variances)

    @property
    def std(self) -> float:
        """Root mean square of x - m over all points."""
        weights = 1.0 if self.variances.shape == self.mean.shape else spectrum_weights(tuple(self.mean.shape))
        return math.sqrt(float((weights * self.variances).sum()) / self.mean.numel())

    def prior(self, space: Space) -> SpectralPrior:
        """N(m, C) on a space."""
        return SpectralPrior(space, self.mean, self.spectrum)

    def tensors(self) -> dict[str, Tensor]:
        """For files; `FieldStatistics(**tensors)` is equal."""
        tensors = {"mean": self.mean, "variances": self.variances}
        return tensors if self.low is None else tensors | {"low": self.low}


def estimate_statistics(
    sample: Callable[[int, torch.Generator], Tensor],
    count: int,
    generator: torch.Generator,
    *,
    periodic: bool,
    low_modes: int = 0,
) -> FieldStatistics:
    """Mean and covariance from `count` draws, which are made twice from the same state of the generator.

    Args:
        sample: Draws `(n, *grid)` of a generator.
        count: Number of draws, at least 2; a few times `low_modes`^d.
        generator: Source of randomness.
        periodic: Whether the grid is a torus: Fourier modes, else cosines.
        low_modes: Cosine modes along each axis whose full covariance is estimated.

    Raises:
        DataError: If the draws do not vary or are not finite.
    """
    state = generator.get_state()
    total = torch.zeros((), dtype=torch.float64)
    for size in _chunks(count):
        total = total + sample(size, generator).to("cpu", torch.float64).sum(0)
    mean = total / count
    generator.set_state(state)
    square, low = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for size in _chunks(count):
        modes = _modes(sample(size, generator).to("cpu", torch.float64) - mean, periodic)
        square = square + modes.abs().square().sum(0)
        if low_modes and not periodic:
            block = modes[(slice(None), *(slice(low_modes) for _ in mean.shape))].flatten(1)
            low = low + block.T @ block
    variances = square / count
    if not 0 < float(variances.mean()) < math.inf:
        message = f"the mean square of {count} draws about their mean is {float(variances.mean())}; check the family."
        raise DataError(message)
    if low.ndim:
        low = (1 - _SHRINK) * low / count + _SHRINK * torch.diag(low.diagonal() / count)
    return FieldStatistics(mean, variances, low if low.ndim else None)


def _modes(x: Tensor, periodic: bool) -> Tensor:
    """Orthonormal Fourier or cosine coefficients of `(B, *grid)`."""
    if periodic:
        modes: Tensor = torch.fft.rfftn(x, dim=tuple(range(1, x.ndim)), norm="ortho")
        return modes
    return mode_products(x, [cosine_basis(n).mT for n in x.shape[1:]])


def _chunks(count: int) -> list[int]:
    return [_CHUNK] * (count // _CHUNK) + ([count % _CHUNK] if count % _CHUNK else [])
