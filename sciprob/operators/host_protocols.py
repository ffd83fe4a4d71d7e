"""What an engine on the host implements: plain functions of float64 numpy arrays."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sciprob.spaces import Space

Floats = NDArray[np.float64]


class HostSolver(Protocol):
    """A nonlinear solver on float64 arrays with one batch axis. Arguments are read-only.

    `tangent`, `adjoint` and `linearise` (the protocols below) are optional; an operator declares
    what its solver has. A solver may count its matrix factorisations in an integer attribute
    `factorisations`.
    """

    @property
    def domain(self) -> Space:
        """Space of m."""
        ...

    @property
    def codomain(self) -> Space:
        """Space of u."""
        ...

    def solve(self, m: Floats) -> Floats:
        """Full state: `m (B, *domain)` -> `u (B, *codomain)`; raises `ConvergenceError` naming the sample."""
        ...


@runtime_checkable
class SupportsTangent(Protocol):
    """Has the tangent action."""

    def tangent(self, m: Floats, u: Floats, dm: Floats) -> Floats:
        """Row by row J(m_i) dm_i, `(B, *codomain)`, where u = S(m)."""
        ...


@runtime_checkable
class SupportsAdjoint(Protocol):
    """Has the adjoint action."""

    def adjoint(self, m: Floats, u: Floats, v: Floats) -> Floats:
        """Row by row J(m_i)^T v_i, `(B, *domain)`, where u = S(m)."""
        ...


class PointLinearisation(Protocol):
    """Derivative at one point, factorised; both actions on one leading axis of directions."""

    def tangent(self, dm: Floats) -> Floats:
        """J dm, `(K, *domain)` -> `(K, *codomain)`."""
        ...

    def adjoint(self, v: Floats) -> Floats:
        """J^T v, `(K, *codomain)` -> `(K, *domain)`."""
        ...


@runtime_checkable
class SupportsLinearise(Protocol):
    """Can keep the factorisation at a point for as long as the result is held."""

    def linearise(self, m: Floats, u: Floats) -> PointLinearisation:
        """Derivative at one point `m (*domain)` with its state `u (*codomain)`."""
        ...


class LinearHostSolver(Protocol):
    """A linear solver on float64 arrays with one batch axis. Arguments are read-only."""

    @property
    def domain(self) -> Space:
        """Space of m."""
        ...

    @property
    def codomain(self) -> Space:
        """Space of u."""
        ...

    def apply(self, m: Floats) -> Floats:
        """A m, `(B, *domain)` -> `(B, *codomain)`."""
        ...

    def transpose(self, v: Floats) -> Floats:
        """A^T v, `(B, *codomain)` -> `(B, *domain)`."""
        ...
