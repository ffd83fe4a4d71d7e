"""A `Mesh` distributed by DOLFINx, and the way between its numbering and the canonical one.

DOLFINx renumbers degrees of freedom, differently for every number of processes. Tensors keep the
canonical order of `FESpace` and are replicated on all processes; the maps here connect the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from sciprob.engines.conditions import evaluate
from sciprob.errors import require
from sciprob.spaces import FESpace, Mesh, Space
from sciprob.spaces.mesh import Floats, Ints


@cache
def fenics() -> SimpleNamespace:
    """The FEniCSx modules.

    Raises:
        MissingExtraError: If FEniCSx is not installed.
    """
    import h5py  # noqa: F401 - its HDF5 has to come before DOLFINx's, which is older and visible to all that is loaded later

    with contextlib.suppress(ImportError):  # DOLFINx from conda or source has no such module
        import dolfinx_solver  # noqa: F401 - the wheel's own MPI and PETSc have to come first
    with contextlib.suppress(ImportError):
        import petsc4py

        # else PETSc aborts the program on a closed pipe (`sciprob list | head`) and hides Python's own traces
        petsc4py.init(["sciprob", "-no_signal_handler"])
    names = ("dolfinx", "dolfinx.fem.petsc", "basix", "basix.ufl", "ufl", "mpi4py.MPI", "petsc4py.PETSc")
    found = {name: require(name, extra="fem", purpose="the finite-element engine") for name in names}
    return SimpleNamespace(
        dolfinx=found["dolfinx"],
        fem=found["dolfinx"].fem,
        petsc=found["dolfinx.fem.petsc"],
        basix=found["basix"],
        ufl=found["ufl"],
        MPI=found["mpi4py.MPI"],
        PETSc=found["petsc4py.PETSc"],
    )


def compile_form(form: Any) -> Any:
    """Compile a weak form, or take it from the user's cache.

    Processes that want the same form at once wait for the one that compiles it, much longer than
    FFCx's 10 seconds, which are short on a busy machine.
    """
    return fenics().fem.form(form, jit_options={"timeout": 120})


class DistributedMesh:
    """A mesh spread over the processes of a communicator. Collective.

    Args:
        mesh: The same mesh on every process.
        comm: mpi4py communicator; default all processes if there are several, else this one.
    """

    def __init__(self, mesh: Mesh, comm: Any | None = None) -> None:
        fx = fenics()
        world = fx.MPI.COMM_WORLD
        self.comm = comm if comm is not None else (world if world.size > 1 else fx.MPI.COMM_SELF)
        self.mesh = mesh
        shape = {2: "triangle", 3: "tetrahedron"}[mesh.dim]
        element = fx.basix.ufl.element("Lagrange", shape, 1, shape=(mesh.dim,))
        rows = slice(None) if self.comm.rank == 0 else slice(0)  # process 0 hands out cells and points
        self.domain = fx.dolfinx.mesh.create_mesh(
            self.comm, np.ascontiguousarray(mesh.cells[rows]), fx.ufl.Mesh(element), mesh.points[rows].copy()
        )
        geometry = self.domain.geometry
        self.cell_vertices: Ints = geometry.input_global_indices[geometry.dofmaps[0]]
        self.facet_tags = self._tag_facets()

    def _tag_facets(self) -> Any:
        """Tags of the named facets on this process, found by their vertices."""
        fx, mesh, d = fenics(), self.mesh, self.mesh.dim
        topology = self.domain.topology
        topology.create_entities(d - 1)
        topology.create_connectivity(d - 1, d)
        index_map = topology.index_map(d - 1)
        local = np.arange(index_map.size_local + index_map.num_ghosts, dtype=np.int32)
        nodes = fx.dolfinx.mesh.entities_to_geometry(self.domain, d - 1, local)
        vertices = self.domain.geometry.input_global_indices[nodes].reshape(-1, d)
        rows = map(tuple, np.sort(mesh.facets, axis=1).tolist())
        known = dict(zip(rows, mesh.facet_tags.tolist(), strict=True))
        tags = np.array([known.get(tuple(row), 0) for row in np.sort(vertices, axis=1).tolist()], dtype=np.int32)
        return fx.dolfinx.mesh.meshtags(self.domain, d - 1, local[tags != 0], tags[tags != 0])

    def interpolate(self, value: Callable[[torch.Tensor], Any], element: Any, what: str) -> Any:
        """A function of the mesh's element space with the values of a callable.

        Raises:
            DataError: If the callable does not return one finite number per point; names `what`.
        """
        fx, d = fenics(), self.mesh.dim
        function = fx.fem.Function(fx.fem.functionspace(self.domain, element))
        function.interpolate(lambda x: evaluate(value, x[:d].T, what))
        return function


class DofMap:
    """A Lagrange space of a distributed mesh beside its canonical twin. Collective.

    Args:
        mesh: The distributed mesh.
        space: The canonical space.

    Attributes:
        V: DOLFINx function space.
        canonical: Canonical number of each local degree of freedom, owned ones first, then ghosts.
        owned: How many this process owns.
        columns: Canonical number of each global DOLFINx number.
    """

    def __init__(self, mesh: DistributedMesh, space: FESpace) -> None:
        fx = fenics()
        self.comm = mesh.comm
        self.space: Space = space
        self.V = fx.fem.functionspace(mesh.domain, ("Lagrange", space.degree))
        index_map = self.V.dofmap.index_map
        self.owned = int(index_map.size_local)
        self.canonical: Ints = np.full(self.owned + index_map.num_ghosts, -1, dtype=np.int64)
        layout, vertices, d = self.V.dofmap.dof_layout, mesh.cell_vertices, space.mesh.dim
        for i in range(d + 1):
            self.canonical[self.V.dofmap.list[:, layout.entity_dofs(0, i)[0]]] = vertices[:, i]
        if space.degree == 2:
            n, edges = len(space.mesh.points), space.mesh.edges
            keys = edges[:, 0] * n + edges[:, 1]  # ascending, because edges are sorted
            for i, ends in enumerate(fx.basix.topology(mesh.domain.basix_cell())[1]):
                pair = np.sort(vertices[:, ends], axis=1)
                number = n + np.searchsorted(keys, pair[:, 0] * n + pair[:, 1])
                self.canonical[self.V.dofmap.list[:, layout.entity_dofs(1, i)[0]]] = number
        self.columns: Ints = np.concatenate(self.comm.allgather(self.canonical[: self.owned]))

    @property
    def owned_canonical(self) -> Ints:
        """Canonical numbers of the owned degrees of freedom."""
        owned: Ints = self.canonical[: self.owned]
        return owned

    def gather(self, owned: Floats) -> Floats:
        """Owned values `(n_owned, k)` -> all values `(k, n)` in canonical order, on every process. Collective."""
        full = np.zeros((owned.shape[1], self.space.size))
        full[:, self.owned_canonical] = owned.T
        return self.sum(full)

    def sum(self, parts: Floats) -> Floats:
        """Sum over the processes, in place. Collective."""
        if self.comm.size > 1:
            self.comm.Allreduce(fenics().MPI.IN_PLACE, parts)
        return parts
