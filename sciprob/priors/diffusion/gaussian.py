"""The exact denoiser of a Gaussian: its Wiener filter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.priors.diffusion.spectral_prior import SpectralPrior
from sciprob.priors.diffusion.spectrum import FourierSpectrum, KroneckerSpectrum, Spectrum, cosine_basis
from sciprob.priors.grid_matern import GridMatern
from sciprob.random import randn
from sciprob.spaces import Space

if TYPE_CHECKING:
    from sciprob.priors.kronecker import KroneckerPrior

_DENSE_LIMIT = 4096  # unknowns up to which a covariance is formed and diagonalised


class GaussianDenoiser(Denoiser):
    """D(z, sigma) = m + C (C + sigma^2 I)^{-1} (z - m) for x ~ N(m, C), exact at every level.

    One diagonalisation C = Q diag(c) Q^T serves all levels; the cost is that of Q: FFTs for stationary fields,
    one small product per axis for separable ones, dense otherwise. Singular C is allowed: z is projected.

    Args:
        space: Space of x.
        mean: m, `(*space.shape)`.
        spectrum: C by its eigenvectors.

    Raises:
        ShapeError: If mean or spectrum do not fit the space.

    Sources: Wiener, Extrapolation, Interpolation and Smoothing of Stationary Time Series, 1949.
    """

    mean: Tensor

    def __init__(self, space: Space, mean: Tensor, spectrum: Spectrum) -> None:
        super().__init__(space)
        if tuple(mean.shape) != space.shape or spectrum.shape != space.shape:
            message = (
                f"mean and spectrum should be of the space's {space.shape}, got {tuple(mean.shape)}, {spectrum.shape}."
            )
            raise ShapeError(message)
        self.spectrum = spectrum
        self.register_buffer("mean", mean.detach().to(torch.float64))

    @classmethod
    def of_covariance(
        cls, covariance: Tensor, mean: Tensor | None = None, space: Space | None = None
    ) -> GaussianDenoiser:
        """From a dense covariance `(d, d)`.

        Args:
            covariance: Symmetric, positive semi-definite.
            mean: `(*space.shape)`; default 0.
            space: Space with d entries; default `(d,)`.

        Raises:
            ShapeError: If it is not a square matrix that fits the space.
            ConfigError: If it is not symmetric and positive semi-definite.
        """
        space = Space((len(covariance),)) if space is None else space
        eigenvalues, vectors = eigenpairs(covariance)
        mean = covariance.new_zeros(space.shape) if mean is None else mean
        return cls(space, mean, KroneckerSpectrum([vectors], eigenvalues, space.shape))

    @classmethod
    def of_prior(cls, prior: GaussianPrior) -> GaussianDenoiser:
        """From a Gaussian prior, with the structure of its root.

        `GridMatern` with one std on a periodic grid (FFT) or a Neumann grid of cells (DCT), and `KroneckerPrior`,
        keep theirs, `SpectralPrior` its own; other priors of at most 4096 unknowns are diagonalised densely.

        Raises:
            UnsupportedProblemError: If a larger prior has no structure known here.
        """
        if isinstance(prior, SpectralPrior):
            return cls(prior.space, prior.mean, prior.spectrum)
        from sciprob.priors.kronecker import KroneckerPrior  # loads GPyTorch, and with it Pyro

        if isinstance(prior, KroneckerPrior):
            return cls(prior.space, prior.mean, _kronecker_spectrum(prior))
        if isinstance(prior, GridMatern) and (spectrum := _matern_spectrum(prior)) is not None:
            return cls(prior.space, prior.mean, spectrum)
        if prior.space.size > _DENSE_LIMIT:
            message = (
                f"a {type(prior).__name__} on {prior.space.shape} has no known eigenvectors; use `prior.diffusion`, "
                "which is exact in its white coordinates."
            )
            raise UnsupportedProblemError(message)
        root = prior.root.to_dense(dtype=torch.float64, device=prior.mean.device)
        return cls.of_covariance(root @ root.mT, prior.mean, prior.space)

    def _denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        v, c = self._levels(sigma)
        gain = torch.where(c > 0, c / (c + v), 0.0)
        mean = self.mean.to(z.dtype)
        return mean + self.spectrum.apply_function(gain, z.new_zeros(()), z - mean)

    def flow(self, z: Tensor, start: float, end: float) -> Tensor:
        """Exact probability flow from level `start` to `end`: m + ((C + end^2)/(C + start^2))^{1/2} (z - m).

        Args:
            z: `(*batch, *space.shape)`.
            start: Level of `z`, above zero.
            end: Level of the result.
        """
        c = self.spectrum.eigenvalues[None]
        ratio = ((c + end**2) / (c + start**2)).sqrt()
        null = torch.tensor(end / start, dtype=z.dtype, device=z.device)
        mean = self.mean.to(z.dtype)
        moved = mean + self.spectrum.apply_function(ratio, null, self.space.merge(z) - mean)
        return moved.reshape(z.shape)

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Exact draws of x, `(*shape, *space.shape)`, float64."""
        white = randn((*shape, *self.space.shape), self.mean, generator)
        root = self.spectrum.eigenvalues[None].sqrt()
        draws = self.mean + self.spectrum.apply_function(root, white.new_zeros(()), self.space.merge(white))
        return draws.reshape(white.shape)

    def log_prob(self, z: Tensor, sigma: float = 0.0) -> Tensor:
        """Log density of z = x + sigma e, `(*batch,)`; -inf or NaN where C + sigma^2 I is singular."""
        v, c = sigma**2, self.spectrum.eigenvalues
        centred = self.space.merge(z - self.mean.to(z.dtype))
        null = torch.tensor(1 / v if v > 0 else math.inf, dtype=z.dtype, device=z.device)
        null = null if self.spectrum.nullity else z.new_zeros(())
        weighted = self.spectrum.apply_function(1 / (c + v)[None], null, centred)
        log_det = (self.spectrum.multiplicity * (c + v).log()).sum()
        if self.spectrum.nullity:
            log_det = log_det + self.spectrum.nullity * (math.log(v) if v > 0 else -math.inf)
        log_det = log_det + self.space.size * math.log(2 * math.pi)
        return (-0.5 * self.space.inner(centred, weighted) - 0.5 * log_det.to(z.dtype)).reshape(
            self.space.batch_shape(z)
        )

    def _levels(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """sigma^2 and c, with as many axes as c has and a batch axis before."""
        c = self.spectrum.eigenvalues[None]
        v = sigma.reshape(-1, *(1 for _ in c.shape[1:])).to(c.dtype).square()
        return v, c


def eigenpairs(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues `(*batch, d)`, not negative, and eigenvectors `(*batch, d, d)` of covariances, float64.

    Raises:
        ShapeError: If they are not square.
        ConfigError: If one is not symmetric and positive semi-definite to 1e-10 of its size.
    """
    if covariance.ndim < 2 or covariance.shape[-1] != covariance.shape[-2]:
        message = f"a covariance should be a square matrix, got {tuple(covariance.shape)}."
        raise ShapeError(message)
    matrix = covariance.detach().to(torch.float64)
    size = float(matrix.abs().max()) if matrix.numel() else 0.0
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    skew = float((matrix - matrix.mT).abs().max())
    if not skew <= 1e-10 * size or not float(values.min()) >= -1e-10 * size:
        message = (
            f"a covariance should be symmetric and positive semi-definite, got asymmetry {skew:.1e} "
            f"and smallest eigenvalue {float(values.min()):.1e}."
        )
        raise ConfigError(message)
    return values.clamp_min(0), vectors


def _kronecker_spectrum(prior: KroneckerPrior) -> KroneckerSpectrum:
    """Q_j and eigenvalues of every axis from the singular values of the factors L_j."""
    values, vectors = torch.ones((), dtype=torch.float64, device=prior.mean.device), []
    for factor in prior.root.factors:
        left, singular, _ = torch.linalg.svd(factor.to(torch.float64), full_matrices=False)
        values = values[..., None] * singular.square()
        vectors.append(left)
    return KroneckerSpectrum(vectors, values)


def _matern_spectrum(prior: GridMatern) -> Spectrum | None:
    """The spectrum of a Matern field where sines and cosines are eigenvectors, else None."""
    from sciprob.priors.grid_root import GridMaternRoot

    root, shape = prior.root, prior.space.shape
    assert isinstance(root, GridMaternRoot)
    scale = root.scale.reshape(-1)
    if bool((scale != scale[0]).any()):
        return None
    eigenvalues = scale[0].to(torch.float64).square() * root.amplitude.to(torch.float64).square()
    if prior.boundary == "periodic":
        return FourierSpectrum(shape, eigenvalues)
    if prior.boundary == "neumann" and root.codomain.centring == "cell":
        modes = eigenvalues[tuple(slice(n) for n in shape)]
        return KroneckerSpectrum([cosine_basis(n, modes.device) for n in shape], modes)
    return None
