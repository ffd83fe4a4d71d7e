"""The Taylor-Hood space of a distributed mesh beside its canonical twin."""

from __future__ import annotations

import numpy as np

from sciprob.engines.fenicsx_flow_space import FlowSpace
from sciprob.engines.fenicsx_mesh import DistributedMesh, DofMap, fenics
from sciprob.spaces.mesh import Ints


class FlowDofs(DofMap):
    """Velocity (degree 2) and pressure (degree 1) in one function space. Collective.

    Canonical order as in `FlowSpace`: the velocity component by component, then the pressure. Each
    part takes its numbers from a `DofMap` of its own, cell by cell.

    Args:
        mesh: The distributed mesh.
        space: The steady canonical space.
    """

    def __init__(self, mesh: DistributedMesh, space: FlowSpace) -> None:
        fx, d = fenics(), mesh.mesh.dim
        cell = mesh.domain.basix_cell()
        velocity = fx.basix.ufl.element("Lagrange", cell, 2, shape=(d,))
        pressure = fx.basix.ufl.element("Lagrange", cell, 1)
        self.comm, self.space = mesh.comm, space
        self.V = fx.fem.functionspace(mesh.domain, fx.basix.ufl.mixed_element([velocity, pressure]))
        index_map = self.V.dofmap.index_map
        self.owned = int(index_map.size_local)
        self.canonical: Ints = np.full(self.owned + index_map.num_ghosts, -1, dtype=np.int64)
        second, first = DofMap(mesh, space.velocity), DofMap(mesh, space.pressure)
        for i in range(d):
            self._number(self.V.sub(0).sub(i).dofmap.list, second, i * space.velocity.size)
        self._number(self.V.sub(1).dofmap.list, first, d * space.velocity.size)
        self.columns: Ints = np.concatenate(self.comm.allgather(self.canonical[: self.owned]))

    def _number(self, cells: Ints, part: DofMap, offset: int) -> None:
        """Local numbers of a part on each cell are in the order of its own space's."""
        self.canonical[cells] = offset + part.canonical[part.V.dofmap.list]
