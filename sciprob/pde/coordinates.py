"""Coordinates as fields, and points as inputs of networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.pde.derivative_names import closure
from sciprob.pde.jet import Jet


def coordinate_jets(x: Mapping[str, Tensor], derivatives: Iterable[str]) -> dict[str, Jet]:
    """The coordinates as fields: the jet of `x` has the value x, the derivative `x.x = 1`, and zeros.

    Args:
        x: Coordinates of points by name, each `(*batch, n)`.
        derivatives: What the jets should know; completed with all lower derivatives.
    """
    known = closure(derivatives)
    jets = {}
    for name, values in x.items():
        slope = {name: values.new_ones(())} if name in known else {}
        jets[name] = Jet({"": values, **slope}, known)
    return jets


def point_jets(points: Tensor, coordinates: Sequence[str], derivatives: Iterable[str]) -> Jet:
    """Points as the input of a network: a jet of entries `(*batch, n, d)`, derivatives `(d,)` unit vectors.

    Args:
        points: `(*batch, n, d)`, one column per coordinate.
        coordinates: Names of the columns, such as `"xt"`.
        derivatives: What the outputs of the network should know; completed with all lower derivatives.

    Raises:
        ShapeError: If the number of columns is not that of the names.
    """
    if points.shape[-1] != len(coordinates):
        message = f"points with coordinates {tuple(coordinates)} should have {len(coordinates)} columns, "
        raise ShapeError(message + f"got {tuple(points.shape)}.")
    known = closure(derivatives)
    axes = torch.eye(len(coordinates), dtype=points.dtype, device=points.device)
    slopes = {name: axis for name, axis in zip(coordinates, axes, strict=True) if name in known}
    return Jet({"": points, **slopes}, known)


def columns(points: Tensor, coordinates: Sequence[str]) -> dict[str, Tensor]:
    """The coordinates of points `(*batch, n, d)` by name, each `(*batch, n)`."""
    return dict(zip(coordinates, points.unbind(-1), strict=True))
