"""Equations as strong residuals on jets; import each equation from its module."""

from sciprob.pde.conditions import HardCondition, SoftCondition
from sciprob.pde.coordinates import columns, coordinate_jets, point_jets
from sciprob.pde.jet import Jet
from sciprob.pde.network_jets import network_jets
from sciprob.pde.pde import PDE

__all__ = [
    "PDE",
    "HardCondition",
    "Jet",
    "SoftCondition",
    "columns",
    "coordinate_jets",
    "network_jets",
    "point_jets",
]
