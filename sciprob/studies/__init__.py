"""Many runs: calibration of a solver, comparisons, studies over settings and seeds."""

from sciprob.studies.calibration import Calibration, calibrate

__all__ = ["Calibration", "calibrate"]
