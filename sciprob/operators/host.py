"""Engines on the host (numpy, PETSc, remote codes) as differentiable operators.

The boundary between torch and the engine returns the full state u, because autograd can save only
inputs and outputs, and (m, u) determine the linearisation. Observe the state with a torch operator
after it: `PointObservation(op.codomain, points) @ op`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.errors import ConvergenceError, HostTransferWarning, NonFiniteError, UnsupportedProblemError
from sciprob.operators.base import Capability, ForwardOperator, event_space
from sciprob.operators.counting import SolveCounter
from sciprob.operators.host_autograd import differentiable_solve
from sciprob.operators.host_protocols import (
    Floats,
    HostSolver,
    LinearHostSolver,
    PointLinearisation,
    SupportsAdjoint,
    SupportsLinearise,
    SupportsTangent,
)
from sciprob.operators.linear import ExplicitLinearMap, LinearMap
from sciprob.spaces import Space

_LOCK = threading.RLock()  # one for all engines: autograd has several threads, PETSc is not thread-safe


class HostBridge:
    """Moves tensors to the host and back, once per call, in float64, counting what happens.

    Args:
        host: The engine.
        stats: Counter of the operator it works for.
    """

    def __init__(self, host: Any, stats: SolveCounter) -> None:
        self.host = host
        self.stats = stats
        self._warned = False

    def run(self, function: Callable[..., Floats], *tensors: Tensor) -> Tensor:
        """`function` of float64 host copies; the result has dtype and device of the last tensor."""
        like = tensors[-1]
        with _LOCK:
            arrays = [self._to_host(x) for x in tensors]
            before = getattr(self.host, "factorisations", 0)
            try:
                result = torch.tensor(function(*arrays), dtype=like.dtype)
            finally:
                self.stats.factorisations += getattr(self.host, "factorisations", 0) - before
            if like.device.type != "cpu":
                self.stats.bytes_moved += result.nbytes
            return result.to(like.device)

    def _to_host(self, x: Tensor) -> Floats:
        if x.device.type != "cpu":
            self.stats.bytes_moved += x.nbytes
            if not self._warned:
                self._warned = True
                message = f"{type(self.host).__name__} runs on the CPU; tensors on {x.device} are copied at each call."
                warnings.warn(HostTransferWarning(message), stacklevel=2)
        array: Floats = x.detach().cpu().to(torch.float64).contiguous().numpy()
        array.setflags(write=False)
        return array


class HostOperator(ForwardOperator):
    """A nonlinear host solver as an operator: reverse mode, forward mode and `vmap`.

    u = S(m); one transfer for a whole batch, float64 inside, dtype and device of `m` outside, so
    float32 input gives float32-accurate states and gradients. A batch is solved sample by sample
    in the engine. Second derivatives raise `NotImplementedError`. Calls are serialised by a lock.

    Args:
        host: The solver; its spaces are the operator's.
        on_failure: `"raise"`: a sample that cannot be solved raises; `"nan"`: its state and its
            derivatives are NaN, the other samples are unaffected.

    Raises:
        UnsupportedProblemError: For another `on_failure`; on use, for an action the solver lacks.
        NonFiniteError: On use, if a sample of `m` is not finite (unless `on_failure="nan"`).
        ConvergenceError: On use, if a solve fails (unless `on_failure="nan"`); names the sample.
    """

    def __init__(self, host: HostSolver, *, on_failure: str = "raise") -> None:
        super().__init__(host.domain, host.codomain)
        if on_failure not in ("raise", "nan"):
            message = f"`on_failure` should be 'raise' or 'nan', got {on_failure!r}."
            raise UnsupportedProblemError(message)
        self.host = host
        self.on_failure = on_failure
        self._bridge = HostBridge(host, self._stats)

    def _apply_batched(self, m: Any) -> Any:
        return differentiable_solve(m, self)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The derivative actions of the solver."""
        tangent = {Capability.JVP} if isinstance(self.host, SupportsTangent) else set()
        adjoint = {Capability.VJP} if isinstance(self.host, SupportsAdjoint) else set()
        return frozenset(tangent | adjoint)

    def linearise(self, m: Tensor) -> tuple[Tensor, LinearMap]:
        """State and derivative at `m`; each point's factorisation lives as long as the derivative.

        Any number of directions then costs block solves only. Samples that failed under
        `on_failure="nan"` cannot be linearised.

        Raises:
            ConvergenceError: If a sample has no state.
        """
        batch = self.domain.batch_shape(m)
        flat = self.domain.merge(m.detach())
        u = self.solve_states(flat)
        lost = (~_finite_rows(u)).nonzero().flatten()
        if len(lost):
            message = f"sample {int(lost[0])} of `{self.domain.name}` has no state to linearise at; leave it out."
            raise ConvergenceError(message, sample=int(lost[0]))
        return self.codomain.split(u, batch), HostDerivative(self, batch, flat, u)

    def solve_states(self, m: Tensor) -> Tensor:
        """States of a batch `(B, *domain)`, without derivatives."""
        good = _finite_rows(m)
        if self.on_failure == "raise" and not bool(good.all()):
            bad = int((~good).nonzero()[0])
            message = f"`{self.domain.name}` should be finite, sample {bad} is not; check what produced it."
            raise NonFiniteError(message)
        u = m.new_full((len(m), *self.codomain.shape), torch.nan)
        self._stats.forward += int(good.sum())
        if bool(good.any()):
            u[good] = self._bridge.run(self._solve_or_nan if self.on_failure == "nan" else self.host.solve, m[good])
        return u

    def _solve_or_nan(self, m: Floats) -> Floats:
        """The whole batch at once, and sample by sample only if that fails."""
        try:
            return self.host.solve(m)
        except ConvergenceError:
            u = np.full((len(m), *self.codomain.shape), np.nan)
            for i in range(len(m)):
                try:
                    u[i] = self.host.solve(m[i : i + 1])[0]
                except ConvergenceError:
                    continue
            return u

    def differentiate(self, m: Tensor, u: Tensor, w: Tensor, *, transpose: bool) -> Tensor:
        """Row by row J w, or J^T w, at the states u = S(m)."""
        action = self._action(transpose)
        out = self.domain if transpose else self.codomain
        good = _finite_rows(u)
        result = w.new_full((len(w), *out.shape), torch.nan)
        self.count(int(good.sum()), transpose)
        if bool(good.any()):
            result[good] = self._bridge.run(action, m[good], u[good], w[good])
        return result

    def _action(self, transpose: bool) -> Callable[[Floats, Floats, Floats], Floats]:
        if transpose and isinstance(self.host, SupportsAdjoint):
            return self.host.adjoint
        if not transpose and isinstance(self.host, SupportsTangent):
            return self.host.tangent
        kind = "adjoint" if transpose else "tangent"
        message = f"{type(self.host).__name__} has no `{kind}`; add it, or use a method without derivatives (pcn)."
        raise UnsupportedProblemError(message)

    def count(self, solves: int, transpose: bool) -> None:
        """Add linearised solves to the counter."""
        self._stats.adjoint += solves if transpose else 0
        self._stats.tangent += 0 if transpose else solves


