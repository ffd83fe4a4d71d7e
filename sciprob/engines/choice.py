"""Which engine solves elliptic problems on meshes."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Literal

import torch

Engine = Literal["auto", "fenicsx", "torch"]


def elliptic_engine(name: Engine) -> ModuleType:
    """The module with `elliptic_operator` and `source_operator`, which take the same arguments in every engine.

    Args:
        name: `"fenicsx"`: direct solves, sample by sample, on meshes that may be distributed over
            processes. `"torch"`: iterative solves of all samples at once on the device of the tensors.
            `"auto"`: torch where there is a CUDA device or no FEniCSx, else FEniCSx. Their results
            agree to about 1e-11 (for boundary data that are polynomials).
    """
    if name == "auto":
        name = "torch" if torch.cuda.is_available() or importlib.util.find_spec("dolfinx") is None else "fenicsx"
    if name == "torch":
        from sciprob.engines import torch_fe

        return torch_fe
    from sciprob.engines import fenicsx

    return fenicsx
