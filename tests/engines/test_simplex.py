"""P1 matrices against exact integrals."""

import math

import numpy as np
import pytest

from sciprob.engines import simplex
from sciprob.errors import ShapeError
from sciprob.spaces.mesh import Mesh


def mesh(d, n=5, seed=0):
    """Delaunay mesh of the unit square or cube, inner points moved at random."""
    from scipy.spatial import Delaunay

    axis = np.linspace(0.0, 1.0, n)
    points = np.stack(np.meshgrid(*(axis,) * d, indexing="ij"), axis=-1).reshape(-1, d)
    inner = ((points > 0) & (points < 1)).all(axis=1)
    rng = np.random.default_rng(seed)
    points[inner] += 0.15 / n * rng.standard_normal((inner.sum(), d))
    cells = Delaunay(points, qhull_options="QJ Qbb").simplices
    keep = [abs(np.linalg.det(points[c[1:]] - points[c[0]])) > 1e-6 for c in cells]
    return points, cells[keep]


@pytest.mark.parametrize("d", [2, 3])
def test_volumes_sum_to_the_domain(d):
    points, cells = mesh(d)
    assert simplex.volumes(points, cells).sum() == pytest.approx(1.0, rel=1e-12)
    facets = Mesh(points, cells).boundary_facets
    assert simplex.volumes(points, facets).sum() == pytest.approx(2 * d, rel=1e-12)


@pytest.mark.parametrize("d", [2, 3])
def test_mass_integrates_products_of_linear_functions(d):
    points, cells = mesh(d)
    matrix = simplex.mass(points, cells)
    x, y = points[:, 0], points[:, 1]
    one = np.ones(len(points))
    assert x @ matrix @ x == pytest.approx(1 / 3, rel=1e-12)
    assert x @ matrix @ y == pytest.approx(1 / 4, rel=1e-12)
    assert one @ matrix @ one == pytest.approx(1.0, rel=1e-12)
    assert abs(matrix - matrix.T).max() < 1e-17


@pytest.mark.parametrize("d", [2, 3])
def test_stiffness_of_linear_functions(d):
    points, cells = mesh(d)
    a, b = np.array([2.0, -1.0, 0.5])[:d], np.array([1.0, 3.0, -2.0])[:d]
    matrix = simplex.stiffness(points, cells)
    assert (points @ a) @ matrix @ (points @ b) == pytest.approx(a @ b, rel=1e-12)
    assert abs(matrix @ np.ones(len(points))).max() < 1e-12
    # A linear function is harmonic: only boundary rows see its flux.
    inner = ((points > 1e-9) & (points < 1 - 1e-9)).all(axis=1)
    assert abs((matrix @ (points @ a))[inner]).max() < 1e-12


@pytest.mark.parametrize("d", [2, 3])
def test_boundary_mass_integrates_over_the_faces(d):
    points, cells = mesh(d)
    matrix = simplex.mass(points, Mesh(points, cells).boundary_facets)
    x, one = points[:, 0], np.ones(len(points))
    # Faces x = 0 and x = 1 give 0 and 1; each of the 2 (d - 1) others gives int x^2 = 1/3.
    assert x @ matrix @ x == pytest.approx(1.0 + 2 * (d - 1) / 3, rel=1e-12)
    assert one @ matrix @ x == pytest.approx(1.0 + 2 * (d - 1) / 2, rel=1e-12)


def test_cellwise_coefficient():
    points, cells = mesh(2)
    coefficient = 1.0 + points[cells, 0].mean(axis=1)
    one = np.ones(len(points))
    expected = (coefficient * simplex.volumes(points, cells)).sum()
    assert one @ simplex.mass(points, cells, coefficient) @ one == pytest.approx(expected, rel=1e-12)
    assert points[:, 1] @ simplex.stiffness(points, cells, coefficient) @ points[:, 1] == pytest.approx(expected)


def test_one_tetrahedron_by_hand():
    points, cells = np.vstack([np.zeros(3), np.eye(3)]), np.array([[0, 1, 2, 3]])
    assert simplex.volumes(points, cells)[0] == pytest.approx(1 / 6)
    assert simplex.mass(points, cells).toarray()[0, :2] == pytest.approx([2 / 120, 1 / 120])
    assert simplex.stiffness(points, cells).toarray()[0, :2] == pytest.approx([0.5, -1 / 6])
    faces = simplex.volumes(points, Mesh(points, cells).boundary_facets)
    assert sorted(faces) == pytest.approx([0.5, 0.5, 0.5, math.sqrt(3) / 2])


def test_too_many_corners_are_refused():
    with pytest.raises(ShapeError, match="2 to 3 corners, got 4"):
        simplex.volumes(np.zeros((4, 2)), np.array([[0, 1, 2, 3]]))


def test_second_order_convergence_of_a_poisson_solve():
    """-Laplacian u = f on the unit square with a smooth u vanishing on the boundary."""
    import scipy.sparse.linalg as spla

    errors = []
    for n in (9, 17, 33):
        points, cells = mesh(2, n)
        exact = np.sin(math.pi * points[:, 0]) * np.sin(math.pi * points[:, 1])
        load = simplex.mass(points, cells) @ (2 * math.pi**2 * exact)
        free = ((points > 1e-9) & (points < 1 - 1e-9)).all(axis=1)
        u = np.zeros(len(points))
        u[free] = spla.spsolve(simplex.stiffness(points, cells)[free][:, free].tocsc(), load[free])
        error = u - exact
        errors.append(math.sqrt(error @ simplex.mass(points, cells) @ error))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(orders - 2.0) < 0.15), orders
