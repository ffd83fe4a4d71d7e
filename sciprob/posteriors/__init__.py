"""Posteriors: Gaussian, transformed Gaussian, path, process, ensemble, sampler."""

from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.posteriors.path import PathPosterior
from sciprob.posteriors.process import ProcessPosterior
from sciprob.posteriors.sampler import SamplerPosterior
from sciprob.posteriors.transformed import TransformedPosterior

__all__ = [
    "Ensemble",
    "GaussianPosterior",
    "PathPosterior",
    "Posterior",
    "ProcessPosterior",
    "SamplerPosterior",
    "TransformedPosterior",
]
