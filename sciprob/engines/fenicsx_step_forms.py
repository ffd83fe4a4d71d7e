"""The compiled forms of one implicit step: residual, Jacobian, and derivatives by earlier states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sciprob.engines.fenicsx_equation import Equation
from sciprob.engines.fenicsx_linear import Factorisation, assembled_rows
from sciprob.engines.fenicsx_mesh import compile_form, fenics
from sciprob.engines.fenicsx_schemes import Step
from sciprob.spaces.mesh import Floats


class StepForms:
    """F_n and its derivatives at states, an unknown and a step that are put in by `load`. Collective.

    Args:
        equation: The equation; its unknown compiles dF/dm here.
        steps: The time steps, which tell how many earlier states there are.

    Attributes:
        fixed_rows: Owned degrees of freedom where the state is given.
        fixed_place: Their places among `equation.fixed`.
        u: The function U_n.
    """

    def __init__(self, equation: Equation, steps: Sequence[Step]) -> None:
        fx = fenics()
        fem, ufl, space = fx.fem, fx.ufl, equation.dofs.V
        self._equation, self._dofs = equation, equation.dofs
        u, u1, u2 = self._states = [fem.Function(space) for _ in range(3)]
        self._weights = [fem.Constant(space.mesh, 1.0) for _ in range(3)]
        self._theta = fem.Constant(space.mesh, 1.0)
        residual = equation.residual(u, u1, u2, ufl.TestFunction(space), self._weights, self._theta)
        trial = ufl.TrialFunction(space)
        levels = max((i for step in steps for i in range(3) if step.weights[i] != 0.0), default=0)
        forms = [compile_form(ufl.derivative(residual, u, trial)) for u in self._states[: levels + 1]]
        self._residual = compile_form(residual)
        self.jacobian, self._old = forms[0], forms[1:]
        self._old_matrices = [fx.petsc.create_matrix(form) for form in self._old]
        self._vector = fx.petsc.create_vector(space)
        equation.unknown.compile(residual)
        owned = self._dofs.owned_canonical
        self.fixed_rows = np.flatnonzero(np.isin(owned, equation.fixed)).astype(np.int32)
        self.fixed_place = np.searchsorted(equation.fixed, owned[self.fixed_rows])

    @property
    def u(self) -> Any:
        """The function U_n."""
        return self._states[0]

    def load(self, m: Floats, step: Step, *states: Floats) -> None:
        """Put in the unknown, the data of a step, and U_n, U_{n-1}, U_{n-2}."""
        self._equation.unknown.assign(m)
        self._equation.prepare(step)
        for constant, value in zip(self._weights, step.weights, strict=True):
            constant.value = value
        self._theta.value = step.theta
        for function, state in zip(self._states, states, strict=True):
            function.x.array[:] = state[self._dofs.canonical]

    def residual(self) -> Floats:
        """F on owned degrees of freedom, zero where the state is given."""
        fx, b = fenics(), self._vector
        with b.localForm() as local:
            local.set(0.0)
        fx.petsc.assemble_vector(b, self._residual)
        b.ghostUpdate(addv=fx.PETSc.InsertMode.ADD, mode=fx.PETSc.ScatterMode.REVERSE)
        residual = np.array(b.array)
        residual[self.fixed_rows] = 0.0
        return residual

    def factorise(self, factorisation: Factorisation) -> None:
        """Factorise dF/dU_n with unit rows where the state is given."""
        matrix = factorisation.matrix
        matrix.zeroEntries()
        fenics().petsc.assemble_matrix(matrix, self.jacobian)
        matrix.assemble()
        matrix.zeroRowsLocal(self.fixed_rows, diag=1.0)
        factorisation.update()

    def old_derivatives(self) -> list[Any]:
        """dF/dU_{n-1} and, with BDF2, dF/dU_{n-2}: owned rows, canonical columns."""
        pairs = zip(self._old_matrices, self._old, strict=True)
        return [assembled_rows(matrix, form, self._dofs) for matrix, form in pairs]


def new_matrix(jacobian: Any) -> Any:
    """An empty matrix for a compiled form, which keeps its pattern when rows are cleared."""
    fx = fenics()
    matrix = fx.petsc.create_matrix(jacobian)
    matrix.setOption(fx.PETSc.Mat.Option.KEEP_NONZERO_PATTERN, True)
    return matrix
