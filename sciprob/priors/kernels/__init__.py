"""One-dimensional stationary kernels with derivatives, spectral mixtures among them."""

from sciprob.priors.kernels.base import StationaryKernel
from sciprob.priors.kernels.covariance import covariance
from sciprob.priors.kernels.hyperpriors import KernelPrior
from sciprob.priors.kernels.mixtures import GaussianMixture, StudentMixture
from sciprob.priors.kernels.single import Matern, SquaredExponential
from sciprob.priors.kernels.spectrum import SpectralPeaks, initial_mixture, spectral_peaks

__all__ = [
    "GaussianMixture",
    "KernelPrior",
    "Matern",
    "SpectralPeaks",
    "SquaredExponential",
    "StationaryKernel",
    "StudentMixture",
    "covariance",
    "initial_mixture",
    "spectral_peaks",
]
