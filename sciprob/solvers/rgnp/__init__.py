"""Random-grid neural processes: amortised probabilistic solutions of parametric equations, forward and inverse."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciprob.solvers.rgnp.amortised import Amortised
    from sciprob.solvers.rgnp.gauss_newton import GaussNewton
    from sciprob.solvers.rgnp.network import NetworkShape
    from sciprob.solvers.rgnp.solver import RandomGridNeuralProcess

_HOMES = {
    "Amortised": "amortised",
    "GaussNewton": "gauss_newton",
    "NetworkShape": "network",
    "RandomGridNeuralProcess": "solver",
}

__all__ = ["Amortised", "GaussNewton", "NetworkShape", "RandomGridNeuralProcess"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
