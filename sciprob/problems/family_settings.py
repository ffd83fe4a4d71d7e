"""What the files of families share: ranges of parameters, and reading a family by its name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sciprob.errors import ConfigError
from sciprob.problems.family import ParameterBox, ProblemFamily
from sciprob.problems.problem import Info
from sciprob.problems.registry import build_kind, find, is_family


@dataclass(frozen=True)
class Range:
    """A parameter, uniform between two numbers.

    Args:
        lower: Lower end.
        upper: Upper end.
        log: Whether methods see it on a logarithmic scale; its prior is uniform all the same.
    """

    lower: float
    upper: float
    log: bool = False

    def __post_init__(self) -> None:
        if not -math.inf < self.lower < self.upper < math.inf or (self.log and self.lower <= 0):
            message = f"a range needs finite lower < upper, positive if `log`, got {self.lower} and {self.upper}."
            raise ConfigError(message)


def box(name: str, **ranges: Range) -> ParameterBox:
    """The box of named ranges, in their order."""
    lower, upper = (tuple(getattr(item, end) for item in ranges.values()) for end in ("lower", "upper"))
    return ParameterBox(tuple(ranges), lower, upper, tuple(item.log for item in ranges.values()), name)


@dataclass(frozen=True, kw_only=True)
class FamilySettings:
    """What kinds of families share: a build that needs no data file."""

    words: ClassVar[Info] = Info(default_solver="rgnp")

    def family(self, name: str) -> ProblemFamily:
        """The family of these settings."""
        raise NotImplementedError

    def build(self, *, name: str, data: Path | None = None) -> ProblemFamily:
        """See `family`.

        Raises:
            ConfigError: If a data file is given.
        """
        if data is not None:
            message = f"`{name}` is a family and reads no data; give measurements to what `sciprob.fit` returns."
            raise ConfigError(message)
        return dataclasses.replace(self.family(name), info=self.words)


def load_family(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> ProblemFamily:
    """Build a family from its file.

    Args:
        name_or_path: Name (searched in `./problems`, the checkout, the package) or path of a TOML file.
        overrides: Settings by dotted key, e.g. `{"viscosity.lower": 0.02}`.

    Raises:
        ConfigError: For an unknown family, kind, key or value (names the nearest valid one), or a file that
            describes a single problem.
    """
    file = find(name_or_path)
    if not is_family(file.table):
        message = f"`{file.name}` is one problem and no family; use `sciprob.load_problem`, or see `sciprob list`."
        raise ConfigError(message)
    family: ProblemFamily = build_kind(file.table, name=file.name, where=file.path, overrides=overrides)
    return family
