"""gmsh files: what is read, which names, checksums, and building from sources."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from sciprob import assets
from sciprob.errors import ConfigError, DataError
from sciprob.io.mesh import build_mesh, checksum, find_mesh, load_mesh, mesh_summary, read_mesh
from sciprob.spaces import FESpace, box_mesh

MESHES = Path(assets.__file__).parents[1] / "meshes"


def write_v2(path: Path, *, kind: int = 2, z: float = 0.0) -> Path:
    """Two triangles, one tagged edge, one stray point in the middle of the numbering."""
    points = ["1 0 0 0", "2 1 0 0", f"3 9 9 {z}", "4 0 1 0", "5 1 1 0"]
    elements = [f"1 {kind} 2 7 1 1 2 4", f"2 {kind} 2 7 1 2 4 5", "3 1 2 3 1 1 4", "4 1 2 0 1 2 5"]
    lines = ["$MeshFormat", "2.2 0 8", "$EndMeshFormat", "$PhysicalNames", "2", '1 3 "west wall"', '2 7 "domain"']
    lines += ["$EndPhysicalNames", "$Nodes", "5", *points, "$EndNodes", "$Elements", "4", *elements, "$EndElements", ""]
    path.write_text("\n".join(lines))
    return path


def test_read_names_tags_and_drop_stray_points(tmp_path: Path) -> None:
    mesh = read_mesh(write_v2(tmp_path / "a.msh"))
    assert np.array_equal(mesh.points, [[0, 0], [1, 0], [0, 1], [1, 1]])
    assert mesh.names == {"west wall": (1, 3), "domain": (2, 7)}
    assert np.array_equal(mesh.named_facets("west wall"), [[0, 2]])
    assert np.array_equal(mesh.facets, [[0, 2]])  # untagged edges are left out
    assert np.array_equal(mesh.named_cells("domain"), [0, 1])


def test_read_gmsh_4_and_tetrahedra(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    box = box_mesh((2, 1, 1))
    path = tmp_path / "box.msh"
    raw = meshio.Mesh(box.points, [("tetra", box.cells)])
    raw.write(path, file_format="gmsh")
    mesh = read_mesh(path)
    assert np.array_equal(mesh.points, box.points)
    assert np.array_equal(mesh.cells, box.cells)
    assert mesh.names == {}


@pytest.mark.parametrize("name", ["unit_square", "square_with_hole", "square_with_hole_fine"])
def test_committed_meshes(name: str) -> None:
    mesh = load_mesh(name)
    parts = {"left", "right", "bottom", "top", "domain"} | ({"hole"} if "hole" in name else set())
    assert set(mesh.names) == parts
    area = 1.0 - (np.pi * 0.15**2 if "hole" in name else 0.0)
    assert mesh.volumes.sum() == pytest.approx(area, abs=1e-3)
    assert len(mesh.facets) == len(mesh.boundary_facets)  # every side has a name
    assert mesh_summary(mesh)["worst_quality"] > 0.7
    space = FESpace(mesh)
    assert (mesh.points[space.named_dofs("left"), 0] == 0).all()
    assert (mesh.points[space.named_dofs("top"), 1] == 1).all()


def test_checksums_are_recorded_for_every_mesh() -> None:
    recorded = dict(line.split("  ")[::-1] for line in (MESHES / "SHA256SUMS").read_text().splitlines())
    files = [*MESHES.glob("*.msh"), *MESHES.glob("*.geo")]
    assert {path.name for path in files} == set(recorded)
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == recorded[path.name], path.name


def test_a_changed_mesh_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MESHES, tmp_path / "meshes")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "meshes" / "unit_square.msh"
    assert find_mesh("unit_square") == file
    assert load_mesh("unit_square") == load_mesh(MESHES / "unit_square.msh")
    file.write_text(file.read_text() + "\n")
    with pytest.raises(DataError, match=r"unit_square.msh has sha256 .* restore the file"):
        load_mesh("unit_square")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.msh.*got a\.xdmf"):
        read_mesh(tmp_path / "a.xdmf")
    with pytest.raises(DataError, match="no mesh file"):
        read_mesh(tmp_path / "missing.msh")
    (tmp_path / "junk.msh").write_text("hello\n")
    with pytest.raises(DataError, match=r"junk\.msh is not a readable gmsh file"):
        read_mesh(tmp_path / "junk.msh")
    with pytest.raises(DataError, match="should hold first-order triangles or tetrahedra, it has"):
        read_mesh(write_v2(tmp_path / "quads.msh", kind=1))
    with pytest.raises(ConfigError, match=r"no mesh 'square'; known are \[.*'square_with_hole'"):
        load_mesh("square")


def test_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gmsh")
    monkeypatch.chdir(tmp_path)
    path = build_mesh("square_with_hole", size=0.2)
    assert path == Path("meshes/square_with_hole-0.2.msh")
    mesh = read_mesh(path)
    assert "hole" in mesh.names
    assert 0.1 < mesh_summary(mesh)["largest_edge"] < 0.4
    assert checksum(build_mesh("square_with_hole", size=0.2, out="again.msh")) == checksum(path)
    with pytest.raises(ConfigError, match="positive"):
        build_mesh("unit_square", size=-1.0)
    (tmp_path / "bad.geo").write_text("Plane Surface(1) = {7};\n")
    with pytest.raises(DataError, match=r"could not mesh bad\.geo"):
        build_mesh("bad.geo")


def test_a_recorded_mesh_is_not_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gmsh")
    shutil.copytree(MESHES, tmp_path / "meshes")
    monkeypatch.chdir(tmp_path)
    before = checksum(Path("meshes/unit_square.msh"))
    with pytest.raises(DataError, match=r"another unit_square\.msh than the one recorded"):
        build_mesh("unit_square", size=0.3, out="meshes/unit_square.msh")
    assert checksum(Path("meshes/unit_square.msh")) == before
