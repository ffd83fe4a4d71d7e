"""Tools to test your own operators as ours are tested; needs pytest."""

from sciprob.testing.checks import adjoint_defect, loglog_fit, taylor_orders
from sciprob.testing.conformance import OperatorConformance
from sciprob.testing.residual_conformance import ResidualConformance

__all__ = ["OperatorConformance", "ResidualConformance", "adjoint_defect", "loglog_fit", "taylor_orders"]
