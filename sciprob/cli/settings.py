"""`--set key=value`: which of the keys belong to the solver and which to the problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sciprob.config import did_you_mean, dotted_keys
from sciprob.errors import ConfigError


def parse_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """`["a=1", "b.c=2"]` as a table.

    Raises:
        ConfigError: If one has no `=`.
    """
    table = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            message = f"`--set` takes KEY=VALUE, got `{pair}`."
            raise ConfigError(message)
        table[key.strip()] = value.strip()
    return table


def split_settings(
    settings: dict[str, str], problem: type, solvers: dict[str, type]
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Sort settings by owner.

    A key names a field of the problem, or of every solver that has it. `problem.KEY`, `solver.KEY` and
    `NAME.KEY` (a solver's name) say whose it is where both have it.

    Args:
        settings: Values by key, as typed.
        problem: Settings class of the problem's kind.
        solvers: Settings classes of the solvers by name.

    Returns:
        Overrides of the problem, and settings by solver.

    Raises:
        ConfigError: For a key that nobody has (names the nearest), or that has two owners.
    """
    of_problem: dict[str, str] = {}
    of_solvers: dict[str, dict[str, str]] = {name: {} for name in solvers}
    problem_keys = dotted_keys(problem)
    solver_keys = {name: dotted_keys(cls) for name, cls in solvers.items()}
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        if _has(problem_keys, key) and any(_has(keys, key) for keys in solver_keys.values()):
            message = f"both problem and solver have `{key}`; write `problem.{key}` or `solver.{key}`."
            raise ConfigError(message)
        if _has(problem_keys, key):
            of_problem[key] = value
        elif head == "problem" and rest:
            of_problem[_known(rest, problem_keys)] = value
        elif head in solvers and rest:
            of_solvers[head][_known(rest, solver_keys[head])] = value
        else:
            wanted = rest if head == "solver" and rest else key
            owners = [name for name, keys in solver_keys.items() if _has(keys, wanted)]
            if not owners:
                everything = {key for keys in solver_keys.values() for key in keys}
                _known(key, everything if head == "solver" else everything | set(problem_keys))
            for name in owners:
                of_solvers[name][wanted] = value
    return of_problem, of_solvers


def _has(keys: Sequence[str], key: str) -> bool:
    """Whether `key` is one of them, or an entry of a free table among them."""
    return any(key == known or key.startswith(f"{known}.") for known in keys)


def _known(key: str, keys: Iterable[str]) -> str:
    if not _has(list(keys), key):
        message = f"unknown setting `{key}`; {did_you_mean(key, keys)}"
        raise ConfigError(message)
    return key
