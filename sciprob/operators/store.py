"""Linear maps that can be written to disk as plain numbers and tensors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, runtime_checkable

from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError

if TYPE_CHECKING:
    from sciprob.operators.linear import LinearMap

_KINDS: dict[str, Any] = {}
# Where the package's own kinds are registered, so that a saved posterior finds them in a fresh process.
_HOMES = {
    "dense": "sciprob.operators.linear",
    "diagonal": "sciprob.operators.linear",
    "kronecker": "sciprob.operators.kronecker",
    "kronecker-gp-root": "sciprob.solvers.kronecker_gp.root",
    "low-rank-root": "sciprob.operators.low_rank",
    "path-root": "sciprob.posteriors.path",
    "grid-matern-root": "sciprob.priors.grid_matern",
    "fe-matern-root": "sciprob.priors.fe_matern",
}


@runtime_checkable
class StorableMap(Protocol):
    """A linear map that knows how to describe itself: settings (JSON) and tensors."""

    def describe(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Settings and tensors from which `restore` builds an equal map."""
        ...

    @classmethod
    def restore(cls, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """Build the map again."""
        ...


def storable[T: type](kind: str) -> Callable[[T], T]:
    """Class decorator: register a `StorableMap` under a name used in saved files."""

    def register(cls: T) -> T:
        _KINDS[kind] = cls
        return cls

    return register


def describe(linear_map: LinearMap) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Kind, settings and tensors of a map.

    Raises:
        UnsupportedProblemError: If its class is not storable.
    """
    kind = next((kind for kind, cls in _KINDS.items() if cls is type(linear_map)), None)
    if kind is not None and isinstance(linear_map, StorableMap):
        settings, tensors = linear_map.describe()
        return kind, settings, tensors
    message = f"{type(linear_map).__name__} cannot be saved; give it `describe`, `restore` and `@storable`."
    raise UnsupportedProblemError(message)


def restore(kind: str, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearMap:
    """Build a described map again.

    Raises:
        ConfigError: If the kind is unknown.
    """
    if kind not in _KINDS and kind in _HOMES:
        importlib.import_module(_HOMES[kind])
    if kind not in _KINDS:
        known = sorted({*_KINDS, *_HOMES})
        message = f"unknown kind of linear map {kind!r}, known are {known}; import the module that registers it first."
        raise ConfigError(message)
    return cast("LinearMap", _KINDS[kind].restore(settings, tensors))
