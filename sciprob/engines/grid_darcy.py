"""Stationary flow on a cell-centred grid: -div(exp(m) grad u) = f with u = 0 on the boundary."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciprob.engines.grid_flux import divergence_of_flux, inverse_symbol, odd_filter
from sciprob.errors import ConfigError, ConvergenceError
from sciprob.operators.base import ForwardOperator, event_space
from sciprob.operators.linear import ExplicitLinearMap, LinearMap
from sciprob.spaces import GridSpace

_ITERATIONS = 500


class CellDarcy(ForwardOperator):
    """Log-conductivity to state, m -> u, by cell-centred finite volumes in 1 to 3 dimensions.

    Fluxes use the harmonic mean of exp(m) across a face and half a cell at the boundary; the scheme
    is of second order for smooth m. Each system is solved by conjugate gradients, preconditioned by
    exp(-m/2) Laplace^{-1} exp(-m/2) with fast sine transforms, so that the number of iterations
    depends on the roughness of m but hardly on the grid, to 50 times the rounding unit of the dtype
    (residual relative to f). Derivatives of any order come from the implicit function theorem: one
    more solve per direction or co-vector, no graph of the iteration.

    Args:
        grid: Cell-centred grid.
        source: f, `(*grid.shape)` or a number, in the unit of u over length squared.

    Raises:
        ConfigError: If the grid is not cell-centred.
        ConvergenceError: On use, if the iteration does not converge (conductivities whose ratio exceeds what
            the dtype resolves); names the sample.

    Sources: LeVeque, Finite Difference Methods (2007), section 2.15; Concus and Golub, SIAM J. Numer.
    Anal. 10 (1973), for the preconditioner.
    """

    source: Tensor
    symbol: Tensor

    def __init__(self, grid: GridSpace, source: Tensor | float = 1.0) -> None:
        if grid.centring != "cell":
            message = f"CellDarcy needs a cell-centred grid, got centring {grid.centring!r}."
            raise ConfigError(message)
        state = GridSpace(grid.shape, "u", grid.dims, lower=grid.lower, upper=grid.upper, centring="cell")
        super().__init__(grid, state)
        given = source if isinstance(source, Tensor) else torch.tensor(source, dtype=torch.float64)
        self.register_buffer("source", given.expand(grid.shape).clone())
        self.register_buffer("symbol", inverse_symbol(grid))

    def _apply_batched(self, m: Any) -> Any:
        return _Solve.apply(m, self.source.to(m.dtype).expand(m.shape), self, "forward")

    def linearise(self, m: Tensor) -> tuple[Tensor, LinearMap]:
        """State and derivative at `m`; the derivative keeps the state."""
        batch = self.domain.batch_shape(m)
        flat = self.domain.merge(m.detach())
        u = self._apply_batched(flat)
        return self.codomain.split(u, batch), DarcyDerivative(self, batch, flat, u)

    def flux(self, m: Tensor, u: Tensor) -> Tensor:
        """A(m) u = -div(exp(m) grad u) on `(B, *grid.shape)`."""
        return divergence_of_flux(m, u, self.domain.spacing)

    def solve(self, m: Tensor, b: Tensor, kind: str) -> Tensor:
        """A(m)^{-1} b on `(B, *grid.shape)`; `kind` names the counter of solves."""
        setattr(self._stats, kind, getattr(self._stats, kind) + len(b))
        root = (-m / 2).exp()
        spectrum = self.symbol.to(m.dtype)
        return _conjugate_gradients(
            lambda x: self.flux(m, x), b, lambda r: root * odd_filter(root * r, spectrum), self.domain.name
        )


class DarcyDerivative(ExplicitLinearMap):
    """J(m) dm = -A(m)^{-1} A'(m)[dm] u(m) at a batch of points; symmetric A makes the adjoint one solve too.

    Args:
        operator: The operator; it counts the solves.
        batch: Batch axes of the points, part of the event here.
        m: Points `(B, *domain)`.
        u: Their states.
    """

    def __init__(self, operator: CellDarcy, batch: torch.Size, m: Tensor, u: Tensor) -> None:
        super().__init__(event_space(operator.domain, batch), event_space(operator.codomain, batch))
        self._solve, self._flux = operator.solve, operator.flux  # bound methods, so that it is no child module
        self._m, self._u = m, u

    def _matvec(self, x: Tensor) -> Tensor:
        m, u, dm = self._rows(x)
        return -self._solve(m, flux_tangent(self._flux, m, u, dm), "tangent").reshape(x.shape)

    def _rmatvec(self, y: Tensor) -> Tensor:
        m, u, v = self._rows(y)
        return -flux_adjoint(self._flux, m, u, self._solve(m, v, "adjoint")).reshape(y.shape)

    def _rows(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Every direction with its point: `(K B, *domain)` each."""
        k, event = len(w), self._m.shape[1:]
        m, u = (z.repeat(k, *(1 for _ in event)) for z in (self._m, self._u))
        return m, u, w.reshape(-1, *event)


