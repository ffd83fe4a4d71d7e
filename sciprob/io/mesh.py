"""Read gmsh files, find the meshes that come with the package, build them from `.geo` sources."""

from __future__ import annotations

import hashlib
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sciprob import assets
from sciprob.errors import ConfigError, DataError, require
from sciprob.spaces.mesh import Floats, Ints, Mesh

_CELLS = {2: "triangle", 3: "tetra"}
_FACETS = {2: "line", 3: "triangle"}
_CHECKSUMS = "SHA256SUMS"


def read_mesh(path: str | Path) -> Mesh:
    """Read a gmsh `.msh` file (version 2 or 4) with first-order triangles or tetrahedra.

    Physical groups become named parts. Points that belong to no cell (centres of arcs) are left
    out; all others keep their order.

    Raises:
        DataError: If the file is missing, no gmsh file, or has no triangles or tetrahedra.
    """
    path = Path(path)
    if path.suffix != ".msh":
        message = f"meshes are read from gmsh files (.msh), got {path.name}; convert it with `gmsh -save`."
        raise DataError(message)
    if not path.is_file():
        message = f"there is no mesh file {path}; check the path, or run `sciprob mesh build NAME`."
        raise DataError(message)
    import meshio

    try:
        raw = meshio.gmsh.read(path)  # not `meshio.read`, which exits the interpreter on a bad file
    except (meshio.ReadError, ValueError, IndexError, KeyError) as error:
        reason = str(error) or type(error).__name__
        message = f"{path.name} is not a readable gmsh file ({reason}); write it again with `gmsh -save`."
        raise DataError(message) from error
    return _convert(raw, path.name)


def _convert(raw: Any, name: str) -> Mesh:
    """A `Mesh` from what meshio read."""
    kinds = {block.type for block in raw.cells}
    dim = 3 if "tetra" in kinds else 2
    if _CELLS[dim] not in kinds:
        message = f"{name} should hold first-order triangles or tetrahedra, it has {sorted(kinds)}."
        raise DataError(message)
    points = np.asarray(raw.points, dtype=np.float64)
    if dim == 2 and points.shape[1] > 2 and np.ptp(points[:, 2]) > 0:
        message = f"{name} holds triangles on a curved surface; meshes are plane or solid."
        raise DataError(message)
    cells, cell_tags = _gather(raw, _CELLS[dim])
    facets, facet_tags = _gather(raw, _FACETS[dim])
    facets, facet_tags = facets[facet_tags != 0], facet_tags[facet_tags != 0]
    used = np.unique(cells)
    number = np.full(len(points), -1, dtype=np.int64)
    number[used] = np.arange(len(used))
    names = {key: (int(d), int(tag)) for key, (tag, d) in raw.field_data.items() if int(d) in (dim, dim - 1)}
    return Mesh(points[used, :dim], number[cells], cell_tags, number[facets], facet_tags, names)


def _gather(raw: Any, kind: str) -> tuple[Ints, Ints]:
    """All elements of one type with their physical tags, 0 where there is none."""
    tags = raw.cell_data.get("gmsh:physical", [np.zeros(len(block.data), dtype=np.int64) for block in raw.cells])
    pairs = [(block.data, tag) for block, tag in zip(raw.cells, tags, strict=True) if block.type == kind]
    if not pairs:
        return np.zeros((0, {"line": 2, "triangle": 3, "tetra": 4}[kind]), dtype=np.int64), np.zeros(0, dtype=np.int64)
    elements = np.concatenate([np.asarray(data, dtype=np.int64) for data, _ in pairs])
    return elements, np.concatenate([np.asarray(tag, dtype=np.int64) for _, tag in pairs])


