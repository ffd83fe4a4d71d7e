"""Spaces as plain numbers and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.spaces import GridSpace, Space
from sciprob.spaces.fe import FESpace
from sciprob.spaces.mesh import Mesh

_MESH_ARRAYS = ("points", "cells", "cell_tags", "facets", "facet_tags")


def describe_space(space: Space) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Settings (JSON) and tensors from which `restore_space` builds an equal space.

    Raises:
        UnsupportedProblemError: If it is not a `Space`, `GridSpace` or `FESpace`.
    """
    words: dict[str, Any] = {"name": space.name, "dims": list(space.dims), "unit": space.unit}
    words |= {"labels": list(space.labels)} if space.labels else {}
    if type(space) is FESpace:
        mesh = space.mesh
        names = {name: list(pair) for name, pair in mesh.names.items()}
        arrays = {f"mesh.{name}": torch.tensor(getattr(mesh, name)) for name in _MESH_ARRAYS}
        return {"kind": "FESpace", "degree": space.degree, "names": names} | words, arrays
    coords = {f"coords.{name}": tensor for name, tensor in space.coords.items()}
    if type(space) is GridSpace:
        bounds = {"lower": list(space.lower), "upper": list(space.upper), "centring": space.centring}
        own = {f"coords.{name}" for name in space.dims}  # rebuilt by the grid itself
        extra = {name: tensor for name, tensor in coords.items() if name not in own}
        return {"kind": "GridSpace", "shape": list(space.shape)} | bounds | words, extra
    if type(space) is Space:
        return {"kind": "Space", "shape": list(space.shape)} | words, coords
    message = f"a {type(space).__name__} cannot be saved; evaluate the posterior `at` points and save that."
    raise UnsupportedProblemError(message)


def restore_space(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Space:
    """Build a described space again.

    Raises:
        ConfigError: If its kind is unknown.
    """
    kind = settings["kind"]
    words: dict[str, Any] = {"name": settings["name"], "dims": tuple(settings["dims"]), "unit": settings["unit"]}
    words["labels"] = tuple(settings.get("labels", ()))
    if kind == "FESpace":
        names = {name: (int(pair[0]), int(pair[1])) for name, pair in settings["names"].items()}
        mesh = Mesh(**{name: tensors[f"mesh.{name}"].numpy() for name in _MESH_ARRAYS}, names=names)
        return FESpace(mesh, settings["degree"], **words)
    coords = {name.removeprefix("coords."): t for name, t in tensors.items() if name.startswith("coords.")}
    shape = tuple(settings["shape"])
    if kind == "GridSpace":
        lower, upper = tuple(settings["lower"]), tuple(settings["upper"])
        return GridSpace(shape, **words, coords=coords, lower=lower, upper=upper, centring=settings["centring"])
    if kind == "Space":
        return Space(shape, **words, coords=coords)
    message = f"unknown kind of space {kind!r} in a saved posterior; known are FESpace, GridSpace and Space."
    raise ConfigError(message)
