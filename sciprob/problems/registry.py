"""Problem kinds by name, and problem files that fill them with numbers.

A kind is a frozen dataclass of settings with `build(name=..., data=...)`; a problem file is a TOML
table with its `kind`, words (title, equation, ...) and the settings, and a table `[solver]` of settings
for its default solver where that one's own do not suit the problem. Modules of kinds are imported
when one of their problems is built, so listing needs no engine.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from sciprob import assets
from sciprob.config import did_you_mean, from_mapping, override, to_mapping
from sciprob.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sciprob.problems.problem import Problem

_KINDS: dict[str, type] = {}
_MODULES = {
    "darcy-sensors": "sciprob.problems.elliptic",
    "poisson-source": "sciprob.problems.elliptic",
    "collocation": "sciprob.problems.collocation",
    "darcy-grid": "sciprob.problems.darcy_grid",
    "advection": "sciprob.problems.evolution_line",
    "bouncing-ball": "sciprob.problems.bouncing_ball",
    "burgers-initial": "sciprob.problems.evolution_line",
    "burgers-viscosity": "sciprob.problems.evolution_line",
    "allen-cahn": "sciprob.problems.evolution_plane",
    "heat-source": "sciprob.problems.evolution_plane",
    "navier-stokes-forcing": "sciprob.problems.evolution_plane",
    "navier-stokes-initial": "sciprob.problems.evolution_plane",
    "cavity": "sciprob.problems.flow",
    "cylinder-wake": "sciprob.problems.flow",
    "burgers-family": "sciprob.problems.family_burgers",
    "cavity-family": "sciprob.problems.family_cavity",
    "disk-family": "sciprob.problems.family_disk",
    "poisson-family": "sciprob.problems.family_poisson",
    "steady-heat-source": "sciprob.problems.collocation_source",
    "fractional-path": "sciprob.problems.fractional",
    "fractional-series": "sciprob.problems.fractional_series",
    "deblurring": "sciprob.problems.field_image",
    "inpainting": "sciprob.problems.field_image",
    "super-resolution": "sciprob.problems.field_image",
    "tomography-phantom": "sciprob.problems.tomography_phantom",
    "tomography-htc2022": "sciprob.problems.tomography_htc",
}
WORDS = ("title", "equation", "description", "citations", "default_solver")
_RESERVED = ("kind", "name", "data_file", "data_sha256", *WORDS)


class Kind(Protocol):
    """What a registered dataclass offers."""

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """Build the problem, with the data of a file or, without one, its own."""
        ...


@dataclasses.dataclass(frozen=True)
class ProblemFile:
    """A problem file that was found.

    Args:
        name: Name of the problem.
        path: The file.
        table: Its content, the `[problem]` table where it is a run's `config.toml`.
    """

    name: str
    path: Path
    table: Mapping[str, Any]

    @property
    def title(self) -> str:
        """One line about it."""
        return str(self.table.get("title", ""))

    @property
    def origin(self) -> str:
        """Where it was found, in words."""
        return assets.origin(self.path)


def register[T: type](kind: str) -> Callable[[T], T]:
    """Class decorator: make a settings dataclass with `build` known as `kind`.

    Raises:
        ConfigError: If another class has the name.
    """

    def add(cls: T) -> T:
        known = _KINDS.get(kind)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            message = f"problem kind {kind!r} is already {known.__module__}.{known.__qualname__}; choose another name."
            raise ConfigError(message)
        _KINDS[kind] = cls
        return cls

    return add


def kinds() -> list[str]:
    """Names of all kinds, whether or not their modules are imported yet."""
    return sorted({*_KINDS, *_MODULES})


def kind_class(kind: str) -> type:
    """The settings dataclass of a kind.

    Raises:
        ConfigError: If the kind is unknown; names the nearest one.
        MissingExtraError: If its module needs an engine that is not installed.
    """
    if kind not in _KINDS and kind in _MODULES:
        importlib.import_module(_MODULES[kind])
    if kind not in _KINDS:
        message = f"unknown problem kind `{kind}`; {did_you_mean(kind, kinds())}"
        raise ConfigError(message)
    return _KINDS[kind]


def available() -> list[ProblemFile]:
    """All problem files by name; of two with one name the first in the search order."""
    found: dict[str, ProblemFile] = {}
    for folder in assets.folders("problems"):
        for path in sorted(folder.glob("*.toml")):
            if path.stem not in found:
                found[path.stem] = read_problem_file(path)
    return [found[name] for name in sorted(found)]


def find(name_or_path: str | Path) -> ProblemFile:
    """The problem file of a name, or at a path.

    Raises:
        ConfigError: If there is none (names the nearest), or it is not valid TOML.
    """
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text or isinstance(name_or_path, Path):
        path = Path(text).expanduser()
        if not path.is_file():
            message = f"there is no problem file `{text}`; `sciprob list` shows the known problems."
            raise ConfigError(message)
        return read_problem_file(path)
    names = []
    for folder in assets.folders("problems"):
        path = folder / f"{text}.toml"
        if path.is_file():
            return read_problem_file(path)
        names += [found.stem for found in folder.glob("*.toml")]
    if Path(f"{text}.toml").is_file():
        message = f"there is no problem called `{text}`, but a file `{text}.toml` is here; write its name with .toml."
        raise ConfigError(message)
    message = f"unknown problem `{text}`; {did_you_mean(text, names)}"
    raise ConfigError(message)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a table.

    Raises:
        ConfigError: In one sentence, with the line, if it is not valid.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        message = f"`{path}` is not valid TOML: {error}."
        raise ConfigError(message) from error


def read_problem_file(path: Path) -> ProblemFile:
    """Read a problem file, or the `[problem]` table of a run's `config.toml`."""
    table = read_toml(path)
    if isinstance(table.get("problem"), Mapping) and "kind" not in table:
        table = table["problem"]
    return ProblemFile(str(table.get("name", path.stem)), path, table)


