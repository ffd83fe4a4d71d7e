"""Stochastic differential equations: fractional noise, its Markov approximation, exact inference."""

from sciprob.sde.covariance import (
    fbm_covariance,
    fgn_autocovariance,
    multifractional_covariance,
    riemann_liouville_covariance,
)
from sciprob.sde.hurst import hurst_likelihood, hurst_whittle
from sciprob.sde.hurst_estimate import HurstEstimate
from sciprob.sde.quadratic_variations import hurst_quadratic_variations
from sciprob.sde.sampling import sample_fbm, sample_fgn, sample_gaussian
from sciprob.sde.spectrum import fgn_spectrum
from sciprob.sde.toeplitz import toeplitz_gram

__all__ = [
    "HurstEstimate",
    "fbm_covariance",
    "fgn_autocovariance",
    "fgn_spectrum",
    "hurst_likelihood",
    "hurst_quadratic_variations",
    "hurst_whittle",
    "multifractional_covariance",
    "riemann_liouville_covariance",
    "sample_fbm",
    "sample_fgn",
    "sample_gaussian",
    "toeplitz_gram",
]
