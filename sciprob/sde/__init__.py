"""Stochastic differential equations: fractional noise, its Markov approximation, exact inference."""

from sciprob.sde.affine import AffineSDE
from sciprob.sde.covariance import (
    fbm_covariance,
    fgn_autocovariance,
    multifractional_covariance,
    riemann_liouville_covariance,
)
from sciprob.sde.dense_paths import DensePathPosterior
from sciprob.sde.hurst import hurst_likelihood, hurst_whittle
from sciprob.sde.hurst_estimate import HurstEstimate
from sciprob.sde.markov import MarkovNoise, markov_noise
from sciprob.sde.markov_paths import MarkovPathPosterior
from sciprob.sde.path_data import PathData, path_space
from sciprob.sde.quadratic_variations import hurst_quadratic_variations
from sciprob.sde.rates import geometric_rates, published_rates, rates_for_hurst, rates_for_times
from sciprob.sde.sampling import sample_fbm, sample_fgn, sample_gaussian
from sciprob.sde.spectrum import fgn_spectrum
from sciprob.sde.toeplitz import toeplitz_gram

__all__ = [
    "AffineSDE",
    "DensePathPosterior",
    "HurstEstimate",
    "MarkovNoise",
    "MarkovPathPosterior",
    "PathData",
    "fbm_covariance",
    "fgn_autocovariance",
    "fgn_spectrum",
    "geometric_rates",
    "hurst_likelihood",
    "hurst_quadratic_variations",
    "hurst_whittle",
    "markov_noise",
    "multifractional_covariance",
    "path_space",
    "published_rates",
    "rates_for_hurst",
    "rates_for_times",
    "riemann_liouville_covariance",
    "sample_fbm",
    "sample_fgn",
    "sample_gaussian",
    "toeplitz_gram",
]
