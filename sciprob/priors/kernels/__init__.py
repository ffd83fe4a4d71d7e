"""One-dimensional stationary kernels with derivatives, spectral mixtures among them."""

from sciprob.priors.kernels.base import StationaryKernel
from sciprob.priors.kernels.covariance import covariance
from sciprob.priors.kernels.mixtures import GaussianMixture, StudentMixture
from sciprob.priors.kernels.single import Matern, SquaredExponential

__all__ = ["GaussianMixture", "Matern", "SquaredExponential", "StationaryKernel", "StudentMixture", "covariance"]
