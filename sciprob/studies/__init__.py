"""Many runs: calibration of a solver, studies over problems, settings, solvers and data sets."""

from sciprob.studies.calibration import Calibration, calibrate
from sciprob.studies.study import Study, run_study

__all__ = ["Calibration", "Study", "calibrate", "run_study"]
