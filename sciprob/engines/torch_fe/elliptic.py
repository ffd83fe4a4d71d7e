"""Elliptic problems on meshes in torch: log-conductivity to state, on any device, all samples at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.engines.conditions import Conditions, Value
from sciprob.engines.torch_fe.derivative import EllipticDerivative, Points, blocks_of
from sciprob.engines.torch_fe.discretisation import Discretisation, discretise
from sciprob.engines.torch_fe.newton import Failure, Newton, States
from sciprob.engines.torch_fe.system import LinearSolver
from sciprob.engines.torch_fe.tables import Tables
from sciprob.errors import ConvergenceError, NonFiniteError, UnsupportedProblemError
from sciprob.operators.base import ForwardOperator
from sciprob.operators.host_autograd import differentiable_solve
from sciprob.operators.linear import LinearMap
from sciprob.spaces import FESpace, Mesh


class EllipticOperator(ForwardOperator):
    """Log-conductivity to state: -div(exp(m) grad u) + c u^3 = f with named boundary conditions.

    The problem, its arguments and its numbers are those of `sciprob.engines.fenicsx.Elliptic`, without
    FEniCSx and on any device. Results have dtype and device of the input; inside all is float64, because
    rounding is multiplied by the condition number. Callables on the boundary are evaluated at the
    quadrature points, there they are interpolated. m is piecewise linear, u of degree 1 or 2.

    Matrices are formed for all samples at once and solved by conjugate gradients with a two-level
    preconditioner; derivatives take one more solve with the same matrix (implicit differentiation), in
    both modes, also under `vmap`. Second derivatives raise `NotImplementedError`.

    Args:
        mesh: Triangles or tetrahedra.
        degree: Degree of u, 1 or 2.
        source: f.
        dirichlet: u on parts of the boundary.
        neumann: exp(m) du/dn on parts of the boundary.
        robin: `(alpha, g)` on parts of the boundary: exp(m) du/dn + alpha u = g.
        reaction: c. With c < 0 a solution may not exist, or not be found by conjugate gradients.
        quadrature_degree: Of all integrals; up to 6 the same points as FEniCSx.
        name: Name of the state.
        tolerance: Newton stops when a step is this small relative to u (the error is then about its square).
        max_iterations: Of Newton's method.
        linear: Settings of conjugate gradients.
        on_failure: `"raise"`, or `"nan"`: state and derivatives of a sample that cannot be solved are NaN.

    Raises:
        DataError: For an unknown boundary part, or values that are not finite.
        ConfigError: If a part has two conditions.
        UnsupportedProblemError: If the solution would not be unique (Neumann conditions only), for a
            quadrature degree below 1, or another `on_failure`.
        NonFiniteError: On use, if a sample of `m` is not finite (unless `on_failure="nan"`).
        ConvergenceError: On use, if a solve fails (unless `on_failure="nan"`); names the sample.
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
        linear: LinearSolver | None = None,
        on_failure: str = "raise",
    ) -> None:
        super().__init__(FESpace(mesh, 1, name="log_conductivity"), FESpace(mesh, degree, name=name))
        if on_failure not in ("raise", "nan"):
            message = f"`on_failure` should be 'raise' or 'nan', got {on_failure!r}."
            raise UnsupportedProblemError(message)
        self.on_failure = on_failure
        self.reaction = float(reaction)
        self.linear_solver = linear or LinearSolver()
        self._newton = Newton(self.reaction, tolerance, max_iterations, self.linear_solver)
        conditions = Conditions(dirichlet or {}, neumann or {}, robin or {})
        self._tables = Tables(discretise(self.codomain, conditions, source, quadrature_degree))

    def _apply_batched(self, m: Any) -> Any:
        return differentiable_solve(m, self)

    def solve_states(self, m: Tensor) -> Tensor:
        """States of a batch `(B, P)` -> `(B, N)`, without derivatives."""
        return self._solve(m.detach().double()).to(m.dtype)

    def _solve(self, m: Tensor) -> Tensor:
        """The same in float64."""
        good = torch.isfinite(m).all(1)
        if self.on_failure == "raise" and not bool(good.all()):
            bad = int((~good).nonzero()[0])
            message = f"`{self.domain.name}` should be finite, sample {bad} is not; check what produced it."
            raise NonFiniteError(message)
        self._stats.forward += int(good.sum())
        t, u = self._tables.beside(m), m.new_full((len(m), self.codomain.size), torch.nan)
        for rows in blocks_of(good, t):
            states = self._newton.solve(t, m[rows])
            self._stats.factorisations += states.factorisations
            if states.failures and self.on_failure == "raise":
                raise self._error(states, rows, m)
            u[rows] = states.u
        return u

    def _error(self, states: States, rows: Tensor, m: Tensor) -> ConvergenceError:
        """The sentence on the first sample that failed."""
        failure: Failure = min(states.failures, key=lambda failure: failure.sample)
        i = int(rows[failure.sample])
        shown = failure.history if len(failure.history) <= 8 else (*failure.history[:4], *failure.history[-4:])
        norms = ", ".join(f"{norm:.2e}" for norm in shown)
        message = (
            f"sample {i} could not be solved: {failure.reason}; residual norms {norms}; {self.domain.name} "
            f"ranges over [{float(m[i].min()):.3g}, {float(m[i].max()):.3g}], so check the prior's std or use "
            "`on_failure='nan'`."
        )
        return ConvergenceError(message, sample=i, history=failure.history)

    def differentiate(self, m: Tensor, u: Tensor, w: Tensor, *, transpose: bool) -> Tensor:
        """Row by row J w, or J^T w, at the states u = S(m)."""
        dtype = w.dtype
        m, u, w = (x.detach().double() for x in (m, u, w))
        result = w.new_full((len(w), (self.domain if transpose else self.codomain).size), torch.nan)
        for rows in blocks_of(torch.isfinite(u).all(1), self._tables.beside(m)):
            point = Points(self, m[rows], u[rows], rows)
            result[rows] = (point.adjoint if transpose else point.tangent)(w[rows][None])[0]
        return result.to(dtype)

    def linearise(self, m: Tensor) -> tuple[Tensor, LinearMap]:
        """State and derivative at `m`; matrices and preconditioners are kept as long as the derivative.

        Raises:
            ConvergenceError: If a sample has no state.
        """
        batch = self.domain.batch_shape(m)
        flat = self.domain.merge(m.detach()).double()
        u = self._solve(flat)
        lost = (~torch.isfinite(u).all(1)).nonzero().flatten()
        if len(lost):
            message = f"sample {int(lost[0])} of `{self.domain.name}` has no state to linearise at; leave it out."
            raise ConvergenceError(message, sample=int(lost[0]))
        return self.codomain.split(u.to(m.dtype), batch), EllipticDerivative(self, batch, flat, u)

    def tables(self, beside: Tensor) -> Discretisation:
        """The discretisation on the device of a tensor."""
        return self._tables.beside(beside)

    def count(self, **solves: int) -> None:
        """Add to the counter."""
        for name, n in solves.items():
            setattr(self._stats, name, getattr(self._stats, name) + n)


def elliptic_operator(mesh: Mesh, degree: int = 1, **settings: Any) -> EllipticOperator:
    """`EllipticOperator(mesh, degree, **settings)`, named as in `sciprob.engines.fenicsx`."""
    return EllipticOperator(mesh, degree, **settings)
