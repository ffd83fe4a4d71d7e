"""Saving posteriors for exact reload: JSON and safetensors, no pickle.

A folder holds `manifest.json` and one tensor file that the manifest names together with its
sha256. The tensor file is written first and the manifest replaced last, so a folder always holds
one complete posterior.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.io.spaces import describe_space, restore_space
from sciprob.operators.parameterise import Elementwise, from_settings
from sciprob.operators.store import describe, restore
from sciprob.posteriors import (
    Ensemble,
    GaussianPosterior,
    PathPosterior,
    Posterior,
    ProcessPosterior,
    SamplerPosterior,
    TransformedPosterior,
)
from sciprob.spaces import GridSpace

FORMAT, VERSION = "sciprob-posterior", 1
_MANIFEST = "manifest.json"

Described = tuple[dict[str, Any], dict[str, Tensor]]


def save_posterior(posterior: Posterior, folder: str | Path) -> Path:
    """Write a posterior into a folder, replacing the one that may be there.

    Mean, variances, covariance root, draws, weights, space (with its mesh) and `meta` are kept, so
    sampling the reloaded posterior with the same generator gives the same numbers. A
    `SamplerPosterior` is saved as the draws behind its moments and comes back as an `Ensemble`.

    Returns:
        The folder.

    Raises:
        UnsupportedProblemError: If the root, transform or space is of a class that cannot be saved.
        ConfigError: If `meta` holds something that is not plain.
    """
    from safetensors.torch import save

    from sciprob import __version__

    folder = Path(folder)
    description, tensors = _describe(posterior)
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    digest = hashlib.sha256(data).hexdigest()
    name = f"tensors-{digest[:12]}.safetensors"
    manifest = {"format": FORMAT, "version": VERSION, "sciprob": __version__, "tensors": name, "sha256": digest}
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / name, data)
    _replace(folder / _MANIFEST, json.dumps(manifest | {"posterior": description}, indent=1).encode())
    for old in folder.glob("tensors-*.safetensors"):
        if old.name != name:
            old.unlink()
    return folder


def load_posterior(folder: str | Path) -> Posterior:
    """Read a posterior that `save_posterior` wrote; `folder` may also be a run folder.

    Tensors come back on the CPU, bit for bit.

    Raises:
        DataError: If there is no posterior, or its files are damaged or of a newer format.
        ConfigError: If it needs a kind of linear map that is not imported.
    """
    from safetensors.torch import load

    folder = Path(folder)
    if not (folder / _MANIFEST).is_file() and (folder / "posterior" / _MANIFEST).is_file():
        folder = folder / "posterior"
    manifest = _read_manifest(folder)
    path = folder / str(manifest["tensors"])
    if path.parent != folder or not path.is_file():
        message = f"`{folder}` lacks the tensor file {manifest['tensors']!r} its manifest names; save it again."
        raise DataError(message)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
        message = f"`{path}` is damaged, its sha256 is not the one in {_MANIFEST}; copy or save it again."
        raise DataError(message)
    return _restore(manifest["posterior"], load(data))


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not path.is_file():
        message = f"no saved posterior in `{folder}`: expected {_MANIFEST} there or in its sub-folder `posterior`."
        raise DataError(message)
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        message = f"`{path}` is damaged, it is not JSON ({error}); copy or save it again."
        raise DataError(message) from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest["version"], int):
        message = f"`{path}` does not describe a posterior; expected the format {FORMAT!r}."
        raise DataError(message)
    if manifest["version"] > VERSION:
        message = f"`{path}` has format version {manifest['version']}, this sciprob reads up to {VERSION}; update it."
        raise DataError(message)
    return manifest


def _describe(posterior: Posterior) -> Described:
    """Class, space, words and tensors of a posterior."""
    if isinstance(posterior, SamplerPosterior):
        settings, tensors = _describe(posterior.stored)
        return settings | {"saved_from": "SamplerPosterior"}, tensors
    writers: dict[type[Posterior], Any] = {
        GaussianPosterior: _gaussian,
        PathPosterior: _gaussian,
        ProcessPosterior: _gaussian,
        TransformedPosterior: _transformed,
        Ensemble: _ensemble,
    }
    writer = writers.get(type(posterior))
    if writer is None:
        message = f"{type(posterior).__name__} cannot be saved; save `posterior.ensemble(n, generator=...)` instead."
        raise UnsupportedProblemError(message)
    space, coordinates = describe_space(posterior.space)
    settings, tensors = writer(posterior)
    common = {"class": type(posterior).__name__, "space": space, "meta": plain(posterior.meta)}
    return common | settings, _prefixed("space.", coordinates) | tensors


def _gaussian(posterior: GaussianPosterior) -> Described:
    optional = {"variance": posterior._variance, "draws": posterior.draws}
    tensors = {"mean": posterior.mean} | {name: t for name, t in optional.items() if t is not None}
    if posterior.root is None:
        return {}, tensors
    kind, settings, parts = describe(posterior.root)
    return {"root": {"kind": kind, "settings": plain(settings)}}, tensors | _prefixed("root.", parts)


def _transformed(posterior: TransformedPosterior) -> Described:
    if not isinstance(posterior.transform, Elementwise):
        message = f"the transform {type(posterior.transform).__name__} cannot be saved; it should be an `Elementwise`."
        raise UnsupportedProblemError(message)
    base, tensors = _describe(posterior.base)
    return {"base": base, "transform": plain(posterior.transform.settings())}, _prefixed("base.", tensors)


def _ensemble(posterior: Ensemble) -> Described:
    weights = {} if posterior.log_weights is None else {"log_weights": posterior.log_weights}
    return {"chains": posterior.chains}, {"samples": posterior.samples} | weights


def _restore(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Posterior:
    space = restore_space(settings["space"], _inside("space.", tensors))
    meta, name = settings["meta"], settings["class"]
    if name == "Ensemble":
        return Ensemble(space, tensors["samples"], tensors.get("log_weights"), settings["chains"], meta)
    if name == "TransformedPosterior":
        base = _restore(settings["base"], _inside("base.", tensors))
        assert isinstance(base, GaussianPosterior)
        return TransformedPosterior(base, from_settings(settings["transform"], base.space, space), space, meta)
    if name not in ("GaussianPosterior", "PathPosterior", "ProcessPosterior"):
        message = f"unknown class of posterior {name!r} in a saved file; update sciprob or save it again."
        raise DataError(message)
    root: Any = None
    if "root" in settings:
        root = restore(settings["root"]["kind"], settings["root"]["settings"], _inside("root.", tensors))
    variance, draws = tensors.get("variance"), tensors.get("draws")
    if name == "ProcessPosterior":
        assert isinstance(space, GridSpace)
        derivative = {"name_of_derivative": root.derivative, "scale": root.scale}
        return ProcessPosterior(space, root.process, meta=meta, variance=variance, **derivative)
    if name == "PathPosterior":
        return PathPosterior(space, root.conditional, mean=tensors["mean"], variance=variance, meta=meta)
    return GaussianPosterior(space, mean=tensors["mean"], root=root, variance=variance, draws=draws, meta=meta)


def plain(value: Any, name: str = "meta") -> Any:
    """Dictionaries, lists, numbers and words that JSON can hold; tensors become lists.

    Raises:
        ConfigError: If something else is inside; names its key.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (Path, torch.device, torch.dtype)):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    message = f"`{name}` should be a plain number, word, list or dictionary to be saved, got {type(value).__name__}."
    raise ConfigError(message)


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _inside(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
