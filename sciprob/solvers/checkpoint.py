"""Solver states on disk without pickle, so that a resumed run equals an uninterrupted one.

A checkpoint is one safetensors file, replaced in one step: its tensors are those of the state and of
the random streams, its header holds the rest of the state as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.random import Streams
from sciprob.solvers.state import pack, unpack

_FORMAT = "sciprob-checkpoint-1"


def save_checkpoint(path: Path, state: Any, streams: Streams, counters: Mapping[str, Any]) -> None:
    """Write state, streams and counters; a kill at any moment leaves the old or the new file.

    Raises:
        TypeError: If the state holds something that is not plain (the message names the entry).
    """
    tensors: dict[str, Tensor] = {}
    tree = pack(state, "state", tensors)
    for name, generator_state in streams.state_dict().items():
        tensors[f"stream/{name}"] = generator_state
    header = {"format": _FORMAT, "state": json.dumps(tree), "counters": json.dumps(dict(counters))}
    write_tensors(path, tensors, header)


def load_checkpoint(path: Path, solver: Any, streams: Streams) -> tuple[Any, dict[str, Any]]:
    """Read a checkpoint into a new state and set the streams.

    Args:
        path: The file.
        solver: The solver whose module defines the state's class.
        streams: Set to the saved states.

    Raises:
        ConfigError: If the file is not a checkpoint of this solver and version.
    """
    try:
        tensors, header = read_tensors(path)
    except (SafetensorError, OSError) as error:
        message = f"`{path}` is not a readable checkpoint ({error}); start the run again."
        raise ConfigError(message) from error
    if header.get("format") != _FORMAT:
        message = f"`{path}` has checkpoint format {header.get('format')!r}, this version reads {_FORMAT!r}."
        raise ConfigError(message)
    streams.load_state_dict({k.removeprefix("stream/"): v for k, v in tensors.items() if k.startswith("stream/")})
    modules = [cls.__module__ for cls in type(solver).__mro__]
    state = unpack(json.loads(header["state"]), tensors, streams.device, modules)
    return state, json.loads(header["counters"])


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """A safetensors file, written beside `path`, flushed to disk and renamed; it clears what a killed writer left."""
    folder = path.with_name(f".{path.name}.part")  # safetensors writes a temporary file of random name in it
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scratch = folder / path.name
    save_file(dict(tensors), scratch, metadata=dict(header))
    scratch.chmod(0o644)  # safetensors makes files private
    with scratch.open("rb") as stream:
        os.fsync(stream.fileno())
    os.replace(scratch, path)
    shutil.rmtree(folder)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file; tensors are copied to aligned memory."""
    with safe_open(path, framework="pt") as file:
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, dict(file.metadata() or {})


def save_measurements(path: Path, data: Tensor, truth: Tensor | None) -> None:
    """Write the run's data and truth, which a problem changed in Python does not have in its file."""
    tensors = {"data": data.detach().contiguous()} | ({} if truth is None else {"truth": truth.detach().contiguous()})
    write_tensors(path, tensors, {})


def load_measurements(path: Path) -> tuple[Tensor, Tensor | None]:
    """Data and truth of a run.

    Raises:
        ConfigError: If the file is missing or damaged.
    """
    try:
        tensors, _ = read_tensors(path)
        return tensors["data"], tensors.get("truth")
    except (SafetensorError, OSError, KeyError) as error:
        message = f"`{path}` with the run's data is missing or damaged ({error}); start the run again."
        raise ConfigError(message) from error
