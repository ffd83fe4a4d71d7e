"""Tangent and adjoint of a discrete march: one sweep forward, one backward, the same matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sciprob.spaces.mesh import Floats

if TYPE_CHECKING:
    from sciprob.engines.fenicsx_march import March
    from sciprob.engines.fenicsx_trajectory import Trajectory


class LinearisedMarch:
    """J = d(outputs)/dm along one trajectory; blocks of directions share the factorisations.

    With A, B, C, G the derivatives of F_n by U_n, U_{n-1}, U_{n-2} and m on free rows f, and g the
    given values on the others D, a tangent step solves

        A_f dU_n = -(B dU_{n-1} + C dU_{n-2} + G dm)_f,    dU_n|_D = g'(m) dm,

    and the adjoint sweep runs through the transposes of the same matrices in reverse order.

    Args:
        march: The discrete map.
        trajectory: Its states at the point.
    """

    def __init__(self, march: March, trajectory: Trajectory) -> None:
        self._march, self._trajectory = march, trajectory
        self._dofs = march.dofs

    def tangent(self, dm: Floats) -> Floats:
        """J dm, `(K, *domain)` -> `(K, *codomain)`. Collective."""
        march, k = self._march, len(dm)
        flat = dm.reshape(k, -1)
        start = march.equation.initial_tangent(flat)
        old = [start, None]  # dU_{n-1}, dU_{n-2}; None is zero
        recorded: dict[int, Floats] = {0: np.zeros((k, self._dofs.space.size)) if start is None else start}
        for step in march.steps:
            slot, coupling = march.linearised_step(self._trajectory, step)
            rhs = np.zeros((self._dofs.owned, k))
            for matrix, du in zip(slot.coupling, old, strict=False):
                if du is not None:
                    rhs -= matrix @ du.T
            if coupling is not None:
                rhs -= coupling @ flat.T
            rhs[march.forms.fixed_rows] = 0.0
            given = march.equation.given_derivative(step)
            if given is not None:
                rhs[march.forms.fixed_rows] = given[march.forms.fixed_place] @ flat.T
            du = self._dofs.gather(slot.factorisation.solve(rhs))
            if step.number in march.outputs:
                recorded[step.number] = du
            old = [du, old[0]]
        outputs = np.stack([recorded[n] for n in march.outputs], axis=1)
        return outputs.reshape(k, *march.codomain.shape)

    def adjoint(self, v: Floats) -> Floats:
        """J^T v, `(K, *codomain)` -> `(K, *domain)`. Collective."""
        march, k, n_states = self._march, len(v), self._dofs.space.size
        v = v.reshape(k, len(march.outputs), n_states)
        seed = {n: v[:, i] for i, n in enumerate(march.outputs)}
        gradient = np.zeros((k, march.domain.size))  # this process's part
        pending = [np.zeros((k, n_states)), np.zeros((k, n_states))]  # cotangents of U_n and U_{n-1}, complete
        for step in reversed(march.steps):
            slot, coupling = march.linearised_step(self._trajectory, step)
            w = pending[0] + seed.get(step.number, 0.0)
            multiplier = slot.factorisation.solve(w.T[self._dofs.owned_canonical], transpose=True)
            given = march.equation.given_derivative(step)
            if given is not None:
                gradient += multiplier[march.forms.fixed_rows].T @ given[march.forms.fixed_place]
            multiplier[march.forms.fixed_rows] = 0.0
            if coupling is not None:
                gradient -= (coupling.T @ multiplier).T
            pending = [pending[1], np.zeros((k, n_states))]
            for level, matrix in enumerate(slot.coupling):
                pending[level] = pending[level] - self._transposed(matrix, multiplier)
        gradient = self._dofs.sum(gradient)
        if march.equation.initial_tangent(gradient[:0]) is not None:
            gradient += march.equation.initial_adjoint(pending[0] + seed.get(0, 0.0))
        return gradient.reshape(k, *march.domain.shape)

    def _transposed(self, matrix: Any, multiplier: Floats) -> Floats:
        """Transpose of an earlier state's matrix, summed over processes."""
        return self._dofs.sum(np.ascontiguousarray((matrix.T @ multiplier).T))
