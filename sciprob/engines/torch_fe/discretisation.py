"""Tables of an elliptic problem on a mesh: cells, boundary terms, and where matrix entries go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciprob.engines.conditions import Conditions, Value, evaluate
from sciprob.engines.torch_fe.coarse import CoarseTables, coarse_tables
from sciprob.engines.torch_fe.elements import CellTables, cell_points, cell_tables, facet_tables
from sciprob.engines.torch_fe.sparse import Pattern, SharedMatrix
from sciprob.errors import UnsupportedProblemError
from sciprob.spaces import FESpace

Entries = tuple[Tensor, Tensor, Tensor]
"""Rows, columns and values of a matrix."""


@dataclass(frozen=True)
class Discretisation:
    """All that a solve needs; N states of which n are free, P parameters, C cells with k basis functions.

    Attributes:
        cells: Tables of the cells.
        scatter: Adds contributions of the cells to the states, `(N, C k)`.
        scatter_linear: Adds those to the parameters, `(P, C (d + 1))`.
        load: Source and boundary fluxes `(N,)`.
        lift: Given values of the state, zero elsewhere, `(N,)`.
        free: Numbers of the states that are not given `(n,)`.
        pattern: Of the matrices of the free states.
        assemble: Adds entries of element matrices to its places, `(nnz, C k k)`.
        boundary: Robin terms, `(N, N)`.
        boundary_values: The same at the pattern's places `(nnz,)`.
        coarse: Coarse space of the preconditioner.
    """

    cells: CellTables
    scatter: SharedMatrix
    scatter_linear: SharedMatrix
    load: Tensor
    lift: Tensor
    free: Tensor
    pattern: Pattern
    assemble: SharedMatrix
    boundary: SharedMatrix
    boundary_values: Tensor
    coarse: CoarseTables


def discretise(space: FESpace, conditions: Conditions, source: Value, quadrature_degree: int) -> Discretisation:
    """Tables of a space, boundary conditions and a source, float64.

    Raises:
        DataError: For an unknown boundary part, or values that are not finite.
        ConfigError: If a part has two conditions.
        UnsupportedProblemError: If the solution would not be unique, if all nodes lie on Dirichlet parts, or
            for a quadrature degree below 1.
    """
    conditions.check(space.mesh)
    cells, n = cell_tables(space, quadrature_degree), space.size
    fixed, given = conditions.dirichlet_values(space)
    lift = torch.zeros(n, dtype=torch.float64)
    lift[fixed] = torch.tensor(given)
    free = torch.tensor(np.setdiff1d(np.arange(n), fixed))
    if not len(free):
        message = "all nodes lie on Dirichlet parts, so nothing is left to solve for; refine the mesh."
        raise UnsupportedProblemError(message)
    robin, flux = _boundary_terms(space, conditions, quadrature_degree)
    pattern, assemble, boundary_values = _matrix_tables(cells.dofs, robin, free, n)
    scatter = _incidence(cells.dofs, n)
    points = cell_points(space, quadrature_degree)
    density = torch.tensor(evaluate(source, points.reshape(-1, space.mesh.dim), "source")).reshape(cells.weights.shape)
    return Discretisation(
        cells=cells,
        scatter=scatter,
        scatter_linear=_incidence(cells.vertices, len(space.mesh.points)),
        load=flux + scatter @ ((cells.weights * density) @ cells.values).flatten(),
        lift=lift,
        free=free,
        pattern=pattern,
        assemble=assemble,
        boundary=SharedMatrix.from_entries(*robin, (n, n)),
        boundary_values=boundary_values,
        coarse=coarse_tables(space.points()[free].numpy(), float(space.mesh.volumes.sum()), pattern),
    )


def _pairs(dofs: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of all entries of element matrices, `(C k k,)` each."""
    c, k = dofs.shape
    return dofs[:, :, None].expand(c, k, k).flatten(), dofs[:, None, :].expand(c, k, k).flatten()


def _matrix_tables(dofs: Tensor, robin: Entries, free: Tensor, n: int) -> tuple[Pattern, SharedMatrix, Tensor]:
    """Pattern of the free states, the way of element matrices and the Robin terms into it."""
    places = torch.full((n,), -1)
    places[free] = torch.arange(len(free))
    rows, columns = _pairs(dofs)
    row, column = places[torch.cat([rows, robin[0]])], places[torch.cat([columns, robin[1]])]
    inside = ((row >= 0) & (column >= 0)).nonzero().flatten()
    pattern, slot = Pattern.from_pairs(row[inside], column[inside], len(free))
    of_cells = inside < len(rows)
    entry, target = inside[of_cells], slot[of_cells]
    ones = torch.ones(len(entry), dtype=torch.float64)
    assemble = SharedMatrix.from_entries(target, entry, ones, (len(pattern), len(rows)))
    on_boundary = torch.zeros(len(pattern), dtype=torch.float64)
    on_boundary.index_add_(0, slot[~of_cells], robin[2][inside[~of_cells] - len(rows)])
    return pattern, assemble, on_boundary


def _incidence(dofs: Tensor, n: int) -> SharedMatrix:
    """The matrix of ones that adds contributions of cells `(C k,)` to their degrees of freedom `(n,)`."""
    row = dofs.flatten()
    return SharedMatrix.from_entries(row, torch.arange(len(row)), torch.ones(len(row)).double(), (n, len(row)))


def _boundary_terms(space: FESpace, conditions: Conditions, quadrature_degree: int) -> tuple[Entries, Tensor]:
    """Entries (row, column, value) of int alpha u v ds, and int g v ds `(N,)`."""
    rows, columns, entries = [torch.zeros(0, dtype=torch.long)], [torch.zeros(0, dtype=torch.long)], []
    flux = np.zeros(space.size)
    parts = {name: (None, value) for name, value in conditions.neumann.items()} | dict(conditions.robin)
    for name, (alpha, g) in parts.items():
        facets = facet_tables(space, name, quadrature_degree)
        points = facets.points.reshape(-1, space.mesh.dim)
        density = evaluate(g, points, f"flux on {name!r}").reshape(facets.weights.shape)
        np.add.at(flux, facets.dofs, (facets.weights * density) @ facets.values)
        if alpha is None:
            continue
        coefficient = evaluate(alpha, points, f"Robin coefficient on {name!r}").reshape(facets.weights.shape)
        local = np.einsum("fq,qi,qj->fij", facets.weights * coefficient, facets.values, facets.values)
        row, column = _pairs(torch.tensor(facets.dofs))
        rows.append(row)
        columns.append(column)
        entries.append(local.ravel())
    values = torch.tensor(np.concatenate([np.zeros(0), *entries]))
    return (torch.cat(rows), torch.cat(columns), values), torch.tensor(flux)
