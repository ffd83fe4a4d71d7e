"""What can be unknown in a time-dependent problem, and how it enters the weak form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from sciprob.engines.fenicsx_linear import assembled_rows
from sciprob.engines.fenicsx_mesh import DistributedMesh, DofMap, compile_form, fenics
from sciprob.spaces import FESpace, Space
from sciprob.spaces.mesh import Floats


class Unknown(Protocol):
    """The unknown m as a flat vector, and dF/dm of a residual F."""

    space: Space

    def assign(self, m: Floats) -> None:
        """Put the values of `m (n_parameters,)` into the form's coefficients."""
        ...

    def compile(self, residual: Any) -> None:
        """Compile dF/dm."""
        ...

    def coupling(self) -> Any:
        """dF/dm at the current state: owned rows times all columns, dense or sparse; None if zero. Collective."""
        ...


class FieldUnknown:
    """A piecewise linear coefficient of the form, such as a source or a log-conductivity.

    Args:
        mesh: The distributed mesh.
        name: Its name.
    """

    def __init__(self, mesh: DistributedMesh, name: str) -> None:
        self.space: Space = FESpace(mesh.mesh, 1, name=name)
        self._dofs = DofMap(mesh, FESpace(mesh.mesh, 1, name=name))
        self.function = fenics().fem.Function(self._dofs.V)

    def assign(self, m: Floats) -> None:
        """Values in canonical order."""
        self.function.x.array[:] = m[self._dofs.canonical]

    def compile(self, residual: Any) -> None:
        """A bilinear form."""
        fx = fenics()
        self._form = compile_form(fx.ufl.derivative(residual, self.function, fx.ufl.TrialFunction(self._dofs.V)))
        self._matrix = fx.petsc.create_matrix(self._form)

    def coupling(self) -> Any:
        """A sparse matrix."""
        return assembled_rows(self._matrix, self._form, self._dofs)


class ScalarUnknowns:
    """Numbers in the form, such as a viscosity; those that the form does not contain have a zero column.

    Args:
        mesh: The distributed mesh.
        names: Their names; entry i of m is the value of `names[i]`.
        name: Name of the space.
    """

    def __init__(self, mesh: DistributedMesh, names: Sequence[str], name: str = "parameters") -> None:
        fx = fenics()
        self.space = Space((len(names),), name=name, dims=("parameter",), labels=tuple(names))
        self.names = tuple(names)
        self._constants = [fx.fem.Constant(mesh.domain, 1.0) for _ in names]
        self.symbols = {key: fx.ufl.variable(value) for key, value in zip(names, self._constants, strict=True)}

    def assign(self, m: Floats) -> None:
        """One number each."""
        for constant, value in zip(self._constants, m, strict=True):
            constant.value = float(value)

    def compile(self, residual: Any) -> None:
        """One linear form per number."""
        fx = fenics()
        self._owned = residual.arguments()[0].ufl_function_space().dofmap.index_map.size_local
        expand = fx.ufl.algorithms.expand_derivatives
        forms = [expand(fx.ufl.diff(residual, symbol)) for symbol in self.symbols.values()]
        self._forms = [None if form.empty() else compile_form(form) for form in forms]

    def coupling(self) -> Any:
        """A dense matrix with one column per number."""
        fx = fenics()
        columns = np.zeros((self._owned, len(self._forms)))
        for i, form in enumerate(self._forms):
            if form is not None:
                vector = fx.petsc.assemble_vector(form)
                vector.ghostUpdate(addv=fx.PETSc.InsertMode.ADD, mode=fx.PETSc.ScatterMode.REVERSE)
                columns[:, i] = vector.array
                vector.destroy()
        return columns


class InitialUnknown:
    """The state at time 0; the form does not contain it.

    Args:
        space: Its space.
    """

    def __init__(self, space: Space) -> None:
        self.space = space

    def assign(self, m: Floats) -> None:
        """Nothing to put anywhere."""

    def compile(self, residual: Any) -> None:
        """Nothing to compile."""

    def coupling(self) -> Any:
        """Zero."""
        return None
