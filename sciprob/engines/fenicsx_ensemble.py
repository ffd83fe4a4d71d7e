"""Ensembles on many processes: groups share the samples, the processes of a group share the mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sciprob.engines.fenicsx_mesh import fenics
from sciprob.errors import ConfigError, ConvergenceError
from sciprob.operators.host_protocols import PointLinearisation
from sciprob.spaces.mesh import Floats


class GroupedSolver:
    """A host solver whose batches are split over groups of processes; results as on one process.

    The communicator is split into `groups` parts of neighbouring ranks. Each part builds its own
    engine, whose mesh is distributed inside the part, and takes every `groups`-th sample (or, at one
    linearisation, every `groups`-th direction). Tensors are replicated: all processes call with the
    same arguments and get all results. Many small problems want as many groups as processes, few
    large ones a single group.

    A `HostSolver` with tangent, adjoint and `linearise`; wrap it as `HostOperator(GroupedSolver(...))`.

    Args:
        build: Communicator to engine, such as `lambda comm: Elliptic(mesh, dirichlet=..., comm=comm)`.
        groups: How many groups.
        comm: mpi4py communicator, default all processes.

    Raises:
        ConfigError: If there are more groups than processes.
    """

    def __init__(self, build: Callable[[Any], Any], groups: int, comm: Any | None = None) -> None:
        self._comm = comm if comm is not None else fenics().MPI.COMM_WORLD
        if not 1 <= groups <= self._comm.size:
            message = f"`groups` should lie between 1 and the number of processes, {self._comm.size}, got {groups}."
            raise ConfigError(message)
        self._groups = groups
        self._colour = self._comm.rank * groups // self._comm.size
        self._inner = self._comm.Split(self._colour, self._comm.rank)
        self.host = build(self._inner)
        self.domain, self.codomain = self.host.domain, self.host.codomain

    @property
    def factorisations(self) -> int:
        """Those of this process's group."""
        return int(self.host.factorisations)

    def solve(self, m: Floats) -> Floats:
        """States of a batch, `(B, *domain)` -> `(B, *codomain)`. Collective.

        Raises:
            ConvergenceError: On all processes, for the first sample that cannot be solved.
        """
        m = self._replicated(m)
        return self.share(len(m), self.codomain.shape, lambda rows: self.host.solve(m[rows]))

    def tangent(self, m: Floats, u: Floats, dm: Floats) -> Floats:
        """J(m_i) dm_i row by row. Collective."""
        m, dm = self._replicated(m), self._replicated(dm)
        return self.share(len(dm), self.codomain.shape, lambda rows: self.host.tangent(m[rows], u[rows], dm[rows]))

    def adjoint(self, m: Floats, u: Floats, v: Floats) -> Floats:
        """J(m_i)^T v_i row by row. Collective."""
        m, v = self._replicated(m), self._replicated(v)
        return self.share(len(v), self.domain.shape, lambda rows: self.host.adjoint(m[rows], u[rows], v[rows]))

    def linearise(self, m: Floats, u: Floats) -> GroupedPoint:
        """Derivative at one point, held by every group. Collective."""
        return GroupedPoint(self, self.host.linearise(self._replicated(m), u))

    def share(self, count: int, shape: tuple[int, ...], act: Callable[[Any], Floats]) -> Floats:
        """Every group computes its rows, all processes get all rows."""
        rows = np.arange(self._colour, count, self._groups)
        result = np.zeros((count, *shape))
        failed: tuple[int, str] | None = None
        if len(rows):
            try:
                part = act(rows)
                if self._inner.rank == 0:
                    result[rows] = part
            except ConvergenceError as error:
                failed = _globally(error, rows)
        failures = [failure for failure in self._comm.allgather(failed) if failure is not None]
        if failures:
            sample, message = min(failures)
            raise ConvergenceError(message, sample=sample)
        self._comm.Allreduce(fenics().MPI.IN_PLACE, result)
        return result

    def _replicated(self, x: Floats) -> Floats:
        """The argument of process 0 on all processes: groups must take the same decisions."""
        x = np.array(x, dtype=np.float64)
        self._comm.Bcast(x)
        return x


class GroupedPoint:
    """Derivative at one point, its directions split over the groups.

    Args:
        solver: The split solver.
        point: This group's derivative.
    """

    def __init__(self, solver: GroupedSolver, point: PointLinearisation) -> None:
        self._solver, self._point = solver, point

    def tangent(self, dm: Floats) -> Floats:
        """J dm, `(K, *domain)` -> `(K, *codomain)`. Collective."""
        return self._solver.share(len(dm), self._solver.codomain.shape, lambda rows: self._point.tangent(dm[rows]))

    def adjoint(self, v: Floats) -> Floats:
        """J^T v, `(K, *codomain)` -> `(K, *domain)`. Collective."""
        return self._solver.share(len(v), self._solver.domain.shape, lambda rows: self._point.adjoint(v[rows]))


def _globally(error: ConvergenceError, rows: Any) -> tuple[int, str]:
    """Number and message of a failed sample, counted in the whole batch."""
    local = error.sample if error.sample is not None else 0
    sample = int(rows[local])
    return sample, str(error).replace(f"sample {local} ", f"sample {sample} ", 1)
