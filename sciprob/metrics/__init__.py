"""Scores, calibration and convergence measures."""
