"""Boundary conditions by name, and values given as numbers or functions, for all finite-element engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.spaces import FESpace, Mesh
from sciprob.spaces.mesh import Floats, Ints

Value = float | Callable[[torch.Tensor], Any]
"""A number, or a function of points `(n, d)` (float64 tensor) that returns `(n,)` values."""


def evaluate(value: Value, points: Floats, what: str) -> Floats:
    """Values of a number or callable at points `(n, d)`.

    Raises:
        DataError: If they are not `(n,)` finite numbers.
    """
    raw = value(torch.tensor(points)) if callable(value) else value
    values = np.asarray(raw, dtype=np.float64)
    if values.shape not in ((), (len(points),)) or not np.isfinite(values).all():
        given = f"shape {values.shape}" if np.isfinite(values).all() else "values that are not finite"
        message = f"the {what} should give one finite number per point, ({len(points)},), got {given}."
        raise DataError(message)
    return np.array(np.broadcast_to(values, (len(points),)))


@dataclass(frozen=True)
class Conditions:
    """What holds on which named part of the boundary; the rest has zero flux.

    With n the outer normal and k the conductivity:

    Args:
        dirichlet: u = value. On nodes of two parts the one named last holds.
        neumann: k du/dn = value.
        robin: k du/dn + alpha u = value, as `(alpha, value)`.
    """

    dirichlet: Mapping[str, Value] = field(default_factory=dict)
    neumann: Mapping[str, Value] = field(default_factory=dict)
    robin: Mapping[str, tuple[Value, Value]] = field(default_factory=dict)

    def check(self, mesh: Mesh, *, steady: bool = True) -> None:
        """Refuse what has no meaning or, in a steady problem, no unique solution.

        Raises:
            DataError: If the mesh has no such boundary part.
            ConfigError: If a part has two conditions.
            UnsupportedProblemError: If there is neither a Dirichlet nor a Robin part.
        """
        names = [*self.dirichlet, *self.neumann, *self.robin]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            message = f"boundary part {twice[0]!r} should have one condition, it has two; remove one."
            raise ConfigError(message)
        boundary = set(map(tuple, mesh.boundary_facets.tolist()))
        for name in names:
            facets = np.sort(mesh.named_facets(name), axis=1).tolist()
            if not facets or not boundary.issuperset(map(tuple, facets)):
                message = f"the part {name!r} has facets inside the domain or none; conditions hold on its boundary."
                raise DataError(message)
        if steady and not self.dirichlet and not self.robin:
            message = "with Neumann conditions only the solution is not unique; add a Dirichlet or Robin part."
            raise UnsupportedProblemError(message)

    def dirichlet_values(self, space: FESpace) -> tuple[Ints, Floats]:
        """Constrained degrees of freedom, ascending, and their values."""
        values = np.full(space.size, np.nan)
        nodes = space.points().numpy()
        for name, value in self.dirichlet.items():
            dofs = space.named_dofs(name)
            values[dofs] = evaluate(value, nodes[dofs], f"Dirichlet value on {name!r}")
        dofs = np.flatnonzero(~np.isnan(values))
        return dofs, values[dofs]
