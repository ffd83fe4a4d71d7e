"""Meshes and Lagrange spaces: exact interpolation, canonical order, point location, validation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sciprob.errors import DataError, ShapeError, UnsupportedProblemError
from sciprob.operators import PointObservation
from sciprob.spaces import FESpace, Mesh, Space, box_mesh

SHAPES = [(5, 4), (3, 2, 3)]


def jiggled(divisions: tuple[int, ...], seed: int = 0) -> Mesh:
    """A box mesh with its inner points moved, so that nothing is aligned."""
    mesh = box_mesh(divisions)
    rng = np.random.default_rng(seed)
    inner = ((mesh.points > 0) & (mesh.points < 1)).all(axis=1, keepdims=True)
    points = mesh.points + 0.05 * inner * rng.uniform(-1, 1, mesh.points.shape)
    return dataclasses.replace(mesh, points=points)


def ring(n: int = 24) -> Mesh:
    """The annulus 0.3 <= r <= 1."""
    mesh = box_mesh((n, 4))
    angle, radius = 2 * np.pi * mesh.points[:, 0], 0.3 + 0.7 * mesh.points[:, 1]
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    _, first, inverse = np.unique(points.round(9), axis=0, return_index=True, return_inverse=True)
    return Mesh(points[first], inverse.ravel()[mesh.cells])


def polynomial(x: torch.Tensor, degree: int) -> torch.Tensor:
    value = 1.0 + 2.0 * x[:, 0] - 3.0 * x[:, -1]
    return value if degree == 1 else value + x[:, 0] * x[:, 1] - 2.0 * x[:, -1] ** 2


@pytest.mark.parametrize("divisions", SHAPES)
@pytest.mark.parametrize("degree", [1, 2])
def test_interpolation_reproduces_polynomials(divisions: tuple[int, ...], degree: int) -> None:
    space = FESpace(jiggled(divisions), degree)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(300, len(divisions), dtype=torch.float64, generator=generator)
    index, weights = space.interpolation(points)
    nodal = polynomial(space.points(), degree)
    assert (nodal[index] * weights).sum(-1).sub(polynomial(points, degree)).abs().max() < 1e-13


@pytest.mark.parametrize("degree", [1, 2])
def test_the_basis_is_nodal(degree: int) -> None:
    """At its own nodes the interpolation is the identity, boundary included."""
    space = FESpace(jiggled((4, 5)), degree)
    observe = PointObservation(space, space.points())
    assert torch.allclose(observe.to_dense(), torch.eye(space.size, dtype=torch.float64), atol=1e-12)


def test_degree_one_does_not_reproduce_quadratics() -> None:
    space = FESpace(box_mesh((4, 4)), 1)
    points = torch.tensor([[0.3, 0.3]], dtype=torch.float64)
    index, weights = space.interpolation(points)
    assert (polynomial(space.points(), 2)[index] * weights).sum().sub(polynomial(points, 2)).abs() > 1e-3


def test_dofs_are_in_mesh_order_then_edge_order() -> None:
    mesh = box_mesh((2, 3))
    space = FESpace(mesh, 2)
    n = len(mesh.points)
    assert space.shape == (n + len(mesh.edges),)
    assert np.array_equal(space.points()[:n].numpy(), mesh.points)
    assert np.array_equal(mesh.edges, np.array(sorted(map(tuple, mesh.edges.tolist()))))
    assert (mesh.edges[:, 0] < mesh.edges[:, 1]).all()
    assert torch.equal(space.coords["y"], space.points()[:, 1])
    assert space.dims == ("node",)


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("divisions", SHAPES)
def test_named_dofs_lie_on_the_named_side(divisions: tuple[int, ...], degree: int) -> None:
    space = FESpace(jiggled(divisions), degree)
    on_top = np.flatnonzero(space.points()[:, -1].numpy() == 1.0)
    assert np.array_equal(space.named_dofs("top"), on_top)


def test_points_outside_are_named() -> None:
    space = FESpace(box_mesh((3, 3)), 1)
    points = torch.tensor([[0.5, 0.5], [1.5, 0.25]], dtype=torch.float64)
    with pytest.raises(DataError, match=r"point 1 \(1.5, 0.25\) lies outside the mesh's box \[0, 1\] x \[0, 1\]"):
        space.interpolation(points)
    with pytest.raises(DataError, match=r"point 0 .* is not finite"):
        space.interpolation(torch.tensor([[float("nan"), 0.5]]))
    with pytest.raises(ShapeError, match=r"\(n, 2\)"):
        space.interpolation(torch.zeros(3, 3))


def test_points_in_a_hole_are_named() -> None:
    space = FESpace(ring(), 1)
    with pytest.raises(DataError, match=r"point 0 \(0, 0.1\) lies in a hole"):
        space.interpolation(torch.tensor([[0.0, 0.1]], dtype=torch.float64))


def test_location_does_not_depend_on_regular_meshes() -> None:
    """Long thin cells beside tiny ones: the nearest centroid is not the containing cell."""
    x = np.concatenate([np.linspace(0, 0.001, 40), [1.0]])
    points = np.array([[a, b] for a in x for b in (0.0, 1.0)])
    cells = [c for i in range(len(x) - 1) for c in ((2 * i, 2 * i + 1, 2 * i + 2), (2 * i + 1, 2 * i + 2, 2 * i + 3))]
    space = FESpace(Mesh(points, np.array(cells)), 1)
    query = torch.tensor([[0.0011, 0.5], [0.9, 0.9], [0.0005, 0.1]], dtype=torch.float64)
    index, weights = space.interpolation(query)
    assert (space.points()[index] * weights[..., None]).sum(1).sub(query).abs().max() < 1e-12


def test_single_precision_points_on_the_boundary() -> None:
    space = FESpace(box_mesh((3, 3), upper=(0.1, 0.1)), 1)
    index, weights = space.interpolation(torch.tensor([[0.1, 0.1], [0.1, 0.05]], dtype=torch.float32))
    assert weights.dtype == torch.float32
    assert index.dtype == torch.long


def test_mesh_measures() -> None:
    for divisions in SHAPES:
        mesh = jiggled(divisions)
        assert mesh.volumes.sum() == pytest.approx(1.0)
        assert (mesh.quality > 0).all()
        assert (mesh.quality <= 1).all()
        assert np.array_equal(np.unique(np.sort(mesh.facets, 1), axis=0), mesh.boundary_facets)
    equilateral = Mesh(np.array([[0, 0], [1, 0], [0.5, np.sqrt(0.75)]]), np.array([[0, 1, 2]]))
    assert equilateral.quality[0] == pytest.approx(1.0)
    regular = Mesh(np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]), np.array([[0, 1, 2, 3]]))
    assert regular.quality[0] == pytest.approx(1.0)


def test_meshes_compare_by_fingerprint() -> None:
    a, b, c = box_mesh((2, 2)), box_mesh((2, 2)), jiggled((2, 2))
    assert a == b
    assert hash(a) == hash(b)
    assert a != c
    assert FESpace(a, 1).compatible(FESpace(b, 1, name="other"))
    assert not FESpace(a, 1).compatible(FESpace(c, 1))
    assert FESpace(a, 1).compatible(Space((9,)))
    assert dataclasses.replace(FESpace(a, 2), name="z").name == "z"
    with pytest.raises(ValueError, match="read-only"):
        a.points[0] = 1.0


def test_bad_meshes_are_refused() -> None:
    points, cells = np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]]), np.array([[0, 1, 2], [1, 2, 3]])
    with pytest.raises(DataError, match="cells should be"):
        Mesh(points, cells[:, :2])
    with pytest.raises(DataError, match="row 1 is"):
        Mesh(points, np.array([[0, 1, 2], [1, 2, 4]]))
    with pytest.raises(DataError, match="point 3 does not"):
        Mesh(points, cells[:1])
    with pytest.raises(DataError, match=r"cell 1 .* is flat"):
        Mesh(np.array([[0.0, 0], [1, 0], [0, 1], [0.5, 0.5]]), cells)
    with pytest.raises(DataError, match="point 2 is"):
        Mesh(np.array([[0.0, 0], [1, 0], [0, np.nan], [1, 1]]), cells)
    with pytest.raises(DataError, match=r"facet 0 \[0, 3\] is not"):
        Mesh(points, cells, facets=np.array([[0, 3]]), facet_tags=np.array([1]))
    with pytest.raises(DataError, match="facet_tags"):
        Mesh(points, cells, facets=np.array([[0, 1]]))
    with pytest.raises(DataError, match=r"no boundary facets named 'lft'; known names are \['bottom'"):
        FESpace(box_mesh((2, 2)), 1).named_dofs("lft")
    with pytest.raises(UnsupportedProblemError, match="degree 1 or 2, got 3"):
        FESpace(box_mesh((2, 2)), 3)
