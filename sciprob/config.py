"""Frozen dataclasses from tables of plain values and back: TOML files and `--set` share one reader.

Types are those of the fields: numbers, strings, booleans, `Path`, `Literal`, unions with None, tuples,
string-keyed dictionaries and nested dataclasses. Values from TOML are strict; values given as
`CommandLineText` are text and are read as the field's type.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, cast

from sciprob.errors import ConfigError, SciprobError


class CommandLineText(str):
    """A value typed on the command line: read as whatever type its field has."""

    __slots__ = ()


def did_you_mean(key: str, valid: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: its nearest valid name, and all of them."""
    names = sorted(valid)
    near = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`? " if near else ""
    return f"{hint}Valid: {', '.join(names) or 'none'}."


def from_mapping[T](cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Build a dataclass from a table, nested tables included.

    Args:
        cls: A dataclass.
        table: Values by field name; fields that are left out keep their defaults.
        where: What is read, for messages, e.g. `problems/darcy.toml`.

    Raises:
        ConfigError: For an unknown key (names the nearest valid one), a value of the wrong type,
            a missing field without default, or a value that the class itself refuses.
    """
    return cast(T, _build(cls, table, where, ""))


def to_mapping(settings: Any) -> dict[str, Any]:
    """A dataclass as a table of TOML values; `from_mapping` builds an equal one.

    A None is left out where it is the default and written as `"none"` elsewhere.
    """
    table = {}
    for field in _init_fields(type(settings)):
        value = getattr(settings, field.name)
        if value is not None:
            table[field.name] = _plain(value)
        elif field.default is not None:
            table[field.name] = "none"
    return table


def override(table: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of `table` with the dotted `key` set; strings count as typed on the command line.

    Raises:
        ConfigError: If the key leads through something that is not a table.
    """
    head, _, rest = key.partition(".")
    copy = dict(table)
    if not rest:
        copy[head] = CommandLineText(value) if isinstance(value, str) else value
        return copy
    inner = copy.get(head, {})
    if not isinstance(inner, Mapping):
        message = f"`{key}` cannot be set, because `{head}` is {inner!r} and not a table."
        raise ConfigError(message)
    copy[head] = override(inner, rest, value)
    return copy


def dotted_keys(cls: type, prefix: str = "") -> list[str]:
    """All keys that can be set, those of nested dataclasses as `table.key`; of a number or a table both."""
    hints, keys = typing.get_type_hints(cls), []
    for field in _init_fields(cls):
        members = _members(hints[field.name])
        nested = [kind for kind in members if dataclasses.is_dataclass(kind)]
        inner = [key for kind in nested for key in dotted_keys(cast(type, kind), f"{prefix}{field.name}.")]
        if not inner or any(kind is not type(None) and kind not in nested for kind in members):
            keys.append(prefix + field.name)
        keys += inner
    return list(dict.fromkeys(keys))


def type_name(kind: Any) -> str:
    """A type as a person writes it: `float or none`, `'a', 'b'`, `table (Prior)`."""
    if kind is type(None):
        return "none"
    if dataclasses.is_dataclass(kind):
        return f"table ({cast(type, kind).__name__})"
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return ", ".join(repr(choice) for choice in args)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(member) for member in args)
    if origin in (tuple, list):
        return "list of " + ", ".join(type_name(member) for member in args if member is not ...)
    return "text" if kind is str else getattr(kind, "__name__", str(kind))


def _init_fields(cls: type) -> list[dataclasses.Field[Any]]:
    if not dataclasses.is_dataclass(cls):
        message = f"settings should be a dataclass, got {cls.__name__}."
        raise TypeError(message)
    return [field for field in dataclasses.fields(cls) if field.init]


def _members(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return typing.get_args(kind) if typing.get_origin(kind) in (Union, types.UnionType) else (kind,)


def _build(cls: type[Any], table: Any, where: str, path: str) -> Any:
    place = _place(where, path)
    if not isinstance(table, Mapping):
        message = f"{place or cls.__name__} should be a table, got {table!r}."
        raise ConfigError(message)
    fields = {field.name: field for field in _init_fields(cls)}
    for key in table:
        if key not in fields:
            message = f"unknown key `{key}`{' in ' + place if place else ''}; {did_you_mean(key, fields)}"
            raise ConfigError(message)
    hints = typing.get_type_hints(cls)
    values = {key: _convert(value, hints[key], where, _join(path, key)) for key, value in table.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            message = f"`{_join(path, name)}` ({type_name(hints[name])}) is missing{' in ' + where if where else ''}."
            raise ConfigError(message)
    try:
        return cls(**values)
    except (SciprobError, ValueError) as error:
        message = f"{place}: {error}" if place else str(error)
        raise ConfigError(message) from error


def _place(where: str, path: str) -> str:
    return " ".join(part for part in (f"[{path}]" if path else "", f"of {where}" if path and where else where) if part)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _convert(value: Any, kind: Any, where: str, path: str) -> Any:
    """The value as `kind`, or a `ConfigError` naming the key."""
    nested = [member for member in _members(kind) if dataclasses.is_dataclass(member)]
    if isinstance(value, CommandLineText) and nested and value.lstrip().startswith("{"):
        value = _read_toml(value)
    if isinstance(value, Mapping) and len(nested) == 1:
        return _build(cast(type[Any], nested[0]), value, where, path)
    for member in _members(kind):
        try:
            return _convert_member(value, member, where, path)
        except _MismatchError:
            continue
    shown = str.__repr__(value) if isinstance(value, str) else repr(value)
    message = f"`{path}` should be {type_name(kind)}, got {shown}{' in ' + where if where else ''}."
    raise ConfigError(message)


class _MismatchError(Exception):
    """The value is not of this member of a union."""


def _convert_member(value: Any, kind: Any, where: str, path: str) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if kind is type(None):
        return _expect(None, value is None or (isinstance(value, str) and value.lower() == "none"))
    if dataclasses.is_dataclass(kind):
        if isinstance(value, cast(type, kind)):
            return value
        return _build(cast(type[Any], kind), _expect(value, isinstance(value, Mapping)), where, path)
    if origin is Literal:
        return _choice(value, args)
    if origin in (tuple, list):
        return _sequence(value, origin, args, where, path)
    if origin in (dict, Mapping) or kind in (dict, Mapping):
        table = _read_toml(value) if isinstance(value, CommandLineText) else value
        _expect(table, isinstance(table, Mapping))
        item = args[1] if args else Any
        return {str(key): _convert(entry, item, where, _join(path, str(key))) for key, entry in table.items()}
    return _scalar(value, kind)


def _expect(value: Any, condition: bool) -> Any:
    if not condition:
        raise _MismatchError
    return value


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if value == choice and type(choice) in (type(value), str):
            return choice
        if isinstance(value, CommandLineText) and str(choice) == value:
            return choice
    raise _MismatchError


def _sequence(value: Any, origin: Any, args: tuple[Any, ...], where: str, path: str) -> Any:
    if isinstance(value, CommandLineText):
        text = value.strip().removeprefix("[").removesuffix("]")
        value = [CommandLineText(part.strip().strip("\"'")) for part in text.split(",") if part.strip()]
    _expect(value, isinstance(value, tuple | list))
    if origin is list or (len(args) == 2 and args[1] is ...):
        kinds = (args[0],) * len(value)
    else:
        kinds = args
        _expect(value, len(value) == len(kinds))
    pairs = enumerate(zip(value, kinds, strict=True))
    return origin(_convert(item, item_kind, where, f"{path}[{i}]") for i, (item, item_kind) in pairs)


def _scalar(value: Any, kind: Any) -> Any:
    if isinstance(value, CommandLineText):
        return _from_text(value, kind)
    if kind is float:
        _expect(value, isinstance(value, int | float) and not isinstance(value, bool))
        return float(value)
    if kind is int:
        return _expect(value, isinstance(value, int) and not isinstance(value, bool))
    if kind is Path:
        return Path(_expect(value, isinstance(value, str | Path)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _choice_of_enum(value, kind)
    return _expect(value, isinstance(kind, type) and isinstance(value, kind))


def _from_text(text: str, kind: Any) -> Any:
    """Command-line text as a scalar."""
    word = str(text).strip()
    if kind is bool:
        answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        _expect(word, word.lower() in answers)
        return answers[word.lower()]
    if kind is str:
        return str(text)
    if kind is Path:
        return Path(str(text))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _choice_of_enum(word, kind)
    try:
        number = float(word)
        if kind is float:
            return number
        _expect(word, kind is int and math.isfinite(number) and number == int(number))
        return int(word) if word.lstrip("+-").isdigit() else int(number)
    except ValueError:
        raise _MismatchError from None


def _choice_of_enum(value: Any, kind: type[enum.Enum]) -> enum.Enum:
    for member in kind:
        if value in (member, member.value, member.name):
            return member
    raise _MismatchError


def _read_toml(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise _MismatchError from None


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool | int | float | str):
        return value
    message = f"{type(value).__name__} cannot be written to a configuration file."
    raise ConfigError(message)
