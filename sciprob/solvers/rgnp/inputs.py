"""Checks of what an amortised map is asked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError, DataError, SciprobWarning, ShapeError
from sciprob.problems.family import ProblemFamily


class OutsideBoxWarning(SciprobWarning):
    """Parameters lie outside the box that was trained, where neither mean nor uncertainty has been checked."""


def check_parameters(family: ProblemFamily, z: Tensor, w: Tensor) -> None:
    """Refuse anything but one set of parameters.

    Raises:
        ShapeError: Names what is wrong.
    """
    for name, value, space in (("z", z, family.unknown.space), ("w", w, family.known.space)):
        if tuple(value.shape) != space.shape:
            message = (
                f"`{name}` should be one set of parameters {space.shape}, got {tuple(value.shape)}; loop over them."
            )
            raise ShapeError(message)


def check_points(family: ProblemFamily, x: Tensor) -> None:
    """Refuse points that are not `(n, d)` or not in the domain.

    Raises:
        ShapeError: If their shape is wrong.
        DataError: Names the first point outside.
    """
    if x.ndim != 2 or x.shape[-1] != family.domain.dim:
        message = f"points should be (n, {family.domain.dim}), got {tuple(x.shape)}; give one set of points."
        raise ShapeError(message)
    outside = ~family.domain.contains(x)
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        message = f"points should lie in the domain of `{family.name}`, point {first} {x[first].tolist()} does not."
        raise DataError(message)


def check_data(x: Tensor, y: Tensor, sigma: float | Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Data and standard deviations of their noise, `(m, columns)` each.

    Raises:
        ShapeError: If y does not fit the points.
        DataError: If data are not finite or noise is not positive.
    """
    if tuple(y.shape) != (len(x), columns):
        message = f"data at {len(x)} points of {columns} fields should be {(len(x), columns)}, got {tuple(y.shape)}."
        raise ShapeError(message)
    noise = torch.as_tensor(sigma).to(y).expand(y.shape)
    if not bool(torch.isfinite(y).all() and (noise > 0).all()):
        message = "data should be finite and their noise positive; remove entries that are not."
        raise DataError(message)
    return y, noise


def field_columns(family: ProblemFamily, fields: Sequence[str] | None) -> list[int]:
    """Columns of named fields; of all without names.

    Raises:
        ConfigError: For an unknown field; names the nearest.
    """
    known = family.fields
    for name in fields or ():
        if name not in known:
            message = f"family `{family.name}` has no field `{name}`; {did_you_mean(name, known)}"
            raise ConfigError(message)
    return [known.index(name) for name in (known if fields is None else fields)]


def warn_outside(family: ProblemFamily, z: Tensor, w: Tensor, stacklevel: int) -> None:
    """Warn if any parameters lie outside their boxes."""
    for box, value in ((family.unknown, z), (family.known, w)):
        inside = box.contains(value)
        if not bool(inside.all()):
            share = 100 * float((~inside).double().mean())
            message = (
                f"{share:.3g} % of the parameters {box.names} lie outside the box {box.lower} to {box.upper} "
                "that was trained; results there are extrapolated and their uncertainty is not calibrated."
            )
            warnings.warn(message, OutsideBoxWarning, stacklevel=stacklevel)
