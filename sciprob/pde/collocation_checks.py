"""What a collocation problem refuses, and how its coefficients become small."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, DataError, ShapeError, UnsupportedProblemError
from sciprob.pde.functionals import Functionals, ScatteredPoints
from sciprob.pde.jet import Jet
from sciprob.pde.pde import PDE

_UNIFORM = 1e-6  # of the spacing: what text files with few digits leave


def check_box(
    coordinates: tuple[str, ...], lower: tuple[float, ...], upper: tuple[float, ...], shape: tuple[int, ...]
) -> None:
    """Bounds and points fit the coordinates.

    Raises:
        ConfigError: If they do not.
    """
    d = len(coordinates)
    if not (1 <= d <= 3 and len(lower) == len(upper) == len(shape) == d):
        message = (
            f"a box with the coordinates {coordinates} needs as many bounds and numbers of points (at most 3), got "
            f"lower {lower}, upper {upper}, shape {shape}."
        )
        raise ConfigError(message)
    for name, a, b, n in zip(coordinates, lower, upper, shape, strict=True):
        if not (math.isfinite(a) and math.isfinite(b) and a < b):
            message = f"the bounds of `{name}` should be finite and increase, got {a:g} and {b:g}."
            raise ConfigError(message)
        if n < 2:
            message = f"`{name}` needs at least 2 points, both bounds included, got {n}."
            raise ConfigError(message)


def check_names(pde: PDE, parameters: Mapping[str, object]) -> None:
    """One field, one equation, known parameters.

    Raises:
        ConfigError: For missing or unknown parameters.
        UnsupportedProblemError: For systems.
    """
    if len(pde.fields) != 1 or len(pde.equations) != 1:
        message = (
            f"collocation takes one equation for one field, got the fields {list(pde.fields)} and the equations "
            f"{list(pde.equations)}; networks and grids take systems."
        )
        raise UnsupportedProblemError(message)
    for name in parameters:
        if name not in pde.parameters:
            message = f"{type(pde).__name__} has no parameter `{name}`; {did_you_mean(name, pde.parameters)}"
            raise ConfigError(message)
    missing = [name for name in pde.parameters if name not in {**pde.defaults, **parameters}]
    if missing:
        message = f"{type(pde).__name__} needs the parameter `{missing[0]}`; give a number or a function."
        raise ConfigError(message)


def check_line(name: str, line: Tensor) -> None:
    """A grid line increases uniformly.

    Raises:
        ShapeError: If it is not 1-D with at least 2 entries.
        DataError: If an entry repeats the one before, decreases, or breaks the uniform spacing; names it.
    """
    if line.ndim != 1 or len(line) < 2:
        message = f"the grid line of `{name}` should be 1-D with at least 2 entries, got {tuple(line.shape)}."
        raise ShapeError(message)
    steps = line.double().diff()
    if not bool((steps > 0).all()):
        i = int((~(steps > 0)).nonzero()[0]) + 1
        what = "repeats" if float(steps[i - 1]) == 0 else "does not lie above"
        message = f"entry {i} of the grid line of `{name}` ({float(line[i]):g}) {what} entry {i - 1}; sort, once each."
        raise DataError(message)
    h = float(line[-1] - line[0]) / (len(line) - 1)
    uniform = float(line[0]) + h * torch.arange(len(line), dtype=torch.float64, device=line.device)
    off = (line.double() - uniform).abs()
    if float(off.max()) > _UNIFORM * h:
        i = int(off.argmax())
        message = (
            f"the grid line of `{name}` is not uniform: entry {i} is {float(line[i]):g} instead of "
            f"{float(uniform[i]):g}; interpolate the table, or give functions of the coordinates."
        )
        raise DataError(message)


def reduced(coefficient: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """A coefficient `(*batch, n)`, equal over the batch, as `(*shape)` with 1 along axes on which it is constant.

    Raises:
        UnsupportedProblemError: If it differs over the batch.
    """
    rows = coefficient.reshape(-1, math.prod(shape))
    first = rows[0]
    if len(rows) > 1 and not bool((rows == first).all()):
        message = (
            f"the coefficients of `{name}` differ over the batch; a batch is many right-hand sides of one operator."
        )
        raise UnsupportedProblemError(message)
    field = first.reshape(shape)
    for axis in range(len(shape)):
        head = field.narrow(axis, 0, 1)
        if bool((field == head).all()):
            field = head
    return field.reshape(()) if field.numel() == 1 else field.clone()


def without_empty_batches(parameters: Mapping[str, Tensor | Jet]) -> dict[str, Tensor | Jet]:
    """Parameters with ones in place of batches of size zero, which have no coefficients to read."""
    return {
        name: value.new_ones(value.shape[-1]) if isinstance(value, Tensor) and value.numel() == 0 else value
        for name, value in parameters.items()
    }


def sensor_rows(
    coordinates: tuple[str, ...], points: Tensor, values: Tensor, std: float | Tensor, derivative: str = ""
) -> Functionals:
    """Noisy values of u, or of one of its derivatives, at scattered points.

    Args:
        coordinates: Names of the columns of `points`.
        points: `(n, d)`.
        values: `(*batch, n)`.
        std: Standard deviation of the errors, a number or `(n,)`.
        derivative: Which derivative was measured.

    Raises:
        ShapeError: If the shapes do not fit.
        DataError: If a value is not finite.
    """
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        row = int(bad.reshape(-1, values.shape[-1]).any(0).nonzero()[0])
        message = f"measurement {row} should be finite; remove it."
        raise DataError(message)
    error = std if isinstance(std, Tensor) else values.new_tensor(std)
    return Functionals(
        "sensors", coordinates, ScatteredPoints(points), {derivative: values.new_ones(())}, values, error
    )
