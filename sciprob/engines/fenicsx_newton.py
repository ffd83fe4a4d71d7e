"""Newton's method in one time step, with a matrix that is kept while it serves."""

from __future__ import annotations

import numpy as np

from sciprob.engines.fenicsx_linear import Factorisation
from sciprob.engines.fenicsx_mesh import DofMap
from sciprob.engines.fenicsx_step_forms import StepForms
from sciprob.errors import ConvergenceError
from sciprob.spaces.mesh import Floats

_CONTRACTION = 0.2


class Newton:
    """Solves F_n(U_n) = 0 from the loaded guess. Collective.

    The factorised Jacobian of the last iteration or time step is used again as long as its steps
    shrink by a factor 5; else it is made anew at the current state. Steps that do not reduce the
    residual are halved.

    Args:
        forms: Assembles residual and Jacobian.
        dofs: Numbering of the state.
        factorisation: Working storage.
        tolerance: Stop when a step is this small relative to the state.
        max_iterations: Most iterations in one step.

    Attributes:
        factorisations: Made so far.
    """

    def __init__(
        self, forms: StepForms, dofs: DofMap, factorisation: Factorisation, tolerance: float, max_iterations: int
    ) -> None:
        self._forms, self._dofs = forms, dofs
        self._factorisation = factorisation
        self._tolerance, self._max_iterations = tolerance, max_iterations
        self._kind = b""  # coefficients of the step the kept matrix belongs to; empty if there is none
        self.factorisations = 0

    def restart(self) -> None:
        """Forget the kept matrix."""
        self._kind = b""

    def solve(self, kind: bytes) -> None:
        """Move U_n to the solution; `kind` tells steps with other coefficients apart.

        Raises:
            ConvergenceError: If there is no solution near the guess; carries the residual norms.
        """
        history: list[float] = []
        try:
            self._iterate(kind, history)
        except ConvergenceError as error:
            self.restart()
            raise ConvergenceError(str(error), history=tuple(history)) from error

    def _iterate(self, kind: bytes, history: list[float]) -> None:
        residual, last = self._forms.residual(), np.inf
        for _ in range(self._max_iterations):
            history.append(self._norm(residual))
            fresh = self._kind != kind
            if fresh:
                self._forms.factorise(self._factorisation)
                self._kind, self.factorisations = kind, self.factorisations + 1
            step = self._factorisation.solve(-residual[:, None])[:, 0]
            size = self._norm(step)
            if not fresh and size > _CONTRACTION * last:
                self.restart()
                continue
            if size <= self._tolerance * self._norm(self._owned() + step):
                self._set(self._owned() + step)
                return
            searched = self._line_search(step, history[-1], halvings=12 if fresh else 1)
            if searched is not None:
                residual, last = searched, size
            elif fresh:
                message = "Newton's method found no step that reduces the residual"
                raise ConvergenceError(message)
            else:
                self.restart()
        message = f"Newton's method did not converge in {self._max_iterations} iterations"
        raise ConvergenceError(message)

    def _line_search(self, step: Floats, norm: float, halvings: int) -> Floats | None:
        """Halve the step until the residual falls; its new value, or None at the old state if it never does."""
        start, length = self._owned().copy(), 1.0
        for _ in range(halvings):
            self._set(start + length * step)
            residual = self._forms.residual()
            noise = length * self._norm(step) <= 1e-7 * self._norm(start)  # the residual is round-off
            if noise or self._norm(residual) <= (1.0 - 1e-4 * length) * norm:  # false for NaN
                return residual
            length /= 2
        self._set(start)
        return None

    def _owned(self) -> Floats:
        owned: Floats = self._forms.u.x.array[: self._dofs.owned]
        return owned

    def _set(self, owned: Floats) -> None:
        self._forms.u.x.array[: self._dofs.owned] = owned
        self._forms.u.x.scatter_forward()

    def _norm(self, owned: Floats) -> float:
        return float(np.sqrt(self._dofs.comm.allreduce(float(owned @ owned))))
