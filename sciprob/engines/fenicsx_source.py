"""The linear problem with an unknown source, by FEniCSx: one factorisation, exact adjoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sciprob.engines.conditions import Conditions, Value
from sciprob.engines.fenicsx_forms import FormParts
from sciprob.engines.fenicsx_linear import Factorisation, assembled_rows, default_options, unique_prefix
from sciprob.engines.fenicsx_mesh import DistributedMesh, DofMap, compile_form, fenics
from sciprob.operators.algebra import Affine
from sciprob.operators.base import ForwardOperator
from sciprob.operators.host import HostLinearMap
from sciprob.spaces import FESpace, Mesh
from sciprob.spaces.mesh import Floats


class SourceToState:
    """Source to state: -div(k grad u) = m with the conductivity k known; the linear part of the map.

    u(m) = A m + u_0 with A m the state under homogeneous conditions and u_0 = `offset()` that of the
    boundary data alone. m is piecewise linear, u of degree 1 or 2. A `LinearHostSolver`: `apply` is
    A, `transpose` its exact transpose with the same factorisation.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of u, 1 or 2.
        conductivity: k > 0.
        dirichlet: u on parts of the boundary.
        neumann: k du/dn on parts of the boundary.
        robin: `(alpha, g)` on parts of the boundary: k du/dn + alpha u = g.
        quadrature_degree: Of all integrals.
        name: Name of the state.
        petsc_options: Of the linear solver, default a direct one (MUMPS).
        comm: mpi4py communicator; default all processes if there are several, else this one.

    Raises:
        MissingExtraError: If FEniCSx is not installed.
        DataError: For an unknown boundary part, or values that are not finite.
        ConfigError: If a part has two conditions.
        UnsupportedProblemError: If the solution would not be unique (Neumann conditions only).
    """

    def __init__(
        self,
        mesh: Mesh,
        degree: int = 1,
        *,
        conductivity: Value = 1.0,
        dirichlet: Mapping[str, Value] | None = None,
        neumann: Mapping[str, Value] | None = None,
        robin: Mapping[str, tuple[Value, Value]] | None = None,
        quadrature_degree: int = 4,
        name: str = "u",
        petsc_options: Mapping[str, Any] | None = None,
        comm: Any | None = None,
    ) -> None:
        conditions = Conditions(dirichlet or {}, neumann or {}, robin or {})
        conditions.check(mesh)
        self.domain = FESpace(mesh, 1, name="source")
        self.codomain = FESpace(mesh, degree, name=name)
        self.factorisations = 0
        distributed = DistributedMesh(mesh, comm)
        self._sources, self._states = DofMap(distributed, self.domain), DofMap(distributed, self.codomain)
        dofs, values = conditions.dirichlet_values(self.codomain)
        self._lift = np.zeros(self.codomain.size)
        self._lift[dofs] = values
        self._fixed = np.flatnonzero(np.isin(self._states.owned_canonical, dofs))
        parts = FormParts(distributed, degree, conditions, quadrature_degree)
        options = dict(petsc_options) if petsc_options is not None else default_options()
        self._assemble(parts, conductivity, dofs, options, distributed.comm)

    def _assemble(self, parts: FormParts, conductivity: Value, dofs: Any, options: Any, comm: Any) -> None:
        """Stiffness, mass and boundary loads; the factorised matrix has unit rows where u is given."""
        fx = fenics()
        ufl, fem, space = fx.ufl, fx.fem, self._states.V
        u, v = ufl.TrialFunction(space), ufl.TestFunction(space)
        k = parts.coefficient(conductivity, "conductivity")
        stiffness = compile_form(ufl.inner(k * ufl.grad(u), ufl.grad(v)) * parts.dx + parts.robin(u, v))
        mass = compile_form(ufl.TrialFunction(self._sources.V) * v * parts.dx)
        nothing = parts.coefficient(0.0, "load") * v * parts.dx
        load = fx.petsc.assemble_vector(compile_form(nothing + parts.boundary_loads(v)))
        load.ghostUpdate(addv=fx.PETSc.InsertMode.ADD, mode=fx.PETSc.ScatterMode.REVERSE)
        self._load: Floats = np.array(load.array)
        self._mass = assembled_rows(fx.petsc.create_matrix(mass), mass, self._sources)
        matrix = fx.petsc.create_matrix(stiffness)
        self._stiffness = assembled_rows(matrix, stiffness, self._states)
        local = np.flatnonzero(np.isin(self._states.canonical, dofs)).astype(np.int32)
        bcs = [fem.dirichletbc(fem.Function(space), local)] if len(dofs) else []
        matrix.zeroEntries()
        fx.petsc.assemble_matrix(matrix, stiffness, bcs=bcs)
        matrix.assemble()
        self._factorisation = Factorisation(matrix, comm, unique_prefix(), options)
        self._factorisation.update()
        self.factorisations += 1

    def _solve_inside(self, rhs: Floats, *, transpose: bool = False) -> Floats:
        """Solve with zero rows where u is given, `(n_owned, k)`."""
        rhs[self._fixed] = 0.0
        solution = self._factorisation.solve(rhs, transpose=transpose)
        solution[self._fixed] = 0.0
        return solution

    def apply(self, m: Floats) -> Floats:
        """A m, `(B, n_sources)` -> `(B, n_states)`; one block solve."""
        return self._states.gather(self._solve_inside(self._mass @ m.T))

    def transpose(self, v: Floats) -> Floats:
        """A^T v, `(B, n_states)` -> `(B, n_sources)`; one block solve."""
        multiplier = self._solve_inside(v.T[self._states.owned_canonical], transpose=True)
        return self._sources.sum(np.ascontiguousarray((self._mass.T @ multiplier).T))

    def offset(self) -> Floats:
        """State of the boundary data without source, `(n_states,)`."""
        rhs = self._load - self._stiffness @ self._lift
        state: Floats = self._lift + self._states.gather(self._solve_inside(rhs[:, None]))[0]
        return state


def source_operator(mesh: Mesh, degree: int = 1, **settings: Any) -> ForwardOperator:
    """Source to state as an operator: a linear map, or `Affine` if boundary data are not zero.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of the state, 1 or 2.
        settings: Keyword arguments of `SourceToState`.

    Raises:
        SciprobError: As `SourceToState`.
    """
    solver = SourceToState(mesh, degree, **settings)
    linear = HostLinearMap(solver)
    offset = solver.offset()
    return Affine(linear, torch.tensor(offset)) if offset.any() else linear
