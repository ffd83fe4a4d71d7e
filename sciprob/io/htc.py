"""Scans of the Helsinki Tomography Challenge 2022: reading, and fetching from the published record.

A. Meaney, F. Silva de Moura, S. Siltanen, Helsinki Tomography Challenge 2022 open tomographic
dataset, Zenodo (2022), CC BY 4.0.
"""

from __future__ import annotations

import hashlib
import os
import struct
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError

_RECORD = "https://zenodo.org/records/6984868/files/htc2022_{scan}_full.mat?download=1"
_SHA256 = {
    "solid_disc": "3841c6a6251365b4a89692379e404825ef11a2ac5d328f825ca6e32ff74addc9",
    "ta": "6147e43df9766427a9db56351e1dc650196f77b0ba5f93277164381dd340f026",
    "tb": "7cbb4aae787ad7a1a1ca7cfedc5ca1c429d320c598f9b3c386155c8c2b9bd395",
    "tc": "2ef40bafe437066a0b7fe3ed87dd937d7592fcfeeccd13a3888e80b2573f59db",
    "td": "b7ad7fcff5c7529295d98f71ce76c7bb3371808b6441d8541b0cd1a28caa4f70",
}
_FIELDS = ("distanceSourceOrigin", "distanceSourceDetector", "pixelSizePost", "effectivePixelSizePost", "angles")
_IMAGE = 512  # pixels a side of the challenge's images


@dataclass(frozen=True)
class FanScan:
    """A flat-detector fan-beam scan; lengths in mm.

    Attributes:
        sinogram: -log(I / I0), `(views, bins)`, float64.
        angles: Radians, `(views,)`.
        source_origin: Distance of the source from the rotation axis.
        origin_detector: Distance of the detector from the rotation axis.
        bin_width: Width of a detector bin.
        image_width: Side of the square that the challenge reconstructs.
    """

    sinogram: Tensor
    angles: Tensor
    source_origin: float
    origin_detector: float
    bin_width: float
    image_width: float


def read_scan(path: str | Path) -> FanScan:
    """Read a `.mat` file with the variable `CtDataFull` or `CtDataLimited`.

    Raises:
        DataError: If the file is not such a scan; says what is missing or wrong.
    """
    data = _variable(Path(path), ("CtDataFull", "CtDataLimited"))
    try:
        sinogram, parameters = np.atleast_2d(np.asarray(data["sinogram"], dtype=float)), data["parameters"]
        values = {name: np.asarray(parameters[name], dtype=float) for name in _FIELDS}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        wanted = ", ".join(("sinogram", *_FIELDS))
        message = f"`{path}` should hold the fields {wanted}, but {error} is missing or not numeric."
        raise DataError(message) from error
    angles = values["angles"].reshape(-1)
    if len(angles) != len(sinogram):
        message = f"`{path}` should have one angle per view, got {len(angles)} angles and {len(sinogram)} views."
        raise DataError(message)
    bad = np.argwhere(~np.isfinite(sinogram))
    if len(bad):
        message = f"`{path}` has a value that is not finite in view {bad[0][0]}, bin {bad[0][1]}; remove that view."
        raise DataError(message)
    origin, detector = float(values["distanceSourceOrigin"]), float(values["distanceSourceDetector"])
    if not 0 < origin < detector:
        message = f"`{path}` should have 0 < distanceSourceOrigin < distanceSourceDetector, got {origin}, {detector}."
        raise DataError(message)
    return FanScan(
        torch.from_numpy(sinogram.copy()),
        torch.deg2rad(torch.from_numpy(angles.copy())),
        origin,
        detector - origin,
        float(values["pixelSizePost"]),
        _IMAGE * float(values["effectivePixelSizePost"]),
    )


def read_segmentation(scan: str | Path) -> Tensor | None:
    """The full-angle segmentation that stands beside a scan, boolean, rows along +y, in its own resolution.

    Returns:
        None if there is no such file.
    """
    path = Path(scan)
    stems = {path.stem, path.stem.replace("_limited", "_full"), path.stem.replace("_limited", "")}
    files = [path.with_name(f"{stem}_recon_fbp_seg.mat") for stem in sorted(stems)]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        return None
    image = np.asarray(_variable(found, ("reconFullFbpSeg",)), dtype=float)[::-1].copy()  # their rows run along -y
    return torch.from_numpy(image >= 0.5)


def fetch_scan(name: str) -> Path:
    """A training scan (`ta`, `tb`, `tc`, `td`, `solid_disc`) from the published record, cached and checked.

    The cache is `$SCIPROB_DATA`, or `~/.cache/sciprob/htc2022`.

    Raises:
        ConfigError: If the scan is unknown.
        DataError: If it cannot be fetched, or is not the published file.
    """
    if name not in _SHA256:
        message = f"unknown scan {name!r}; the published training scans are {', '.join(_SHA256)}."
        raise ConfigError(message)
    folder = Path(os.environ.get("SCIPROB_DATA") or Path.home() / ".cache" / "sciprob" / "htc2022")
    path = folder / f"htc2022_{name}_full.mat"
    if not path.is_file():
        _download(_RECORD.format(scan=name), path, _SHA256[name])
    elif hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256[name]:
        message = f"`{path}` is not the published scan (its sha256 differs); delete it, or give your own by `--data`."
        raise DataError(message)
    return path


def _download(url: str, path: Path, digest: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            content = response.read()
    except OSError as error:
        message = f"the scan could not be fetched from {url} ({error}); download it and give it by `--data FILE.mat`."
        raise DataError(message) from error
    if hashlib.sha256(content).hexdigest() != digest:
        message = f"the file at {url} is not the published scan (its sha256 differs); give a scan by `--data FILE.mat`."
        raise DataError(message)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.part")
    scratch.write_bytes(content)
    scratch.replace(path)


def _variable(path: Path, names: tuple[str, ...]) -> Any:
    """The first of some variables of a MATLAB file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    damaged = (OSError, ValueError, TypeError, LookupError, NotImplementedError, MatReadError, struct.error, zlib.error)
    try:
        content = loadmat(path, simplify_cells=True)
    except damaged as error:
        message = f"`{path}` is not a readable MATLAB 5 file ({error}); expected one with {' or '.join(names)}."
        raise DataError(message) from error
    for name in names:
        if name in content:
            return content[name]
    held = [name for name in content if not name.startswith("__")]
    message = f"`{path}` should hold the variable {' or '.join(names)}, it holds {held}."
    raise DataError(message)
