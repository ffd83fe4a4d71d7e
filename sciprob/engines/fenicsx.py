"""Elliptic problems on meshes by FEniCSx: states, tangents and adjoints for `HostOperator`.

Tensors are replicated on all processes in the canonical order of `FESpace`; the mesh is distributed
over the communicator, and every process has to enter every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sciprob.engines.conditions import Conditions, Value
from sciprob.engines.fenicsx_forms import FormParts
from sciprob.engines.fenicsx_linear import (
    Factorisation,
    assembled_rows,
    default_options,
    groups_of_equal_rows,
    key_of,
    unique_prefix,
)
from sciprob.engines.fenicsx_mesh import DistributedMesh, DofMap, compile_form, fenics
from sciprob.engines.fenicsx_source import SourceToState, source_operator
from sciprob.engines.fenicsx_store import Slot, SlotStore
from sciprob.errors import ConvergenceError, DataError
from sciprob.operators.host import HostOperator
from sciprob.spaces import FESpace, Mesh
from sciprob.spaces.mesh import Floats

__all__ = ["Elliptic", "SourceToState", "elliptic_operator", "source_operator"]


class Elliptic:
    """Log-conductivity to state: -div(exp(m) grad u) + c u^3 = f with named boundary conditions.

    m is piecewise linear, u of degree 1 or 2. Linear problems (c = 0) take one factorisation per
    parameter, others Newton's method with a line search. Factorisations of recent parameters are
    kept, so that a state, its adjoints and its tangents share one.

    A `HostSolver` with tangent, adjoint and `linearise`; wrap it as `HostOperator(Elliptic(...))`,
    or call `elliptic_operator`. Calls are not thread-safe by themselves; the operator locks.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of u, 1 or 2.
        source: f.
        dirichlet: u on parts of the boundary.
        neumann: exp(m) du/dn on parts of the boundary.
        robin: `(alpha, g)` on parts of the boundary: exp(m) du/dn + alpha u = g.
        reaction: c. With c < 0 a solution may not exist.
        quadrature_degree: Of all integrals, explicit because exp(m) is no polynomial: with piecewise
            linear m degree 2 leaves errors of 1e-5, 4 of 1e-7 on moderate meshes, far below the
            discretisation's.
        name: Name of the state.
        tolerance: Newton stops when a step is this small relative to u (the error is then about its square).
        max_iterations: Of Newton's method.
        cache_size: Factorisations kept; default 2 to 32, fewer for larger meshes.
        petsc_options: Of the linear solver, default a direct one (MUMPS). Beyond about 1e5 unknowns
            `{"ksp_type": "cg", "pc_type": "gamg", "ksp_rtol": 1e-12}` takes less memory.
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
        source: Value = 0.0,
        dirichlet: Mapping[str, Value] | None = None,
        neumann: Mapping[str, Value] | None = None,
        robin: Mapping[str, tuple[Value, Value]] | None = None,
        reaction: float = 0.0,
        quadrature_degree: int = 4,
        name: str = "u",
        tolerance: float = 1e-9,
        max_iterations: int = 25,
        cache_size: int | None = None,
        petsc_options: Mapping[str, Any] | None = None,
        comm: Any | None = None,
    ) -> None:
        conditions = Conditions(dirichlet or {}, neumann or {}, robin or {})
        conditions.check(mesh)
        self.domain = FESpace(mesh, 1, name="log_conductivity")
        self.codomain = FESpace(mesh, degree, name=name)
        self.factorisations = 0
        self._reaction = float(reaction)
        self._tolerance, self._max_iterations = tolerance, max_iterations
        distributed = DistributedMesh(mesh, comm)
        self._comm = distributed.comm
        self._parameters, self._states = DofMap(distributed, self.domain), DofMap(distributed, self.codomain)
        self._set_up_dirichlet(conditions)
        self._compile(FormParts(distributed, degree, conditions, quadrature_degree), source)
        size = cache_size if cache_size is not None else min(32, max(2, 200_000 // self.codomain.size))
        self._slots = self._new_store(size, dict(petsc_options) if petsc_options is not None else default_options())

    def _new_store(self, size: int, options: Mapping[str, Any]) -> SlotStore:
        """Storage for factorisations; knows the form but not the engine, so that no cycle keeps them alive."""
        form, comm, prefix = self._jacobian_form, self._comm, unique_prefix()
        return SlotStore(size, lambda: Factorisation(fenics().petsc.create_matrix(form), comm, prefix, options), comm)

    def _set_up_dirichlet(self, conditions: Conditions) -> None:
        fx = fenics()
        dofs, values = conditions.dirichlet_values(self.codomain)
        lift = np.zeros(self.codomain.size)
        lift[dofs] = values
        self._lift: Floats = lift[self._states.canonical]
        local = np.flatnonzero(np.isin(self._states.canonical, dofs)).astype(np.int32)
        self._fixed = local[local < self._states.owned]
        self._bcs = [fx.fem.dirichletbc(fx.fem.Function(self._states.V), local)] if len(dofs) else []

    def _compile(self, parts: FormParts, source: Value) -> None:
        """Residual F, dF/du and dF/dm."""
        fx = fenics()
        ufl, fem = fx.ufl, fx.fem
        self._m, self._u = fem.Function(self._parameters.V), fem.Function(self._states.V)
        u, v = self._u, ufl.TestFunction(self._states.V)
        residual = ufl.inner(ufl.exp(self._m) * ufl.grad(u), ufl.grad(v)) * parts.dx + parts.robin(u, v)
        residual -= parts.coefficient(source, "source") * v * parts.dx + parts.boundary_loads(v)
        if self._reaction != 0.0:
            residual += parts.coefficient(self._reaction, "reaction") * u**3 * v * parts.dx
        self._residual_form = compile_form(residual)
        self._jacobian_form = compile_form(ufl.derivative(residual, u, ufl.TrialFunction(self._states.V)))
        self._coupling_form = compile_form(ufl.derivative(residual, self._m, ufl.TrialFunction(self._parameters.V)))
        self._coupling_matrix = fx.petsc.create_matrix(self._coupling_form)
        self._residual_vector = fx.petsc.create_vector(self._states.V)

    def solve(self, m: Floats) -> Floats:
        """States of a batch, `(B, n_parameters)` -> `(B, n_states)`.

        Raises:
            ConvergenceError: If a sample cannot be solved; names sample, residuals and range of m.
        """
        return np.stack([self._state(i, row) for i, row in enumerate(self._replicated(m))])

    def tangent(self, m: Floats, u: Floats, dm: Floats) -> Floats:
        """J(m_i) dm_i row by row; equal m share one factorisation and one block solve."""
        m, result = self._replicated(m), np.empty((len(dm), self.codomain.size))
        for rows in reversed(groups_of_equal_rows(m)):  # the cache still has the last ones
            result[rows] = _Point(self, m[rows[0]], u[rows[0]]).tangent(dm[rows])
        return result

    def adjoint(self, m: Floats, u: Floats, v: Floats) -> Floats:
        """J(m_i)^T v_i row by row; equal m share one factorisation and one block solve."""
        m, result = self._replicated(m), np.empty((len(v), self.domain.size))
        for rows in reversed(groups_of_equal_rows(m)):  # the cache still has the last ones
            result[rows] = _Point(self, m[rows[0]], u[rows[0]]).adjoint(v[rows])
        return result

    def linearise(self, m: Floats, u: Floats) -> _Point:
        """Derivative at one parameter, its factorisation kept as long as it lives.

        At most 32 are kept at a time; further ones factorise again when the cache has lost theirs.
        """
        point = _Point(self, self._replicated(m), np.array(u))
        point.hold()
        return point

    def _replicated(self, m: Floats) -> Floats:
        """The parameter of process 0 on all processes: decisions taken from its bytes must agree."""
        m = np.array(m, dtype=np.float64)
        if not np.isfinite(m).all():
            message = "the log-conductivity should be finite; check what produced it."
            raise DataError(message)
        if self._comm.size > 1:
            self._comm.Bcast(m)
        return m

    def _state(self, i: int, m: Floats) -> Floats:
        """State of one sample, from the cache if it is there."""
        key = key_of(m)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots.new()
            try:
                slot.state = self._newton(slot, i, m)
            except ConvergenceError:
                self._slots.give_back(slot)
                raise
            self._slots.put(key, slot)
        assert slot.state is not None
        return slot.state

    def _newton(self, slot: Slot, i: int, m: Floats) -> Floats:
        """Newton's method from the lifted boundary values; one step if the problem is linear."""
        self._m.x.array[:] = m[self._parameters.canonical]
        self._u.x.array[:] = self._lift
        residual, history = self._residual(), []
        for _ in range(self._max_iterations):
            history.append(self._norm(residual))
            try:
                self._factorise(slot)
                step = slot.factorisation.solve(-residual[:, None])[:, 0]
            except ConvergenceError as error:
                raise self._failure(i, m, history, str(error)) from error
            if self._reaction == 0.0 or self._norm(step) <= self._tolerance * self._norm(self._owned_state() + step):
                self._set_state(self._owned_state() + step)
                slot.at_state = self._reaction == 0.0
                state: Floats = self._states.gather(self._owned_state()[:, None])[0]
                return state
            searched = self._line_search(step, history[-1])
            if searched is None:
                raise self._failure(i, m, history, "Newton's method found no step that reduces the residual")
            residual = searched
        raise self._failure(i, m, history, f"Newton's method did not converge in {self._max_iterations} iterations")

    def _line_search(self, step: Floats, norm: float) -> Floats | None:
        """Halve the step until the residual falls; its new value, or None if it never does."""
        start, length = self._owned_state().copy(), 1.0
        for _ in range(12):
            self._set_state(start + length * step)
            residual = self._residual()
            if self._norm(residual) <= (1.0 - 1e-4 * length) * norm:  # false for NaN
                return residual
            length /= 2
        return None

    def _failure(self, i: int, m: Floats, history: list[float], reason: str) -> ConvergenceError:
        norms = ", ".join(f"{norm:.2e}" for norm in history)
        message = (
            f"sample {i} could not be solved: {reason.rstrip('.')}; residual norms {norms}; {self.domain.name} "
            f"ranges over [{m.min():.3g}, {m.max():.3g}], so check the prior's std or use `on_failure='nan'`."
        )
        return ConvergenceError(message, sample=i, history=tuple(history))

    def _owned_state(self) -> Floats:
        owned: Floats = self._u.x.array[: self._states.owned]
        return owned

    def _set_state(self, owned: Floats) -> None:
        self._u.x.array[: self._states.owned] = owned
        self._u.x.scatter_forward()

    def _norm(self, owned: Floats) -> float:
        return float(np.sqrt(self._comm.allreduce(float(owned @ owned))))

    def _residual(self) -> Floats:
        """F(u, m) on the owned degrees of freedom, zero where u is given."""
        fx, b = fenics(), self._residual_vector
        with b.localForm() as local:
            local.set(0.0)
        fx.petsc.assemble_vector(b, self._residual_form)
        b.ghostUpdate(addv=fx.PETSc.InsertMode.ADD, mode=fx.PETSc.ScatterMode.REVERSE)
        residual = np.array(b.array)
        residual[self._fixed] = 0.0
        return residual

    def _factorise(self, slot: Slot) -> None:
        """Assemble and factorise dF/du at the current state, unit rows and columns where u is given."""
        matrix = slot.factorisation.matrix
        matrix.zeroEntries()
        fenics().petsc.assemble_matrix(matrix, self._jacobian_form, bcs=self._bcs)
        matrix.assemble()
        slot.factorisation.update()
        self.factorisations += 1

    def _linearised(self, m: Floats, u: Floats) -> Slot:
        """The slot at m with Jacobian and dF/dm at the state."""
        key = key_of(m)
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots.new()
            slot.state = np.array(u)
            self._slots.put(key, slot)
        assert slot.state is not None
        if not slot.at_state or slot.coupling is None:
            self._m.x.array[:] = m[self._parameters.canonical]
            self._u.x.array[:] = slot.state[self._states.canonical]
        if not slot.at_state:
            self._factorise(slot)
            slot.at_state = True
        if slot.coupling is None:
            slot.coupling = assembled_rows(self._coupling_matrix, self._coupling_form, self._parameters)
        return slot


class _Point:
    """J = -(dF/du)^{-1} dF/dm at one parameter, zero where u is given."""

    def __init__(self, engine: Elliptic, m: Floats, u: Floats) -> None:
        self._engine, self._m, self._u = engine, m, u
        self._states, self._parameters, self._fixed = engine._states, engine._parameters, engine._fixed
        self._kept: Slot | None = None

    def hold(self) -> None:
        """Factorise now and keep it, if there is room."""
        slot = self._slot
        self._kept = slot if self._engine._slots.hold(slot, self) else None

    @property
    def _slot(self) -> Slot:
        return self._kept if self._kept is not None else self._engine._linearised(self._m, self._u)

    def tangent(self, dm: Floats) -> Floats:
        """J dm, `(K, n_parameters)` -> `(K, n_states)`."""
        slot = self._slot
        rhs = -(slot.coupling @ dm.T)
        rhs[self._fixed] = 0.0
        return self._states.gather(slot.factorisation.solve(rhs))

    def adjoint(self, v: Floats) -> Floats:
        """J^T v, `(K, n_states)` -> `(K, n_parameters)`."""
        slot, rhs = self._slot, v.T[self._states.owned_canonical]
        rhs[self._fixed] = 0.0
        multiplier = slot.factorisation.solve(rhs, transpose=True)
        multiplier[self._fixed] = 0.0
        return self._parameters.sum(np.ascontiguousarray(-(slot.coupling.T @ multiplier).T))


def elliptic_operator(mesh: Mesh, degree: int = 1, *, on_failure: str = "raise", **settings: Any) -> HostOperator:
    """`HostOperator(Elliptic(mesh, degree, **settings))`: log-conductivity to state, differentiable.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of the state, 1 or 2.
        on_failure: `"raise"`, or `"nan"` for samples that cannot be solved.
        settings: Keyword arguments of `Elliptic`.

    Raises:
        SciprobError: As `Elliptic`.
    """
    return HostOperator(Elliptic(mesh, degree, **settings), on_failure=on_failure)
