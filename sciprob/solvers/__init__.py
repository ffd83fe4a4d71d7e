"""Solvers: each turns a problem into a posterior.

The classes are imported when they are first asked for, so that pyro is loaded only for `nuts`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciprob.solvers.baselines.gaussian import Gaussian as Gaussian
    from sciprob.solvers.baselines.laplace import Laplace as Laplace
    from sciprob.solvers.baselines.nuts import NUTS as NUTS
    from sciprob.solvers.baselines.pcn import PCN as PCN
    from sciprob.solvers.diffusion.daps import DAPS as DAPS
    from sciprob.solvers.diffusion.dps import DPS as DPS
    from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble as DiffusionEnsemble
    from sciprob.solvers.diffusion.pigdm import PiGDM as PiGDM
    from sciprob.solvers.diffusion.red_diff import RedDiff as RedDiff
    from sciprob.solvers.diffusion.split_gibbs import SplitGibbs as SplitGibbs
    from sciprob.solvers.diffusion.tds import TwistedDiffusion as TwistedDiffusion
    from sciprob.solvers.fbm_vi.solver import FractionalVI as FractionalVI
    from sciprob.solvers.fbm_vi.video_solver import FractionalVideo as FractionalVideo
    from sciprob.solvers.kalman.solver import Kalman as Kalman
    from sciprob.solvers.kronecker_gp.solver import SpectralMixtureGP as SpectralMixtureGP
    from sciprob.solvers.rgnp.solver import RandomGridNeuralProcess as RandomGridNeuralProcess

__all__ = ["NUTS", "PCN", "SOLVERS", "Gaussian", "Kalman", "Laplace", "RandomGridNeuralProcess"]

_MODULES = {
    "gaussian": ("sciprob.solvers.baselines.gaussian", "Gaussian"),
    "laplace": ("sciprob.solvers.baselines.laplace", "Laplace"),
    "pcn": ("sciprob.solvers.baselines.pcn", "PCN"),
    "nuts": ("sciprob.solvers.baselines.nuts", "NUTS"),
    "kalman": ("sciprob.solvers.kalman.solver", "Kalman"),
    "sm-gp": ("sciprob.solvers.kronecker_gp.solver", "SpectralMixtureGP"),
    "fbm-vi": ("sciprob.solvers.fbm_vi.solver", "FractionalVI"),
    "fbm-video": ("sciprob.solvers.fbm_vi.video_solver", "FractionalVideo"),
    "diffusion-ensemble": ("sciprob.solvers.diffusion.ensemble", "DiffusionEnsemble"),
    "dps": ("sciprob.solvers.diffusion.dps", "DPS"),
    "pigdm": ("sciprob.solvers.diffusion.pigdm", "PiGDM"),
    "daps": ("sciprob.solvers.diffusion.daps", "DAPS"),
    "split-gibbs": ("sciprob.solvers.diffusion.split_gibbs", "SplitGibbs"),
    "red-diff": ("sciprob.solvers.diffusion.red_diff", "RedDiff"),
    "tds": ("sciprob.solvers.diffusion.tds", "TwistedDiffusion"),
    "rgnp": ("sciprob.solvers.rgnp.solver", "RandomGridNeuralProcess"),
}


class _Registry(Mapping[str, type[Any]]):
    """Solver classes by name, imported on access."""

    def __getitem__(self, name: str) -> type[Any]:
        module, attribute = _MODULES[name]
        cls: type[Any] = getattr(importlib.import_module(module), attribute)
        return cls

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


SOLVERS: Mapping[str, type[Any]] = _Registry()


def __getattr__(name: str) -> Any:
    for module, attribute in _MODULES.values():
        if attribute == name:
            return getattr(importlib.import_module(module), attribute)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
