"""`sciprob list`, `sciprob show` and `sciprob copy`."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sciprob.cli.tables import nearby, paragraph, table, write
from sciprob.config import type_name
from sciprob.errors import ConfigError
from sciprob.problems.registry import WORDS, available, find, is_family, kind_class


def run_list(_: argparse.Namespace) -> int:
    """Print problems, families of problems, solvers and trained priors."""
    from sciprob.solvers import SOLVERS

    files = available()
    write("problems")
    write(table([(file.name, file.title) for file in files if not is_family(file.table)]))
    families = [(file.name, file.title) for file in files if is_family(file.table)]
    if families:
        write("\nfamilies of problems, one training for all members (sciprob fit)")
        write(table(families))
    write("\nsolvers")
    write(table([(name, _summary(cls)) for name, cls in SOLVERS.items()]))
    write("\ntrained priors (sciprob train-prior trains more)")
    write(table(_priors()))
    write("\n`sciprob show NAME` shows a problem, a family or a solver with all its settings.")
    return 0


def _priors() -> list[tuple[str, str]]:
    """Trained priors by name, and recipes that wait for training."""
    from sciprob.priors.diffusion.recipes import recipe_names
    from sciprob.priors.diffusion.store import available_priors

    trained = {file.name: f"{file.title}, {' x '.join(map(str, file.table['shape']))}" for file in available_priors()}
    return list(({name: "(to be trained)" for name in recipe_names()} | trained).items())


def run_show(args: argparse.Namespace) -> int:
    """Print a problem or a solver with its settings."""
    from sciprob.solvers import SOLVERS

    if args.name in SOLVERS:
        _show_solver(args.name, SOLVERS[args.name])
    else:
        near = difflib.get_close_matches(args.name, SOLVERS, n=1)
        if near and not Path(args.name).exists() and args.name not in {file.name for file in available()}:
            message = f"unknown solver or problem `{args.name}`; did you mean `{near[0]}`? `sciprob list` shows all."
            raise ConfigError(message)
        _show_problem(args.name)
    return 0


def run_copy(args: argparse.Namespace) -> int:
    """Write a problem's file, comments included, where the user can change it."""
    file = find(args.name)
    target = args.file or Path(f"{file.path.stem}.toml")
    if target.is_dir():
        target /= f"{file.path.stem}.toml"
    if target.suffix != ".toml":
        message = f"`{target}` should end in .toml, so that commands take it for a file; add the ending."
        raise ConfigError(message)
    if target.exists():
        message = f"`{target}` exists and is not overwritten; name another file."
        raise ConfigError(message)
    if not target.parent.is_dir():
        message = f"there is no folder `{target.parent}`; make it first."
        raise ConfigError(message)
    target.write_text(file.path.read_text(encoding="utf-8"), encoding="utf-8")
    run = "fit" if is_family(file.table) else "solve"
    write(f"{target} is yours to change: `sciprob show {target}`, then `sciprob {run} {target} --out run`")
    return 0


def _show_problem(name: str) -> None:
    file = find(name)
    words = {key: file.table[key] for key in WORDS if key in file.table}
    write(f"{file.name}: {words.pop('title', '')}".rstrip(": "))
    if "description" in words:
        write()
        write(paragraph(str(words.pop("description"))))
    write()
    kind = str(file.table.get("kind", "-"))
    lines = [(key.replace("_", " "), _text(value)) for key, value in words.items()]
    write(table([("kind", kind), ("file", f"{nearby(file.path)} ({file.origin})"), *lines]))
    write("\nsettings (change with --set KEY=VALUE, or in a copy of the file)")
    write(_settings(kind_class(kind), file.table))


def _show_solver(name: str, cls: type) -> None:
    doc = inspect.getdoc(cls) or ""
    write(f"{name}: {_summary(cls)}")
    body = re.split(r"\n(?:Args|Raises|Example|Note|Sources?|References?):", doc)[0].partition("\n")[2].strip()
    if body:
        write(f"\n{body}")
    needs = ", ".join(sorted(capability.value for capability in getattr(cls, "needs", ())))
    write()
    write(table([("needs", needs or "nothing special")]))
    write("\nsettings (change with --set KEY=VALUE)")
    write(_settings(cls, {}))


def _settings(cls: type, values: Mapping[str, Any]) -> str:
    return table(list(_rows(cls, values, "")), header=("key", "value", "type", "meaning"))


def _rows(cls: type, values: Mapping[str, Any], prefix: str) -> typing.Iterator[tuple[str, str, str, str]]:
    hints, meanings = typing.get_type_hints(cls), _meanings(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        kind, value = hints[field.name], values.get(field.name, _default(field))
        inner = [k for k in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(k)]
        if inner and (isinstance(value, Mapping) or dataclasses.is_dataclass(value)):
            nested = value if isinstance(value, Mapping) else vars(value)
            yield from _rows(typing.cast(type, inner[0]), nested, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, _text(value), type_name(kind), meanings.get(field.name, "")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else "(required)"


def _meanings(cls: type) -> dict[str, str]:
    """What the docstrings of the class and of those it inherits from say of each field under `Args:`."""
    meanings: dict[str, str] = {}
    for part in reversed(cls.__mro__):
        section = re.search(r"\nArgs:\n((?:[ \t]+.*\n?|\n)*)", inspect.cleandoc(part.__doc__ or ""))
        entries = [] if section is None else re.split(r"(?m)^ {4}(\w+): ", section[1])[1:]
        meanings |= {name: " ".join(text.split()) for name, text in zip(entries[::2], entries[1::2], strict=True)}
    return meanings


def _summary(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0].rstrip(".")


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