class _Solve(torch.autograd.Function):
    """(m, b) -> A(m)^{-1} b as one differentiable function."""

    @staticmethod
    def forward(m: Tensor, b: Tensor, op: CellDarcy, kind: str) -> Tensor:
        return op.solve(m, b, kind)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        m, _, ctx.op, _ = inputs
        ctx.save_for_backward(m, output)
        ctx.save_for_forward(m, output)

    @staticmethod
    def backward(ctx: Any, *grad: Any) -> Any:
        m, u = ctx.saved_tensors
        multiplier = _Solve.apply(m, grad[0], ctx.op, "adjoint")
        return -flux_adjoint(ctx.op.flux, m, u, multiplier), multiplier, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        m, u = ctx.saved_tensors
        dm, db = tangents[0], tangents[1]
        b = torch.zeros_like(u) if db is None else db
        if dm is not None:
            b = b - flux_tangent(ctx.op.flux, m, u, dm)
        return _Solve.apply(m, b, ctx.op, "tangent")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], m: Tensor, b: Tensor, op: CellDarcy, kind: str) -> Any:
        m, b = (
            x.expand(info.batch_size, *x.shape) if axis is None else x.movedim(axis, 0)
            for x, axis in zip((m, b), in_dims, strict=False)
        )
        result = _Solve.apply(m.flatten(0, 1), b.flatten(0, 1), op, kind)
        return result.unflatten(0, b.shape[:2]), 0


def flux_tangent(flux: Callable[[Tensor, Tensor], Tensor], m: Tensor, u: Tensor, dm: Tensor) -> Tensor:
    """A'(m)[dm] u."""
    tangent: Tensor = torch.func.jvp(lambda z: flux(z, u), (m,), (dm,))[1]
    return tangent


def flux_adjoint(flux: Callable[[Tensor, Tensor], Tensor], m: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Gradient of <v, A(m) u> with respect to m."""
    gradient: Tensor = torch.func.vjp(lambda z: flux(z, u), m)[1](v)[0]
    return gradient


def _conjugate_gradients(
    matrix: Callable[[Tensor], Tensor], b: Tensor, precondition: Callable[[Tensor], Tensor], name: str
) -> Tensor:
    """Solve row by row; rows that have converged stand still, so that a batch gives the results of its members."""
    if len(b) == 0:
        return b.clone()
    x, r = torch.zeros_like(b), b.clone()
    z = precondition(r)
    p, rz = z.clone(), _dot(r, z)
    limit = _dot(b, b).sqrt() * (50 * torch.finfo(b.dtype).eps)
    history: list[float] = []
    for _ in range(_ITERATIONS):
        norm = _dot(r, r).sqrt()
        active = ~(norm <= limit)
        if not bool(active.any()):
            return x
        history.append(float(norm.max()))
        if not math.isfinite(history[-1]):
            break
        q = matrix(p)
        step = torch.where(active, rz / _dot(p, q), 0.0)
        x, r = x + step * p, r - step * q
        z = precondition(r)
        previous, rz = rz, torch.where(active, _dot(r, z), rz)
        p = torch.where(active, z + (rz / previous) * p, p)
    worst = int((~(norm <= limit)).flatten().nonzero()[0])
    message = (
        f"the state of sample {worst} of `{name}` was not found in {len(history)} iterations; its exp(m) varies too "
        f"much for {b.dtype}, use float64 or a smaller std of the prior."
    )
    raise ConvergenceError(message, sample=worst, history=tuple(history))


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner product of each row, with axes kept."""
    total: Tensor = (x * y).sum(tuple(range(1, x.ndim)), keepdim=True)
    return total
