"""Checks of solver settings, with messages that name the field."""

from __future__ import annotations

import math
from typing import Any

from sciprob.errors import ConfigError


def at_least(settings: Any, smallest: float, *names: str) -> None:
    """Require fields to be finite numbers of at least `smallest`.

    Raises:
        ConfigError: Naming the first field that is not.
    """
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= smallest):
            message = f"`{name}` of solver `{settings.name}` should be at least {smallest:g}, got {value:g}."
            raise ConfigError(message)


def between(settings: Any, lower: float, upper: float, *names: str) -> None:
    """Require fields to lie strictly between two numbers.

    Raises:
        ConfigError: Naming the first field that does not.
    """
    for name in names:
        value = getattr(settings, name)
        if not lower < value < upper:
            message = f"`{name}` of solver `{settings.name}` should lie between {lower:g} and {upper:g}, got {value:g}."
            raise ConfigError(message)


def one_of(settings: Any, name: str, choices: tuple[str, ...]) -> None:
    """Require a field to be one of some words.

    Raises:
        ConfigError: Naming the field and its choices.
    """
    value = getattr(settings, name)
    if value not in choices:
        message = f"`{name}` of solver `{settings.name}` should be one of {', '.join(choices)}, got {value!r}."
        raise ConfigError(message)
