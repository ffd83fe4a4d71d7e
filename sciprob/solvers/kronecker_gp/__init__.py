"""Spectral-mixture Kronecker Gaussian processes for PDEs."""

from sciprob.solvers.kronecker_gp.conditional import Conditional
from sciprob.solvers.kronecker_gp.conditioning import condition
from sciprob.solvers.kronecker_gp.dense_gram import DenseConditional
from sciprob.solvers.kronecker_gp.evidence import log_evidence
from sciprob.solvers.kronecker_gp.factor_form import FactorConditional
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.modal import ModalConditional
from sciprob.solvers.kronecker_gp.scales import prior_std

__all__ = [
    "AxisFactors",
    "Conditional",
    "DenseConditional",
    "FactorConditional",
    "ModalConditional",
    "condition",
    "log_evidence",
    "prior_std",
]
