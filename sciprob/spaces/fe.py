"""Lagrange finite-element spaces on simplicial meshes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.spaces.mesh import Mesh, local_edges
from sciprob.spaces.space import Space


@dataclass(frozen=True)
class FESpace(Space):
    """Continuous piecewise polynomials of degree 1 or 2 on a mesh; elements are nodal values.

    f(x) = sum_i f_i phi_i(x) with phi_i the Lagrange basis. The order of the degrees of freedom is
    canonical, the same for every engine and any number of processes: vertices in mesh order, then
    for degree 2 the edge mid-points in the order of `mesh.edges`.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Polynomial degree, 1 or 2.
        name: What is stored here.
        dims: Axis name.
        unit: Physical unit.

    Raises:
        UnsupportedProblemError: If the degree is not 1 or 2.
    """

    shape: tuple[int, ...] = field(init=False)
    name: str = field(default="u", kw_only=True)
    dims: tuple[str, ...] = field(default=("node",), kw_only=True)
    unit: str = field(default="1", kw_only=True)
    coords: Mapping[str, Tensor] = field(init=False, compare=False, repr=False)
    mesh: Mesh = field(repr=False)
    degree: int = 1

    def __post_init__(self) -> None:
        if self.degree not in (1, 2):
            message = f"finite-element spaces have degree 1 or 2, got {self.degree}."
            raise UnsupportedProblemError(message)
        n = len(self.mesh.points) + (len(self.mesh.edges) if self.degree == 2 else 0)
        object.__setattr__(self, "shape", (n,))
        super().__post_init__()
        nodes = self.points()
        object.__setattr__(self, "coords", {axis: nodes[:, i] for i, axis in enumerate("xyz"[: self.mesh.dim])})

    def points(self) -> Tensor:
        """Nodes `(n_dofs, d)`, float64, in the order of the degrees of freedom."""
        nodes = self.mesh.points
        if self.degree == 2:
            nodes = np.concatenate([nodes, nodes[self.mesh.edges].mean(axis=1)])
        return torch.tensor(nodes, dtype=torch.float64)

    @cached_property
    def cell_dofs(self) -> NDArray[np.int64]:
        """Degrees of freedom of each cell `(m, k)`: its vertices, then its edges as in `local_edges`."""
        if self.degree == 1:
            return self.mesh.cells
        return np.concatenate([self.mesh.cells, len(self.mesh.points) + self.mesh.cell_edges], axis=1)

    def named_dofs(self, name: str) -> NDArray[np.int64]:
        """Degrees of freedom on the facets of a named part, ascending.

        Raises:
            DataError: If the mesh has no such part.
        """
        facets = self.mesh.named_facets(name)
        dofs = [np.unique(facets)]
        if self.degree == 2:
            n, edges = len(self.mesh.points), self.mesh.edges
            pairs = np.sort(facets[:, local_edges(self.mesh.dim - 1)], axis=-1).reshape(-1, 2)
            keys = edges[:, 0] * n + edges[:, 1]  # ascending, because edges are sorted
            dofs.append(n + np.unique(np.searchsorted(keys, pairs[:, 0] * n + pairs[:, 1])))
        return np.concatenate(dofs)

    def compatible(self, other: object) -> bool:
        """Whether elements of `other` are elements of this space: equal shape, and equal mesh if it has one."""
        if isinstance(other, FESpace):
            return self.degree == other.degree and self.mesh == other.mesh
        return super().compatible(other)

    def interpolation(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Exact point evaluation: the Lagrange basis of the cell around each point.

        Args:
            points: `(n, d)`; located in float64, with round-off tolerance of their dtype at the boundary.

        Returns:
            `index (n, k)` and `weights (n, k)`, k basis functions per cell, dtype of `points`.

        Raises:
            ShapeError: If `points` is not `(n, d)`.
            DataError: If a point lies outside the mesh; names the first one.
        """
        d = self.mesh.dim
        if points.ndim != 2 or points.shape[1] != d:
            message = f"`points` should be (n, {d}), got {tuple(points.shape)}."
            raise ShapeError(message)
        x = points.detach().cpu().to(torch.float64).numpy()
        cell, barycentric = self.mesh.locator.locate(x, 1e-9 if points.dtype == torch.float64 else 1e-5)
        outside = np.flatnonzero(cell < 0)
        if len(outside):
            raise DataError(self._outside(int(outside[0]), x[outside[0]]))
        index = torch.tensor(self.cell_dofs[cell], device=points.device)
        return index, torch.tensor(self._basis(barycentric), dtype=points.dtype, device=points.device)

    def _basis(self, barycentric: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of the local basis, `(n, k)`."""
        if self.degree == 1:
            return barycentric
        first, second = np.array(local_edges(self.mesh.dim)).T
        bubbles = 4.0 * barycentric[:, first] * barycentric[:, second]
        return np.concatenate([barycentric * (2.0 * barycentric - 1.0), bubbles], axis=1)

    def _outside(self, row: int, x: NDArray[np.float64]) -> str:
        """The sentence for a point outside the mesh."""
        place = ", ".join(f"{value:g}" for value in x)
        if not np.isfinite(x).all():
            return f"point {row} ({place}) is not finite; remove it."
        lower, upper = self.mesh.points.min(axis=0), self.mesh.points.max(axis=0)
        box = " x ".join(f"[{a:g}, {b:g}]" for a, b in zip(lower, upper, strict=True))
        inside = bool(((x >= lower) & (x <= upper)).all())
        where = f"in a hole or a notch of the mesh inside its box {box}" if inside else f"outside the mesh's box {box}"
        return f"point {row} ({place}) lies {where}; move it into the domain, in the unit of the mesh, or remove it."
