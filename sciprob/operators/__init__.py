"""Forward operators and linear maps."""

from sciprob.operators.algebra import Affine, Partial, stack
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.operators.counting import SolveCounter
from sciprob.operators.linear import DenseMap, DiagonalMap, ExplicitLinearMap, FunctionMap, LinearMap
from sciprob.operators.observe import PointObservation, Restriction

__all__ = [
    "Affine",
    "Capability",
    "DenseMap",
    "DiagonalMap",
    "ExplicitLinearMap",
    "ForwardOperator",
    "FunctionMap",
    "LinearMap",
    "Partial",
    "PointObservation",
    "Restriction",
    "SolveCounter",
    "stack",
]
