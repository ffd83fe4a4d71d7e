"""Jets of any pointwise torch function by nested forward mode: general, slower than Taylor mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.pde.derivative_names import closure
from sciprob.pde.jet import Jet

PointFunction = Callable[[Tensor], Tensor]


def autodiff_jets(
    function: PointFunction, points: Tensor, coordinates: Sequence[str], derivatives: Iterable[str]
) -> Jet:
    """The jet of a function of position, by one nested `torch.func.jvp` per derivative.

    For networks with functions that jets have no rule for, and as a reference: where it applies,
    calling the network with `point_jets` gives the same numbers several times faster. The cost of a
    derivative doubles with its order.

    Args:
        function: Points `(*batch, n, d)` -> values `(*batch, n)` or `(*batch, n, fields)`; the value at
            a point depends on that point alone.
        points: `(*batch, n, d)`.
        coordinates: Names of the columns of `points`, such as `"xt"`.
        derivatives: What the jet should know; completed with all lower derivatives.

    Raises:
        ShapeError: If the number of columns is not that of the names.
    """
    if points.shape[-1] != len(coordinates):
        message = f"points with coordinates {tuple(coordinates)} should have {len(coordinates)} columns, "
        raise ShapeError(message + f"got {tuple(points.shape)}.")
    axes = torch.eye(len(coordinates), dtype=points.dtype, device=points.device)
    functions = {"": function}
    for name in closure(derivatives):
        if name:
            axis = axes[list(coordinates).index(name[-1])]
            functions[name] = _slope(functions[name[:-1]], axis)
    return Jet({name: evaluate(points) for name, evaluate in functions.items()})


def _slope(function: PointFunction, axis: Tensor) -> PointFunction:
    def slope(points: Tensor) -> Tensor:
        tangent: Tensor = torch.func.jvp(function, (points,), (axis.expand_as(points),))[1]
        return tangent

    return slope
