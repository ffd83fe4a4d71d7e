"""Evolution equations on periodic and bounded uniform grids by spectral methods."""

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.evolution import Evolution

__all__ = ["Evolution", "SpectralBasis", "SpectralEquation"]
