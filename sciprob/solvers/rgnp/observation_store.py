"""An observation map on disk: one safetensors file with its settings in the header, no pickle."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError

from sciprob.config import from_mapping, to_mapping
from sciprob.errors import ConfigError, DataError
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.checkpoint import read_tensors, write_tensors
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.observation_map import ObservationMap, ObservationSettings

_FORMAT = "sciprob-observation-map-1"


def save_observation_map(model: ObservationMap, path: str | Path) -> Path:
    """Write a map; a kill at any moment leaves the old or the new file."""
    inverse = model.inverse
    built = {"shape": to_mapping(inverse.network.shape), "rank": inverse.rank, "floor": inverse.floor}
    header = {"format": _FORMAT, "family": model.family.name, "settings": json.dumps(built)}
    write_tensors(Path(path), {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}, header)
    return Path(path)


def load_observation_map(path: str | Path, family: ProblemFamily) -> ObservationMap:
    """Read a map, onto the CPU, for the family it was trained on.

    Raises:
        DataError: If the file is missing, damaged or something else.
        ConfigError: If it belongs to another family.
    """
    try:
        tensors, header = read_tensors(Path(path))
    except (SafetensorError, OSError) as error:
        message = f"`{path}` is not a readable observation map ({error}); train and save it again."
        raise DataError(message) from error
    if header.get("format") != _FORMAT:
        message = f"`{path}` has format {header.get('format')!r}, this version reads {_FORMAT!r}; train it again."
        raise DataError(message)
    if header["family"] != family.name:
        message = f"`{path}` was trained on the family `{header['family']}`, got `{family.name}`; load it with its own."
        raise ConfigError(message)
    built = json.loads(header["settings"])
    shape = from_mapping(GICShape, built["shape"], f"the header of {path}")
    settings = ObservationSettings(shape=shape, rank=built["rank"], floor=built["floor"])
    model = ObservationMap(family, tensors["scale"], settings, torch.Generator())
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        message = f"the network in `{path}` does not fit the family `{family.name}`; load it with its own."
        raise ConfigError(message) from error
    return model.requires_grad_(requires_grad=False)