def find_mesh(name: str | Path, suffix: str = ".msh") -> Path:
    """The file of a mesh given by name or path: working directory, checkout, then package.

    Raises:
        ConfigError: If there is none; the message lists what there is.
    """
    path = Path(name)
    if path.suffix == suffix and path.is_file():
        return path
    for folder in assets.folders("meshes"):
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    known = sorted({p.stem for folder in assets.folders("meshes") for p in folder.glob(f"*{suffix}")})
    message = f"there is no mesh {str(name)!r}; known are {known}, or give the path of a {suffix} file."
    raise ConfigError(message)


def load_mesh(name: str | Path) -> Mesh:
    """Read a mesh given by name or path, and check it against the recorded checksum if there is one.

    Raises:
        ConfigError: If there is no such mesh.
        DataError: If it cannot be read or differs from its record in `SHA256SUMS`.
    """
    path = find_mesh(name)
    expected, given = recorded_checksum(path), checksum(path)
    if expected not in (None, given):
        message = (
            f"{path.name} has sha256 {given[:12]}..., but {_CHECKSUMS} beside it records {str(expected)[:12]}...; "
            f"restore the file or record the new checksum."
        )
        raise DataError(message)
    return read_mesh(path)


def checksum(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def recorded_checksum(path: Path) -> str | None:
    """What `SHA256SUMS` beside a file says about it, or None."""
    record = path.parent / _CHECKSUMS
    if record.is_file():
        for line in record.read_text().splitlines():
            value, _, name = line.partition("  ")
            if name == path.name:
                return value
    return None


def build_mesh(name: str | Path, *, size: float | None = None, out: str | Path | None = None) -> Path:
    """Build a mesh from its `.geo` source with gmsh.

    Args:
        name: Name of a source in `meshes/`, or path of a `.geo` file that uses the constant `size`.
        size: Length of an edge; default the source's.
        out: File to write; default `meshes/NAME.msh`, or `meshes/NAME-SIZE.msh` with a size.

    Returns:
        The file written.

    Raises:
        MissingExtraError: If gmsh is not installed.
        ConfigError: If there is no such source or the size is not a positive number.
        DataError: If gmsh fails, or if the result would replace a file whose recorded checksum it has not.
    """
    gmsh = require("gmsh", extra="mesh", purpose="building a mesh")
    source = find_mesh(name, ".geo")
    if size is not None and not (math.isfinite(size) and size > 0):
        message = f"the mesh size should be a positive number, got {size}."
        raise ConfigError(message)
    stem = source.stem if size is None else f"{source.stem}-{size:g}"
    target = Path(out) if out is not None else Path("meshes") / f"{stem}.msh"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / "mesh.msh"
        _run_gmsh(gmsh, source, size, fresh)
        read_mesh(fresh)
        if recorded_checksum(target) not in (None, checksum(fresh)):
            message = (
                f"gmsh {gmsh.__version__} builds another {target.name} than the one recorded in {_CHECKSUMS}; "
                f"choose another file with `out`."
            )
            raise DataError(message)
        fresh.replace(target)
    return target


def _run_gmsh(gmsh: Any, source: Path, size: float | None, target: Path) -> None:
    """Mesh one source and write it as gmsh 2.2 text."""
    arguments = ["sciprob"] if size is None else ["sciprob", "-setnumber", "size", repr(float(size))]
    gmsh.initialize(arguments, readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.open(str(source))
        gmsh.model.mesh.generate(gmsh.model.getDimension())
        gmsh.write(str(target))
    except Exception as error:  # gmsh raises bare exceptions
        message = f"gmsh could not mesh {source.name} ({error}); open it in gmsh to see where."
        raise DataError(message) from error
    finally:
        gmsh.finalize()


def mesh_summary(mesh: Mesh) -> dict[str, Any]:
    """Numbers for a table: points, cells, mean and largest edge, worst quality, named parts."""
    diameters: Floats = mesh.diameters
    return {
        "points": len(mesh.points),
        "cells": len(mesh.cells),
        "largest_edge": float(diameters.max()),
        "worst_quality": float(mesh.quality.min()),
        "parts": sorted(mesh.names),
    }
