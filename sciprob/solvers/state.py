"""Solver states as trees: packing for disk, memory layout, NaN guard.

A state is a dataclass of tensors, numbers, strings, booleans, None, and of dataclasses, lists,
tuples and string-keyed dictionaries of those.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConfigError, NonFiniteError


def settle(state: Any) -> Any:
    """Bring all tensors of a state to the layout they have after a reload; changes the state in place.

    Sums over strided or offset views may round differently from sums over packed tensors, so
    without this a resumed run could differ from an uninterrupted one in the last bits.
    """
    return _map_tensors(state, _packed)


def check_finite(state: Any, step: int) -> None:
    """NaN guard.

    Raises:
        NonFiniteError: If a tensor or number of the state is NaN; names the entry and the step.
    """
    for path, value in _leaves(state, "state"):
        if isinstance(value, Tensor):
            if not (value.is_floating_point() or value.is_complex()) or not bool(value.sum().isnan()):
                continue
            bad = value.isnan().flatten().nonzero()
            if not len(bad):  # inf - inf in the sum
                continue
            where = tuple(int(i) for i in torch.unravel_index(bad[0, 0], value.shape))
            entry = f"`{path}`" + (f" at {where}" if where else "")
        elif isinstance(value, float) and value != value:
            entry = f"`{path}`"
        else:
            continue
        message = f"{entry} became NaN in step {step}; check the scales of prior, noise and data."
        raise NonFiniteError(message)


def _packed(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_contiguous() and tensor.storage_offset() == 0:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def _map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply to all tensors of a tree; containers and dataclasses are changed in place."""
    if isinstance(value, Tensor):
        return function(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            old = getattr(value, field.name)
            new = _map_tensors(old, function)
            if new is not old:
                object.__setattr__(value, field.name, new)
    elif isinstance(value, dict):
        for key in value:
            value[key] = _map_tensors(value[key], function)
    elif isinstance(value, list):
        value[:] = [_map_tensors(item, function) for item in value]
    elif type(value) is tuple:
        return tuple(_map_tensors(item, function) for item in value)
    return value


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Path and value of everything that is not a container."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{path}[{i}]")
    else:
        yield path, value


def pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON tree of a state; tensors are put into `tensors` and replaced by their key.

    Raises:
        TypeError: If something is not plain; names the entry.
    """
    if isinstance(value, Tensor):
        packed = _packed(value)
        shared = any(packed.data_ptr() == other.data_ptr() and packed.numel() for other in tensors.values())
        tensors[path] = torch.view_as_real(packed).clone() if packed.is_complex() else packed
        tensors[path] = tensors[path].clone() if shared else tensors[path]
        return {"$": "tensor", "key": path, "complex": packed.is_complex(), "host": packed.device.type == "cpu"}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: pack(getattr(value, f.name), f"{path}.{f.name}", tensors) for f in dataclasses.fields(value)}
        return {"$": "dataclass", "name": type(value).__qualname__, "fields": fields}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"$": "dict", "items": {key: pack(item, f"{path}.{key}", tensors) for key, item in value.items()}}
    if type(value) in (list, tuple):
        items = [pack(item, f"{path}[{i}]", tensors) for i, item in enumerate(value)]
        return {"$": type(value).__name__, "items": items}
    message = (
        f"`{path}` is a {type(value).__name__}, which cannot be checkpointed; a solver's state holds "
        "tensors, numbers, strings, None, and dataclasses, lists and string-keyed dictionaries of those."
    )
    raise TypeError(message)


def unpack(tree: Any, tensors: Mapping[str, Tensor], device: torch.device, modules: list[str]) -> Any:
    """The state of a packed tree; its dataclasses are looked up by name in `modules`, and nowhere else."""
    if not isinstance(tree, dict):
        return tree
    kind = tree["$"]
    if kind == "tensor":
        tensor = tensors[tree["key"]] if tree["host"] else tensors[tree["key"]].to(device)
        return torch.view_as_complex(tensor) if tree["complex"] else tensor
    if kind == "dict":
        return {key: unpack(item, tensors, device, modules) for key, item in tree["items"].items()}
    if kind == "dataclass":
        cls = _state_class(tree["name"], modules)
        values = {k: unpack(v, tensors, device, [*modules, cls.__module__]) for k, v in tree["fields"].items()}
        return _rebuild(cls, values)
    items = [unpack(item, tensors, device, modules) for item in tree["items"]]
    return tuple(items) if kind == "tuple" else items


def _state_class(name: str, modules: list[str]) -> type:
    """A dataclass by name from the modules of the solver, and from nowhere else."""
    for module in modules:
        cls: Any = sys.modules.get(module)
        for part in name.split("."):
            cls = getattr(cls, part, None)
        if isinstance(cls, type) and dataclasses.is_dataclass(cls):
            return cls
    message = (
        f"the checkpoint's state class `{name}` is not defined in {modules[0]}; resume with the version that wrote it."
    )
    raise ConfigError(message)


def _rebuild(cls: type, values: dict[str, Any]) -> Any:
    fields = {field.name for field in dataclasses.fields(cls)}
    if fields != set(values):
        differing = ", ".join(sorted(fields ^ set(values)))
        message = f"the checkpoint's `{cls.__name__}` differs in {differing}; resume with the version that wrote it."
        raise ConfigError(message)
    state: Any = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(state, name, value)
    return state
