"""The folder of a run: what it holds, and writing it so that a kill never leaves half a file."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor

from sciprob.errors import ConfigError

_PACKAGES = (
    *("sciprob", "torch", "numpy", "scipy", "gpytorch", "linear_operator", "pyro-ppl", "meshio", "xarray", "h5netcdf"),
    *("safetensors", "matplotlib", "arviz", "dolfinx-solver-real", "fenics-dolfinx", "petsc4py", "mpi4py", "gmsh"),
    *("pyvista", "astra-toolbox"),
)
_LOG_EVERY = 0.2  # seconds between two log lines of fast steps


class RunFolder:
    """Paths and atomic writes of one run.

    Files: `config.toml`, `environment.json`, `checkpoint/`, `metrics.jsonl` while it runs;
    `posterior/`, `posterior.nc`, `figures/`, `cite.bib` and last `metrics.json` when it ends.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.checkpoint = self.path / "checkpoint" / "state.safetensors"
        self.measurements = self.path / "checkpoint" / "data.safetensors"
        self.config = self.path / "config.toml"
        self.log = self.path / "metrics.jsonl"
        self._logged = -math.inf

    @classmethod
    def create(cls, path: str | Path, *, overwrite: bool = False) -> RunFolder:
        """A new folder.

        Raises:
            ConfigError: If it exists and is not empty, and `overwrite` is false or it is not a run.
        """
        folder = cls(path)
        if folder.path.is_file():
            message = f"`{path}` is a file; give a folder for the run."
            raise ConfigError(message)
        if folder.path.is_dir() and any(folder.path.iterdir()):
            if not folder.config.is_file():
                message = f"`{path}` holds other files and is not a run; choose a new folder."
                raise ConfigError(message)
            if not overwrite:
                message = f"`{path}` already holds a run; continue it (`sciprob resume {path}`) or use `--overwrite`."
                raise ConfigError(message)
            shutil.rmtree(folder.path)
        folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run.

        Raises:
            ConfigError: If the folder is not one.
        """
        folder = cls(path)
        if not folder.config.is_file():
            message = f"`{path}` is not a run folder (it has no config.toml); give the folder of `sciprob solve --out`."
            raise ConfigError(message)
        for scratch in sorted(folder.path.rglob(".*.part")):  # of a killed write
            shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)
        return folder

    def begin(self, config: Mapping[str, Any], device: torch.device) -> None:
        """Write `environment.json` and last `config.toml`: with it the run can be resumed."""
        write_json(self.path / "environment.json", environment(device))
        write_text(self.config, tomli_w.dumps(dict(config)))

    def append_log(self, line: Mapping[str, Any], *, force: bool = False) -> None:
        """Add a line to `metrics.jsonl`; fast steps are thinned."""
        now = time.perf_counter()
        if force or now - self._logged >= _LOG_EVERY:
            self._logged = now
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(plain(line), allow_nan=False) + "\n")

    def trim_log(self, step: int) -> None:
        """Drop lines after `step`, and a line torn by a kill; called before a run goes on."""
        if self.log.is_file():
            kept = [line for line in self.log.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
            write_text(self.log, "".join(f"{line}\n" for line in kept))

    def replace_folder(self, name: str, scratch: Path) -> None:
        """Put a finished folder in the place of the old one."""
        target = self.path / name
        old = self.path / f".{name}.old.part"
        if target.exists():
            os.replace(target, old)
        os.replace(scratch, target)
        shutil.rmtree(old, ignore_errors=True)

    def scratch(self, name: str) -> Path:
        """An empty place to write a file or folder that is then moved to `name`; keeps the suffix."""
        path = self.path / ".writing.part" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def clear_scratch(self) -> None:
        """Remove the scratch area."""
        shutil.rmtree(self.path / ".writing.part", ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file beside `path`, flush it to disk, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    with scratch.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(scratch, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON that any reader accepts: tensors as lists, NaN and infinity as null."""
    write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """Numbers, strings, lists and string-keyed tables only."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # numpy scalars
        return plain(value.item())
    return [plain(item) for item in value] if isinstance(value, Iterable) else str(value)


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, platform, device and threads: what a number may depend on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else [],
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