class HostDerivative(ExplicitLinearMap):
    """Derivative of a `HostOperator` at a batch of points, factorisations kept.

    Its solves are counted by the operator. Built by `HostOperator.linearise`.

    Args:
        operator: The operator.
        batch: Batch axes of the points, part of the event here.
        m: Points `(B, *domain)`.
        u: Their states `(B, *codomain)`.
    """

    def __init__(self, operator: HostOperator, batch: torch.Size, m: Tensor, u: Tensor) -> None:
        super().__init__(event_space(operator.domain, batch), event_space(operator.codomain, batch))
        self._count = operator.count  # bound methods, so that the operator is no child module
        self._bridge = operator._bridge
        self._inner, self._outer = operator.domain, operator.codomain
        self._points: list[PointLinearisation] = []
        self._u = u
        if len(m):
            self._bridge.run(self._prepare, m, u)

    def _prepare(self, m: Floats, u: Floats) -> Floats:
        host = self._bridge.host
        keep = isinstance(host, SupportsLinearise)
        for mi, ui in zip(m, u, strict=True):
            self._points.append(host.linearise(mi, ui) if keep else _Repeated(host, mi.copy(), ui.copy()))
        return u

    def _matvec(self, x: Tensor) -> Tensor:
        return self._act(x, self._inner, self._outer, transpose=False)

    def _rmatvec(self, y: Tensor) -> Tensor:
        return self._act(y, self._outer, self._inner, transpose=True)

    def _act(self, w: Tensor, source: Space, target: Space, *, transpose: bool) -> Tensor:
        k, b = len(w), len(self._points)
        event = (self.domain if transpose else self.codomain).shape
        if k * b == 0:
            return w.new_zeros(k, *event)

        def block(array: Floats) -> Floats:
            parts = [
                p.adjoint(array[:, i]) if transpose else p.tangent(array[:, i]) for i, p in enumerate(self._points)
            ]
            return np.stack(parts, axis=1)

        self._count(k * b, transpose)
        return self._bridge.run(block, w.reshape(k, b, *source.shape)).reshape(k, *event)


class _Repeated:
    """Linearisation of a solver that keeps nothing: the point is handed over at each call."""

    def __init__(self, host: Any, m: Floats, u: Floats) -> None:
        self._host, self._m, self._u = host, m[None], u[None]

    def _repeat(self, k: int) -> tuple[Floats, Floats]:
        return np.repeat(self._m, k, axis=0), np.repeat(self._u, k, axis=0)

    def tangent(self, dm: Floats) -> Floats:
        result: Floats = self._host.tangent(*self._repeat(len(dm)), dm)
        return result

    def adjoint(self, v: Floats) -> Floats:
        result: Floats = self._host.adjoint(*self._repeat(len(v)), v)
        return result


class HostLinearMap(ExplicitLinearMap):
    """A linear host solver as a linear map, with its own exact transpose.

    Args:
        host: The solver; its spaces are the map's.
    """

    def __init__(self, host: LinearHostSolver) -> None:
        super().__init__(host.domain, host.codomain)
        self.host = host
        self._stats.factorisations = int(getattr(host, "factorisations", 0))  # made when the solver was built
        self._bridge = HostBridge(host, self._stats)

    def _matvec(self, x: Tensor) -> Tensor:
        self._stats.forward += len(x)
        return self._bridge.run(self.host.apply, x) if len(x) else x.new_zeros(0, *self.codomain.shape)

    def _rmatvec(self, y: Tensor) -> Tensor:
        self._stats.adjoint += len(y)
        return self._bridge.run(self.host.transpose, y) if len(y) else y.new_zeros(0, *self.domain.shape)


def _finite_rows(x: Tensor) -> Tensor:
    """Which samples are finite, `(B,)`."""
    return torch.isfinite(x).flatten(1).all(-1) if len(x) else torch.ones(0, dtype=torch.bool, device=x.device)
