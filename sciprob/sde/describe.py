"""Conditioned paths as plain numbers and tensors, for saving and exact reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError
from sciprob.sde.affine import AffineSDE
from sciprob.sde.dense_paths import DensePathPosterior
from sciprob.sde.gaussian_paths import MultifractionalPath, NoiseSeries
from sciprob.sde.hurst_curve import HurstFormula, HurstKnots
from sciprob.sde.markov_paths import MarkovPathPosterior
from sciprob.sde.path_data import PathData

Conditional = DensePathPosterior | MarkovPathPosterior
_PATHS: dict[str, Any] = {cls.__name__: cls for cls in (AffineSDE, NoiseSeries, MultifractionalPath)}


def describe_conditional(conditional: Conditional) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings (JSON) and tensors from which `restore_conditional` builds an equal one."""
    path, data = conditional.sde, conditional.data
    numbers: dict[str, Any] = {}
    std = torch.as_tensor(data.noise_std, dtype=torch.float64)
    tensors = {"data.times": data.times, "data.values": data.values, "data.noise_std": std}
    for field in fields(path):  # type: ignore[arg-type]
        value = getattr(path, field.name)
        if isinstance(value, Tensor):
            tensors[f"path.{field.name}"] = value
        elif isinstance(value, HurstFormula):
            numbers[field.name] = {"text": value.text}
        elif isinstance(value, HurstKnots):
            numbers[field.name] = {"horizon": value.horizon}
            tensors["knots"] = value.values
        else:
            numbers[field.name] = value
    settings: dict[str, Any] = {"path": type(path).__name__, "numbers": numbers}
    if isinstance(conditional, MarkovPathPosterior):
        settings["horizon"] = conditional.horizon
        tensors["rates"] = conditional.rates
    return settings, tensors


def restore_conditional(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Conditional:
    """Build a described path again.

    Raises:
        DataError: If its process is of an unknown class.
    """
    cls = _PATHS.get(str(settings["path"]))
    if cls is None:
        message = f"unknown path {settings['path']!r} in a saved file, known are {sorted(_PATHS)}; update sciprob."
        raise DataError(message)
    parts = dict(settings["numbers"])
    if isinstance(parts.get("hurst"), Mapping):
        own = parts["hurst"]
        parts["hurst"] = (
            HurstFormula(own["text"]) if "text" in own else HurstKnots(tensors["knots"], float(own["horizon"]))
        )
    parts |= {name.removeprefix("path."): t for name, t in tensors.items() if name.startswith("path.")}
    path = cls(**parts)
    data = PathData(tensors["data.times"], tensors["data.values"], tensors["data.noise_std"])
    if "horizon" in settings:
        return MarkovPathPosterior(path, data, tensors["rates"], horizon=float(settings["horizon"]))
    return DensePathPosterior(path, data)
