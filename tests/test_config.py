"""Settings are read strictly, errors name the nearest key, and tables round-trip."""

import dataclasses
import enum
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import tomli_w

from sciprob.config import dotted_keys, from_mapping, override, to_mapping, type_name
from sciprob.errors import ConfigError


class Shape(enum.Enum):
    DISC = "disc"
    SQUARE = "square"


@dataclass(frozen=True)
class Prior:
    """A nested table."""

    length: float = 0.2
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            message = f"`std` should be positive, got {self.std}."
            raise ConfigError(message)


@dataclass(frozen=True)
class Settings:
    """Every supported type."""

    n: int
    prior: Prior = field(default_factory=Prior)
    step: float = 0.1
    adapt: bool = True
    rule: Literal["fast", "exact"] = "fast"
    level: float | None = None
    seed: int | None = 3
    source: float | str = 1.0
    bounds: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    shape: Shape = Shape.DISC
    file: Path | None = None
    tags: dict[str, float] = field(default_factory=dict)


FULL: dict[str, Any] = {
    "n": 4,
    "prior": {"length": 1, "std": 0.5},
    "step": 2,
    "adapt": False,
    "rule": "exact",
    "level": 0.3,
    "seed": 5,
    "source": "sin(x)",
    "bounds": [-1, 1.5],
    "names": ["a", "b"],
    "shape": "square",
    "file": "x.nc",
    "tags": {"left": 1},
}


def test_every_type_is_read() -> None:
    settings = from_mapping(Settings, FULL)
    expected = Settings(
        4, Prior(1.0, 0.5), 2.0, False, "exact", 0.3, 5, "sin(x)", (-1.0, 1.5), ("a", "b"), Shape.SQUARE,
        Path("x.nc"), {"left": 1.0},
    )  # fmt: skip
    assert settings == expected
    assert isinstance(settings.step, float)
    assert isinstance(settings.prior.length, float)


@pytest.mark.parametrize("settings", [Settings(1), from_mapping(Settings, FULL), Settings(2, seed=None)])
def test_mapping_round_trip_through_toml(settings: Settings) -> None:
    text = tomli_w.dumps(to_mapping(settings))
    assert from_mapping(Settings, tomllib.loads(text)) == settings


def test_unknown_key_names_the_nearest_and_the_valid_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key `lenght` in \[prior\] of my.toml; did you mean `length`\?"
    ) as e:
        from_mapping(Settings, {"n": 1, "prior": {"lenght": 1.0}}, "my.toml")
    assert "length, std" in str(e.value)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "`n` \\(int\\) is missing"),
        ({"n": 1.0}, "`n` should be int, got 1.0"),
        ({"n": True}, "`n` should be int, got True"),
        ({"n": "1"}, "`n` should be int, got '1'"),
        ({"n": 1, "adapt": 1}, "`adapt` should be bool, got 1"),
        ({"n": 1, "step": True}, "`step` should be float"),
        ({"n": 1, "step": "0.1"}, "`step` should be float, got '0.1'"),
        ({"n": 1, "rule": "slow"}, "`rule` should be 'fast', 'exact', got 'slow'"),
        ({"n": 1, "bounds": [1]}, "`bounds` should be list of float, float"),
        ({"n": 1, "bounds": [1, "a"]}, r"`bounds\[1\]` should be float, got 'a'"),
        ({"n": 1, "prior": 3}, "`prior` should be table"),
        ({"n": 1, "prior": {"std": -1}}, r"\[prior\] of my.toml: `std` should be positive"),
        ({"n": 1, "tags": {"a": "b"}}, "`tags.a` should be float"),
        ({"n": 1, "shape": "ring"}, "`shape` should be"),
    ],
)
def test_wrong_values_are_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        from_mapping(Settings, table, "my.toml")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("n", "1e3", 1000),
        ("n", "-7", -7),
        ("step", "1e-3", 1e-3),
        ("adapt", "false", False),
        ("level", "none", None),
        ("level", "2", 2.0),
        ("source", "3", 3.0),
        ("source", "sin(x)", "sin(x)"),
        ("bounds", "0.5, 2", (0.5, 2.0)),
        ("bounds", "[0.5, 2]", (0.5, 2.0)),
        ("names", "['a', b]", ("a", "b")),
        ("rule", "exact", "exact"),
        ("file", "a/b.nc", Path("a/b.nc")),
        ("shape", "square", Shape.SQUARE),
        ("prior", "{ length = 3.0 }", Prior(length=3.0)),
        ("tags", "{ left = 2 }", {"left": 2.0}),
    ],
)
def test_command_line_text_is_read_as_the_field(key: str, text: str, value: Any) -> None:
    settings = from_mapping(Settings, override({"n": 1}, key, text))
    assert getattr(settings, key) == value
    assert type(getattr(settings, key)) is type(value)


def test_dotted_override_reaches_nested_tables_and_leaves_the_original() -> None:
    table = {"n": 1, "prior": {"std": 2.0}}
    settings = from_mapping(Settings, override(table, "prior.length", "0.7"))
    assert settings.prior == Prior(0.7, 2.0)
    assert table == {"n": 1, "prior": {"std": 2.0}}
    with pytest.raises(ConfigError, match="`n` is 1 and not a table"):
        override(table, "n.x", "1")


@pytest.mark.parametrize("text", ["1.5", "many", "inf", "nan", ""])
def test_text_that_is_no_integer(text: str) -> None:
    with pytest.raises(ConfigError, match="`n` should be int, got "):
        from_mapping(Settings, override({}, "n", text))


def test_dotted_keys_and_type_names() -> None:
    keys = dotted_keys(Settings)
    assert keys[:4] == ["n", "prior.length", "prior.std", "step"]

    @dataclass(frozen=True)
    class Number:
        """A number that may be a table."""

        value: float | Prior = 1.0

    assert dotted_keys(Number) == ["value", "value.length", "value.std"]
    kinds = {f.name: f.type for f in dataclasses.fields(Settings)}
    assert type_name(kinds["level"]) == "float or none"
    assert type_name(kinds["source"]) == "float or text"
    assert type_name(kinds["prior"]) == "table (Prior)"
