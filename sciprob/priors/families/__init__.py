"""Families of fields that priors are trained on: procedural, so that there are as many as training asks for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from sciprob.config import did_you_mean, from_mapping
from sciprob.errors import ConfigError
from sciprob.spaces import GridSpace

_FAMILIES = {
    "holes": ("sciprob.priors.families.holes", "Holes"),
    "ellipses": ("sciprob.priors.families.ellipses", "EllipsePhantoms"),
    "gaussian-field": ("sciprob.priors.families.gaussian_field", "GaussianField"),
    "darcy": ("sciprob.priors.families.darcy", "DarcyField"),
    "vorticity": ("sciprob.priors.families.vorticity", "Vorticity"),
}


class Family(Protocol):
    """Settings of a family, a frozen dataclass; networks see x = (m - shift) / scale, of mean square about one."""

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    def space(self) -> GridSpace:
        """Grid of m."""
        ...

    @property
    def shift(self) -> float:
        """Subtracted from m."""
        ...

    @property
    def scale(self) -> float:
        """Divides m - shift."""
        ...

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Fields m `(count, *space.shape)`, float32, on the generator's device."""
        ...


class ScaledFamily:
    """Fields x = (m - shift) / scale of a family."""

    def __init__(self, family: Family) -> None:
        self.family, self.name = family, family.name

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Fields x `(count, *shape)`, float32."""
        return (self.family.sample(count, generator) - self.family.shift) / self.family.scale


def family_names() -> list[str]:
    """Names of all families."""
    return sorted(_FAMILIES)


def family_class(name: str) -> type:
    """The settings dataclass of a family.

    Raises:
        ConfigError: If the name is unknown; names the nearest.
    """
    if name not in _FAMILIES:
        message = f"unknown family `{name}`; {did_you_mean(name, _FAMILIES)}"
        raise ConfigError(message)
    module, cls = _FAMILIES[name]
    return cast(type, getattr(importlib.import_module(module), cls))


def make_family(table: Mapping[str, Any], where: str = "") -> Family:
    """A family from a table of its name and settings.

    Raises:
        ConfigError: For an unknown name, key or value.
    """
    settings = dict(table)
    cls = family_class(str(settings.pop("name", "")))
    return cast(Family, from_mapping(cls, settings, where))
