"""The linear problem with an unknown source, in torch: exact adjoint, all sources at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.engines.conditions import Conditions, Value, evaluate
from sciprob.engines.torch_fe.discretisation import Discretisation, discretise
from sciprob.engines.torch_fe.elements import cell_points
from sciprob.engines.torch_fe.system import LinearSolver, System, linear_failure
from sciprob.engines.torch_fe.tables import Tables
from sciprob.engines.torch_fe.weak_form import matrix_values, residual, source_action, source_transpose
from sciprob.errors import ConvergenceError
from sciprob.operators.algebra import Affine
from sciprob.operators.base import ForwardOperator
from sciprob.operators.linear import ExplicitLinearMap
from sciprob.spaces import FESpace, Mesh


class SourceMap(ExplicitLinearMap):
    """Source to state: -div(k grad u) = m with the conductivity k known; the linear part of the map.

    u(m) = A m + u_0 with A m the state under homogeneous conditions and u_0 = `offset()` that of the
    boundary data alone. The problem, its arguments and its numbers are those of
    `sciprob.engines.fenicsx.SourceToState`, without FEniCSx and on any device. Results have dtype and
    device of the input; inside all is float64, because rounding is multiplied by the condition number.
    Callables on the boundary are evaluated at the quadrature points, there they are interpolated.

    One matrix for all sources: conjugate gradients with a two-level preconditioner, made once.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of u, 1 or 2; m is piecewise linear.
        conductivity: k > 0.
        dirichlet: u on parts of the boundary.
        neumann: k du/dn on parts of the boundary.
        robin: `(alpha, g)` on parts of the boundary: k du/dn + alpha u = g.
        quadrature_degree: Of all integrals; up to 6 the same points as FEniCSx.
        name: Name of the state.
        linear: Settings of conjugate gradients.

    Raises:
        DataError: For an unknown boundary part, or values that are not finite.
        ConfigError: If a part has two conditions.
        UnsupportedProblemError: If the solution would not be unique (Neumann conditions only), or for a
            quadrature degree below 1.
        ConvergenceError: On use, if a solve fails.
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
        linear: LinearSolver | None = None,
    ) -> None:
        super().__init__(FESpace(mesh, 1, name="source"), FESpace(mesh, degree, name=name))
        conditions = Conditions(dirichlet or {}, neumann or {}, robin or {})
        self._tables = Tables(discretise(self.codomain, conditions, 0.0, quadrature_degree))
        points = cell_points(self.codomain, quadrature_degree)
        k = evaluate(conductivity, points.reshape(-1, mesh.dim), "conductivity").reshape(points.shape[:2])
        self._conductivity = torch.tensor(k)
        self._solver = linear or LinearSolver()
        self._systems: dict[torch.device, System] = {}

    def _matvec(self, x: Tensor) -> Tensor:
        self._stats.forward += len(x)
        if len(x) == 0:
            return x.new_zeros(0, self.codomain.size)
        return self._solve(source_action(self._tables.beside(x), x.double())).to(x.dtype)

    def _rmatvec(self, y: Tensor) -> Tensor:
        self._stats.adjoint += len(y)
        if len(y) == 0:
            return y.new_zeros(0, self.domain.size)
        return source_transpose(self._tables.beside(y), self._solve(y.double())).to(y.dtype)

    def offset(self) -> Tensor:
        """State of the boundary data without source, `(N,)`, float64."""
        t = self._tables.beside(self._conductivity)
        return t.lift + self._solve(-residual(t, self._weighted(t), t.lift[None], 0.0))[0]

    def _weighted(self, t: Discretisation) -> Tensor:
        return self._conductivity.to(t.cells.weights)[None] * t.cells.weights

    def _system(self, beside: Tensor) -> System:
        if beside.device not in self._systems:
            t = self._tables.beside(beside)
            self._systems[beside.device] = System(
                t, matrix_values(t, self._weighted(t), t.lift[None], 0.0), self._solver
            )
            self._stats.factorisations += 1
        return self._systems[beside.device]

    def _solve(self, rhs: Tensor) -> Tensor:
        """Solve with zero values where u is given, `(B, N)`."""
        solution = self._system(rhs).solve(rhs.T[None])
        if bool(solution.failed.any()):
            i = int(solution.failed[0].nonzero()[0])
            message = f"source {i} could not be solved: {linear_failure(solution)}; check the conductivity."
            raise ConvergenceError(message, sample=i, history=tuple(solution.history[:, 0, i].tolist()))
        return solution.x[0].T


def source_operator(mesh: Mesh, degree: int = 1, **settings: Any) -> ForwardOperator:
    """Source to state as an operator: a linear map, or `Affine` if boundary data are not zero.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of the state, 1 or 2.
        settings: Keyword arguments of `SourceMap`.

    Raises:
        SciprobError: As `SourceMap`.
    """
    linear = SourceMap(mesh, degree, **settings)
    offset = linear.offset()
    return Affine(linear, offset) if bool(offset.any()) else linear
