"""X-ray tomography: beams, projector, filtered back-projection, phantoms with known line integrals."""

from sciprob.operators.xray.geometry import BeamGeometry, FanBeam, ParallelBeam, Rays
from sciprob.operators.xray.projector import XrayTransform

__all__ = ["BeamGeometry", "FanBeam", "ParallelBeam", "Rays", "XrayTransform"]
