"""Fields as .vtu files, read back by meshio and drawn by pyvista."""

from __future__ import annotations

import meshio
import numpy as np
import pytest
import torch

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators.linear import DiagonalMap
from sciprob.posteriors import Ensemble, GaussianPosterior
from sciprob.spaces import GridSpace, Space
from sciprob.spaces.fe import FESpace
from sciprob.spaces.mesh import Mesh


def triangles() -> Mesh:
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], dtype=float)
    return Mesh(points, np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]))


def tetrahedra() -> Mesh:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], dtype=float)
    return Mesh(points, np.array([[0, 1, 2, 3], [1, 2, 3, 4]]))


def posterior_on(space: Space, values: torch.Tensor | None = None) -> GaussianPosterior:
    mean = torch.arange(space.size, dtype=torch.float64).reshape(space.shape) if values is None else values
    root = DiagonalMap(torch.full(space.shape, 2.0, dtype=torch.float64), space)
    return GaussianPosterior(space, mean=mean, root=root, meta={"seed": 1})


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (FESpace(triangles(), 1), "triangle"),
        (FESpace(triangles(), 2), "triangle6"),
        (FESpace(tetrahedra(), 1), "tetra"),
        (FESpace(tetrahedra(), 2), "tetra10"),
        (GridSpace((3, 4), "m", ("y", "x"), lower=(0.0, 0.0), upper=(1.0, 3.0)), "quad"),
        (GridSpace((2, 3, 4), "m", ("z", "y", "x"), lower=(0.0,) * 3, upper=(1.0, 2.0, 3.0)), "hexahedron"),
    ],
)
def test_round_trip(space, kind, tmp_path):
    posterior = posterior_on(space)
    path = posterior.write(tmp_path / "m.vtu", truth=posterior.mean + 1, samples=2)
    mesh = meshio.read(path)
    assert [block.type for block in mesh.cells] == [kind]
    d = 3 if kind in ("tetra", "tetra10", "hexahedron") else 2
    np.testing.assert_allclose(mesh.points[:, :d], space.points().numpy())
    expected = {"mean", "std", "q05", "q95", "truth", "sample_0", "sample_1"}
    assert set(mesh.point_data) == expected
    np.testing.assert_allclose(mesh.point_data["mean"], posterior.mean.flatten())
    np.testing.assert_allclose(mesh.point_data["std"], 2.0)
    np.testing.assert_allclose(mesh.point_data["q95"], posterior.quantile(0.95).flatten())
    np.testing.assert_allclose(mesh.point_data["truth"], posterior.mean.flatten() + 1)
    draws = posterior.ensemble(2, generator=torch.Generator().manual_seed(1)).samples
    np.testing.assert_allclose(mesh.point_data["sample_1"], draws[1].flatten())


@pytest.mark.parametrize("mesh", [triangles(), tetrahedra()], ids=["triangles", "tetrahedra"])
def test_quadratic_cells_have_their_midpoints_in_the_order_of_vtk(mesh, tmp_path):
    posterior = posterior_on(FESpace(mesh, 2))
    block = meshio.read(posterior.write(tmp_path / "m.vtu")).cells[0].data
    x = posterior.space.points().numpy()
    edges = [(0, 1), (1, 2), (2, 0)] if mesh.dim == 2 else [(0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)]
    for k, (i, j) in enumerate(edges):
        np.testing.assert_allclose(x[block[:, mesh.dim + 1 + k]], (x[block[:, i]] + x[block[:, j]]) / 2)


def test_pyvista_reads_the_quadratic_field(tmp_path):
    pv = pytest.importorskip("pyvista")
    space = FESpace(triangles(), 2)
    x, y = space.points().T
    path = posterior_on(space, x * y + y * y).write(tmp_path / "m.vtu")
    grid = pv.read(path)
    probe = pv.PolyData(np.array([[0.3, 0.2, 0.0], [0.7, 0.5, 0.0]]))
    sampled = probe.sample(grid)["mean"]  # VTK's own shape functions: exact for a quadratic
    np.testing.assert_allclose(sampled, [0.3 * 0.2 + 0.04, 0.35 + 0.25], rtol=1e-6)


def test_members_are_not_repeated(tmp_path):
    space = FESpace(triangles(), 1)
    ensemble = Ensemble(space, torch.arange(15.0, dtype=torch.float64).reshape(3, 5))
    names = meshio.read(ensemble.write(tmp_path / "m.vtu", samples=4)).point_data
    assert {"sample_2"} <= set(names)
    assert "sample_3" not in names


def test_fields_without_cells_are_refused(tmp_path):
    with pytest.raises(UnsupportedProblemError, match=r"write \.nc instead"):
        posterior_on(Space((4,))).write(tmp_path / "m.vtu")
    with pytest.raises(UnsupportedProblemError, match=r"write \.nc instead"):
        posterior_on(GridSpace((4,), "m", ("x",), lower=(0.0,), upper=(1.0,))).write(tmp_path / "m.vtu")
    with pytest.raises(ShapeError, match="truth"):
        posterior_on(FESpace(triangles(), 1)).write(tmp_path / "m.vtu", truth=torch.zeros(3))
