"""Exact inference for paths with affine drift and fractional noise: `kalman`."""

from sciprob.solvers.kalman.solver import Kalman

__all__ = ["Kalman"]
