"""Stochastic differential equations: fractional noise, its Markov approximation, exact inference."""

from sciprob.sde.covariance import (
    fbm_covariance,
    fgn_autocovariance,
    multifractional_covariance,
    riemann_liouville_covariance,
)
from sciprob.sde.sampling import sample_fbm, sample_fgn, sample_gaussian

__all__ = [
    "fbm_covariance",
    "fgn_autocovariance",
    "multifractional_covariance",
    "riemann_liouville_covariance",
    "sample_fbm",
    "sample_fgn",
    "sample_gaussian",
]