def load_problem(
    name_or_path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    device: str = "cpu",
) -> Problem:
    """Build a problem from its file.

    Args:
        name_or_path: Name (searched in `./problems`, the checkout, the package) or path of a TOML file.
        overrides: Settings by dotted key, e.g. `{"prior.length": 0.2}`; strings are read as typed on
            the command line.
        data: File of measurements instead of the problem's own data.
        device: Where its tensors go.

    Raises:
        ConfigError: For an unknown problem, kind, key or value; names the nearest valid one.
        DataError: If the data file is missing, changed since the run that recorded it, or unusable.
    """
    file = find(name_or_path)
    return build_problem(file.table, name=file.name, where=file.path, overrides=overrides, data=data).to(device)


def build_problem(
    table: Mapping[str, Any],
    *,
    name: str,
    where: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
) -> Problem:
    """Build a problem from its table; `where` is the file it came from, base of relative paths."""
    refuse_family(name, table)
    settings = solver_settings(name, table)
    own = {key: value for key, value in table.items() if key != "solver"}
    built = cast("Problem", build_kind(own, name=name, where=where, overrides=overrides, data=data))
    return dataclasses.replace(built, info=dataclasses.replace(built.info, solver_settings=settings))


def solver_settings(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """What a problem's table sets of its default solver.

    Raises:
        ConfigError: If `solver` is no table.
    """
    settings = table.get("solver", {})
    if not isinstance(settings, Mapping):
        message = f"`solver` of `{name}` should be a table of settings of its `default_solver`, got {settings!r}."
        raise ConfigError(message)
    return dict(settings)


def is_family(table: Mapping[str, Any]) -> bool:
    """Whether a table describes a family of problems (`load_family`): its kind is called `...-family`."""
    return str(table.get("kind", "")).endswith("-family")


def refuse_family(name: str, table: Mapping[str, Any]) -> None:
    """Refuse families where one problem is needed.

    Raises:
        ConfigError: If the table describes a family.
    """
    if is_family(table):
        message = f"`{name}` is a family of problems and not one; train on it with `sciprob fit {name}`."
        raise ConfigError(message)


def build_kind(
    table: Mapping[str, Any],
    *,
    name: str,
    where: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
) -> Any:
    """Build what a table describes, a problem or a family; arguments as those of `build_problem`."""
    label = str(where.name) if where else f"problem `{name}`"
    for key, value in (overrides or {}).items():
        table = override(table, key, value)
    if "kind" not in table:
        message = f"`kind` is missing in {label}; {did_you_mean(name, kinds())}"
        raise ConfigError(message)
    cls = kind_class(str(table["kind"]))
    fields = {field.name for field in dataclasses.fields(cls)}
    settings: Any = from_mapping(cls, {k: v for k, v in table.items() if k in fields or k not in _RESERVED}, label)
    data_file = _data_file(table, where, data)
    built: Any = cast(Kind, settings).build(name=name, data=data_file)
    words: dict[str, Any] = {k: tuple(table[k]) if k == "citations" else str(table[k]) for k in WORDS if k in table}
    config = {"name": name, "kind": str(table["kind"]), **words, **to_mapping(settings)}
    if data_file is not None:
        config |= {"data_file": str(data_file), "data_sha256": sha256(data_file)}
    return dataclasses.replace(built, info=dataclasses.replace(built.info, **words), config=config)


def sha256(path: Path) -> str:
    """Checksum of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _data_file(table: Mapping[str, Any], where: Path | None, data: str | Path | None) -> Path | None:
    """The file of measurements: the given one, or the one named in the table, checked against its checksum."""
    if data is None and "data_file" not in table:
        return None
    if data is not None:
        path = Path(data).expanduser().resolve()
    else:
        path = ((where.parent if where else Path()) / str(table["data_file"])).resolve()
    if not path.is_file():
        message = f"there is no data file `{path}`; give the measurements with `--data FILE`."
        raise DataError(message)
    recorded = table.get("data_sha256") if data is None else None
    if recorded is not None and sha256(path) != recorded:
        message = f"`{path}` changed since it was recorded (its sha256 differs); restore it or start a new run."
        raise DataError(message)
    return path
