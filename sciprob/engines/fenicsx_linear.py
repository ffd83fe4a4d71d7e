"""Factorised matrices with block solves, and what goes with them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from sciprob.engines.fenicsx_mesh import DofMap, fenics
from sciprob.errors import ConvergenceError
from sciprob.spaces.mesh import Floats

_PREFIXES = itertools.count()
_BLOCK = 128  # columns solved at once; bounds the memory of dense blocks


def default_options() -> dict[str, Any]:
    """Direct solver: MUMPS where PETSc has it, else PETSc's own (one process only)."""
    options: dict[str, Any] = {"ksp_type": "preonly", "pc_type": "lu"}
    if fenics().PETSc.Sys.hasExternalPackage("mumps"):
        options["pc_factor_mat_solver_type"] = "mumps"
    return options


def unique_prefix() -> str:
    """A PETSc options prefix no other engine has; equal on all processes that build the same engines."""
    return f"sciprob_{next(_PREFIXES)}_"


class Factorisation:
    """One matrix and its solver; assembling into it again reuses pattern and symbolic analysis.

    Args:
        matrix: PETSc matrix, empty.
        comm: Its mpi4py communicator.
        prefix: Options prefix.
        options: PETSc options of the linear solver.
    """

    def __init__(self, matrix: Any, comm: Any, prefix: str, options: Mapping[str, Any]) -> None:
        petsc = fenics().PETSc
        self.matrix = matrix
        self.comm = comm
        self.ksp = petsc.KSP().create(matrix.comm)
        self.ksp.setOptionsPrefix(prefix)
        database = petsc.Options()
        for key, value in options.items():
            database[prefix + key] = value
        self.ksp.setOperators(matrix)
        self.ksp.setFromOptions()
        for key in options:
            database.delValue(prefix + key)

    def update(self) -> None:
        """Factorise the matrix as it now is. Collective.

        Raises:
            ConvergenceError: If it cannot be factorised.
        """
        if not np.isfinite(self.matrix.norm()):  # MUMPS would only complain when solving
            message = "the matrix has entries that are not finite; the coefficient overflows."
            raise ConvergenceError(message)
        self.ksp.setOperators(self.matrix)
        self.ksp.setUp()
        reason = int(self.ksp.getPC().getFailedReason())
        if not self._everywhere(reason == 0):
            message = f"the matrix could not be factorised (PETSc reason {reason}); it is singular or overflows."
            raise ConvergenceError(message)

    def solve(self, rhs: Floats, *, transpose: bool = False) -> Floats:
        """Solve for the columns of the owned rows `rhs (n_owned, k)`, in blocks. Collective.

        Raises:
            ConvergenceError: If the solver reports failure or the result is not finite.
        """
        blocks = [self._solve_block(rhs[:, i : i + _BLOCK], transpose) for i in range(0, rhs.shape[1], _BLOCK)]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)

    def _solve_block(self, rhs: Floats, transpose: bool) -> Floats:
        petsc = fenics().PETSc
        size = ((self.matrix.getLocalSize()[0], self.matrix.getSize()[0]), (petsc.DECIDE, rhs.shape[1]))
        b, x = (petsc.Mat().createDense(size, comm=self.comm) for _ in range(2))
        for block in (b, x):
            block.setUp()
        b.getDenseArray()[:] = rhs
        b.assemble()
        x.assemble()
        (self.ksp.matSolveTranspose if transpose else self.ksp.matSolve)(b, x)
        solution = np.array(x.getDenseArray())
        b.destroy()
        x.destroy()
        reason = int(self.ksp.getConvergedReason())
        finite = self._everywhere(bool(np.isfinite(solution).all()))
        if reason < 0 or not finite:
            message = f"the linear solver failed (PETSc reason {reason}); the matrix is singular or overflows."
            raise ConvergenceError(message)
        return solution

    def destroy(self) -> None:
        """Free matrix and solver on all processes. Collective."""
        self.ksp.destroy()
        self.matrix.destroy()

    def _everywhere(self, condition: bool) -> bool:
        """Whether a condition holds on all processes."""
        return bool(self.comm.allreduce(condition, op=fenics().MPI.LAND))


def assembled_rows(matrix: Any, form: Any, columns: DofMap) -> Any:
    """Owned rows of a bilinear form as a scipy matrix whose columns are canonical numbers. Collective."""
    import scipy.sparse as sp

    matrix.zeroEntries()
    fenics().petsc.assemble_matrix(matrix, form)
    matrix.assemble()
    start, index, values = matrix.getValuesCSR()
    return sp.csr_matrix((values, columns.columns[index], start), shape=(len(start) - 1, columns.space.size))


def key_of(row: Floats) -> bytes:
    """Hash of the bytes of one sample."""
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()


def groups_of_equal_rows(rows: Floats) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Numbers of equal rows, group by group, in order of appearance."""
    groups: dict[bytes, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(key_of(row), []).append(i)
    return [np.array(group) for group in groups.values()]
