"""X-ray tomography: beams, projector, filtered back-projection, phantoms with known line integrals."""

from sciprob.operators.xray.ellipses import Ellipses
from sciprob.operators.xray.fbp import FilteredBackProjection
from sciprob.operators.xray.geometry import BeamGeometry, FanBeam, ParallelBeam, Rays
from sciprob.operators.xray.projector import XrayTransform
from sciprob.operators.xray.visibility import Edges, edges_by_visibility

__all__ = [
    "BeamGeometry",
    "Edges",
    "Ellipses",
    "FanBeam",
    "FilteredBackProjection",
    "ParallelBeam",
    "Rays",
    "XrayTransform",
    "edges_by_visibility",
]
