"""Mean and covariance of a family of fields, estimated from draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.spectrum import FourierSpectrum
from sciprob.priors.grid_root import GridMaternRoot
from sciprob.spaces import GridSpace

_CHUNK = 128  # draws held at a time


@dataclass(frozen=True)
class FieldStatistics:
    """A Gaussian field with the mean of a family, its pointwise spread and a stationary correlation.

    The covariance is diag(spread) R diag(spread); R is circulant on the torus, which is the grid itself for
    periodic fields and twice as large for others.

    Args:
        mean: `(*grid)`, float64.
        spread: Pointwise standard deviation `(*grid)`, float64; one number all over for periodic fields.
        spectrum: Eigenvalues of R, half spectrum of the torus.
        periodic: Whether the torus is the grid.
    """

    mean: Tensor
    spread: Tensor
    spectrum: Tensor
    periodic: bool

    @property
    def std(self) -> float:
        """Root mean square of x - mean."""
        return float(self.spread.square().mean().sqrt())

    def prior(self, space: GridSpace) -> GaussianPrior:
        """N(mean, covariance) on a grid."""
        shape = space.shape if self.periodic else tuple(2 * n for n in space.shape)
        boundary = "periodic" if self.periodic else "stationary"
        root = GridMaternRoot(space, shape, boundary, self.spectrum.sqrt(), self.spread)
        return GaussianPrior(self.mean, root)

    def denoiser(self, space: GridSpace) -> GaussianDenoiser:
        """Denoiser of that Gaussian, for periodic fields.

        Raises:
            DataError: If the field is not periodic: sines and cosines are no eigenvectors then.
        """
        if not self.periodic:
            message = f"a control variate needs fields on a periodic grid, `{space.name}` lies on a bounded one."
            raise DataError(message)
        return GaussianDenoiser(
            space, self.mean, FourierSpectrum(space.shape, self.spectrum * self.spread.mean().square())
        )


def estimate_statistics(
    sample: Callable[[int, torch.Generator], Tensor], count: int, generator: torch.Generator, *, periodic: bool
) -> FieldStatistics:
    """Mean, spread and correlation of `count` draws.

    The mean and spread of a periodic family are averaged only where that leaves them right: the mean is kept as a
    field, the spread is one number. For bounded grids the correlation at a lag is the average over all pairs of
    points, weighted by their spreads, so that points without spread count for nothing.

    Args:
        sample: Draws `(n, *grid)` of a generator.
        count: Number of draws, at least 2.
        generator: Source of randomness.
        periodic: Whether the grid is a torus.

    Raises:
        DataError: If the draws do not vary or are not finite.
    """
    seed = generator.get_state()
    total = square = torch.zeros((), dtype=torch.float64)
    for size in _chunks(count):
        draws = sample(size, generator).to("cpu", torch.float64)
        total, square = total + draws.sum(0), square + draws.square().sum(0)
    mean = total / count
    variance = (square / count - mean.square()).clamp_min(0)
    if not 0 < float(variance.mean()) < math.inf:
        message = f"the mean square of {count} draws about their mean is {float(variance.mean())}; check the family."
        raise DataError(message)
    spread = variance.mean().sqrt().expand(mean.shape).clone() if periodic else variance.sqrt()
    generator.set_state(seed)  # the same draws again: their mean is needed before their correlation
    shape = tuple(mean.shape) if periodic else tuple(2 * n for n in mean.shape)
    axes = tuple(range(-mean.ndim, 0))
    power = torch.zeros((), dtype=torch.float64)
    for size in _chunks(count):
        draws = sample(size, generator).to("cpu", torch.float64) - mean
        power = power + torch.fft.rfftn(draws, s=shape, dim=axes).abs().square().sum(0)
    covariance = torch.fft.irfftn(power / count, s=shape, dim=axes)
    pairs = torch.fft.irfftn(torch.fft.rfftn(spread, s=shape, dim=axes).abs().square(), s=shape, dim=axes)
    correlation = torch.where(pairs > 1e-3 * pairs.max(), covariance / pairs.clamp_min(1e-300), 0.0)
    if not periodic:
        correlation = correlation * _taper(shape)
    spectrum = torch.fft.rfftn(correlation, dim=axes).real.clamp_min(0)
    size = torch.fft.irfftn(spectrum, s=shape, dim=axes).flatten()[0]  # 1 up to what clamping added
    return FieldStatistics(mean, spread, spectrum / size, periodic)


def _chunks(count: int) -> list[int]:
    return [_CHUNK] * (count // _CHUNK) + ([count % _CHUNK] if count % _CHUNK else [])


def _taper(shape: tuple[int, ...]) -> Tensor:
    """A positive definite window that falls to zero at half the torus, so that the lags of few pairs count little."""
    window = torch.ones((), dtype=torch.float64)
    for n in shape:
        lag = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).abs() / (n / 2)
        # Parzen's window, whose Fourier transform is not negative
        parzen = torch.where(lag < 0.5, 1 - 6 * lag**2 * (1 - lag), 2 * (1 - lag) ** 3)
        window = window[..., None] * parzen
    return window
