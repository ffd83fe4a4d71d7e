"""Lagrange elements of degree 1 and 2 on simplices: basis, and its tables at quadrature points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciprob.engines.simplex import gradients, volumes
from sciprob.engines.torch_fe.quadrature import quadrature
from sciprob.spaces import FESpace
from sciprob.spaces.mesh import Floats, Ints, local_edges


def lagrange(points: Floats, degree: int) -> tuple[Floats, Floats]:
    """Basis of degree 1 or 2 on a simplex of any dimension, vertices first, then edges as in `local_edges`.

    Args:
        points: Barycentric coordinates `(q, d + 1)`.
        degree: 1 or 2.

    Returns:
        Values `(q, k)` and derivatives by the barycentric coordinates `(q, k, d + 1)`.
    """
    q, corners = points.shape
    identity = np.broadcast_to(np.eye(corners), (q, corners, corners))
    if degree == 1:
        return points, identity
    first, second = np.array(local_edges(corners - 1)).T
    values = np.concatenate([points * (2 * points - 1), 4 * points[:, first] * points[:, second]], axis=1)
    vertices = (4 * points - 1)[:, :, None] * identity
    edges = 4 * (points[:, first, None] * identity[:, second] + points[:, second, None] * identity[:, first])
    return values, np.concatenate([vertices, edges], axis=1)


@dataclass(frozen=True)
class CellTables:
    """What integrals over the cells need; C cells, Q quadrature points, k basis functions, d dimensions.

    Attributes:
        dofs: Degrees of freedom of the state `(C, k)`.
        vertices: Those of the parameter, which is piecewise linear, `(C, d + 1)`.
        weights: Quadrature weights times volume `(C, Q)`.
        values: Basis of the state at the points `(Q, k)`.
        linear: Basis of the parameter there `(Q, d + 1)`.
        gradients: Of the state's basis `(C, Q, k, d)`; `(C, 1, k, d)` for degree 1, where they are constant.
    """

    dofs: Tensor
    vertices: Tensor
    weights: Tensor
    values: Tensor
    linear: Tensor
    gradients: Tensor


def cell_tables(space: FESpace, quadrature_degree: int) -> CellTables:
    """Tables of a space, float64.

    Raises:
        UnsupportedProblemError: If the quadrature degree is less than 1.
    """
    mesh, rule = space.mesh, quadrature(space.mesh.dim, quadrature_degree)
    values, derivatives = lagrange(rule.points, space.degree)
    if space.degree == 1:
        derivatives = derivatives[:1]
    slopes = np.einsum("qka,cad->cqkd", derivatives, gradients(mesh.points, mesh.cells))
    return CellTables(
        dofs=torch.tensor(space.cell_dofs),
        vertices=torch.tensor(mesh.cells),
        weights=torch.tensor(mesh.volumes[:, None] * rule.weights),
        values=torch.tensor(values),
        linear=torch.tensor(rule.points),
        gradients=torch.tensor(slopes),
    )


def cell_points(space: FESpace, quadrature_degree: int) -> Floats:
    """Quadrature points `(C, Q, d)` of all cells."""
    rule, mesh = quadrature(space.mesh.dim, quadrature_degree), space.mesh
    points: Floats = np.einsum("qa,cad->cqd", rule.points, mesh.points[mesh.cells])
    return points


@dataclass(frozen=True)
class FacetTables:
    """What integrals over a part of the boundary need; F facets.

    Attributes:
        dofs: Degrees of freedom of the state `(F, k)`.
        weights: Quadrature weights times measure `(F, Q)`.
        values: Basis of the state at the points `(Q, k)`.
        points: Quadrature points `(F, Q, d)`.
    """

    dofs: Ints
    weights: Floats
    values: Floats
    points: Floats


def facet_tables(space: FESpace, name: str, quadrature_degree: int) -> FacetTables:
    """Tables of a named part of the boundary.

    Raises:
        DataError: If the mesh has no such part.
    """
    mesh, facets = space.mesh, space.mesh.named_facets(name)
    rule = quadrature(mesh.dim - 1, quadrature_degree)
    return FacetTables(
        dofs=_facet_dofs(space, facets),
        weights=volumes(mesh.points, facets)[:, None] * rule.weights,
        values=lagrange(rule.points, space.degree)[0],
        points=np.einsum("qa,fad->fqd", rule.points, mesh.points[facets]),
    )


def _facet_dofs(space: FESpace, facets: Ints) -> Ints:
    """Degrees of freedom of each facet: its vertices, then its edges as in `local_edges`."""
    if space.degree == 1:
        return facets
    n, edges = len(space.mesh.points), space.mesh.edges
    pairs = np.sort(facets[:, local_edges(space.mesh.dim - 1)], axis=-1)
    number = np.searchsorted(edges[:, 0] * n + edges[:, 1], pairs[..., 0] * n + pairs[..., 1])  # edges are sorted
    return np.concatenate([facets, n + number], axis=1)
