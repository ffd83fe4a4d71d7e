"""Bridges to other packages: linear operators, imaging physics, samplers, remote models."""

from sciprob.interop.imaging import from_deepinv, to_deepinv
from sciprob.interop.log_density import LogDensity
from sciprob.interop.matrix_free import from_matrix_free, to_pylops, to_scipy
from sciprob.interop.pymc_model import to_pymc
from sciprob.interop.remote import RemoteModel, remote_operator

__all__ = [
    "LogDensity",
    "RemoteModel",
    "from_deepinv",
    "from_matrix_free",
    "remote_operator",
    "to_deepinv",
    "to_pylops",
    "to_pymc",
    "to_scipy",
]
