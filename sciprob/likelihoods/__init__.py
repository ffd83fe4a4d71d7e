"""Likelihoods: noise models around a forward operator."""

from sciprob.likelihoods.base import Likelihood, NoiseModel
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.likelihoods.level import InverseGamma
from sciprob.likelihoods.poisson import PoissonCounts

__all__ = ["GaussianNoise", "InverseGamma", "Likelihood", "NoiseModel", "PoissonCounts"]
