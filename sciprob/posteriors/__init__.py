"""Posteriors: Gaussian, transformed Gaussian, process, ensemble, sampler."""

from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.posteriors.process import ProcessPosterior
from sciprob.posteriors.sampler import SamplerPosterior
from sciprob.posteriors.transformed import TransformedPosterior

__all__ = ["Ensemble", "GaussianPosterior", "Posterior", "ProcessPosterior", "SamplerPosterior", "TransformedPosterior"]
