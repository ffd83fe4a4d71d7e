"""Spectral-mixture Kronecker Gaussian processes for PDEs."""

from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.solvers.kronecker_gp.conditioning import condition
from sciprob.solvers.kronecker_gp.factors import AxisFactors

__all__ = ["AxisFactors", "Conditional", "condition"]
