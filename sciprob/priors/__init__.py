"""Priors: distributions of the unknown before the data. Names are imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciprob.priors.base import GaussianPrior, Prior
    from sciprob.priors.distribution import DistributionPrior
    from sciprob.priors.fe_matern import FEMatern
    from sciprob.priors.grid_matern import GridMatern
    from sciprob.priors.kronecker import KroneckerPrior
    from sciprob.priors.transformed import TransformedPrior

_HOMES = {
    "DistributionPrior": "distribution",
    "FEMatern": "fe_matern",
    "GaussianPrior": "base",
    "GridMatern": "grid_matern",
    "KroneckerPrior": "kronecker",
    "Prior": "base",
    "TransformedPrior": "transformed",
}

__all__ = [
    "DistributionPrior",
    "FEMatern",
    "GaussianPrior",
    "GridMatern",
    "KroneckerPrior",
    "Prior",
    "TransformedPrior",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"sciprob.priors.{_HOMES[name]}"), name)
    message = f"module 'sciprob.priors' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return list(__all__)
