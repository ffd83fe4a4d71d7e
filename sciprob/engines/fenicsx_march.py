"""Implicit time steps on finite elements: the discrete map from an unknown to a trajectory.

With U_n the nodal values of the state at step n, the scheme is F_n(U_n, U_{n-1}, U_{n-2}; m) = 0 on
free degrees of freedom and U_n = g_n(m) on the others. A steady problem is one step without memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from sciprob.engines.fenicsx_equation import Equation
from sciprob.engines.fenicsx_linear import (
    Factorisation,
    default_options,
    groups_of_equal_rows,
    key_of,
    unique_prefix,
)
from sciprob.engines.fenicsx_newton import Newton
from sciprob.engines.fenicsx_schemes import Step
from sciprob.engines.fenicsx_step_forms import StepForms, new_matrix
from sciprob.engines.fenicsx_store import Slot, SlotStore
from sciprob.engines.fenicsx_sweeps import LinearisedMarch
from sciprob.engines.fenicsx_trajectory import Trajectory
from sciprob.errors import ConfigError, ConvergenceError, DataError
from sciprob.spaces import Space
from sciprob.spaces.mesh import Floats

Store = Literal["all"] | int


class March:
    """The map m -> states at the output steps: a `HostSolver` with tangent, adjoint and `linearise`.

    Tangent and adjoint are those of the discrete scheme, transposes of each other to round-off. The
    adjoint needs the states of all steps; recent trajectories are kept.

    Args:
        equation: The equation.
        codomain: Space of the outputs, `(n_outputs, *state)`, or `(*state)` for a steady problem.
        steps: The time steps.
        outputs: Numbers of the steps that are returned; 0 is the initial state.
        tolerance: Newton's method stops when a step is this small relative to the state.
        max_iterations: Of Newton's method in one step.
        store: `"all"`: keep the states of every step; k: every k-th, the others are computed again
            (bit for bit) in tangents and adjoints, k states at a time.
        cache_size: Trajectories kept; default 8, fewer beyond 256 MB.
        petsc_options: Of the linear solver, default a direct one (MUMPS).

    Raises:
        ConfigError: If `store` is neither.
    """

    def __init__(
        self,
        equation: Equation,
        codomain: Space,
        steps: Sequence[Step],
        outputs: Sequence[int],
        *,
        tolerance: float = 1e-10,
        max_iterations: int = 30,
        store: Store = "all",
        cache_size: int | None = None,
        petsc_options: Mapping[str, Any] | None = None,
    ) -> None:
        if store != "all" and not (isinstance(store, int) and store >= 1):
            message = f"`store` should be 'all' or a positive number of steps, got {store!r}."
            raise ConfigError(message)
        self.domain, self.codomain = equation.unknown.space, codomain
        self.equation, self.steps, self.outputs = equation, list(steps), list(outputs)
        self.dofs = equation.dofs
        self.forms = StepForms(equation, self.steps)
        self._every = len(self.steps) + 1 if store == "all" else store
        self._keeps_all = store == "all"
        options = dict(petsc_options) if petsc_options is not None else default_options()
        self._slots = self._new_store(options)
        self._newton = self._new_newton(tolerance, max_iterations, options)
        self._factorisations = 0
        kept = 1 + len(self.steps) * (1 if self._keeps_all else 2 / max(2, self._every))
        room = int(256e6 / (8 * self.dofs.space.size * kept))
        self._room = cache_size if cache_size is not None else min(8, max(1, room))
        self._recent: OrderedDict[bytes, Trajectory] = OrderedDict()

    def _new_store(self, options: Mapping[str, Any]) -> SlotStore:
        """Factorisations of the sweeps; knows the form but not the engine, so that no cycle keeps them alive."""
        form, comm, prefix = self.forms.jacobian, self.dofs.comm, unique_prefix()
        most = 4 if self.equation.linear else min(64, len(self.steps))
        size = min(most, max(2, 400_000 // self.dofs.space.size))
        return SlotStore(size, lambda: Factorisation(new_matrix(form), comm, prefix, options), comm)

    def _new_newton(self, tolerance: float, max_iterations: int, options: Mapping[str, Any]) -> Newton | None:
        """None for linear equations, which take one solve with a stored matrix."""
        if self.equation.linear:
            return None
        working = Factorisation(new_matrix(self.forms.jacobian), self.dofs.comm, unique_prefix(), options)
        return Newton(self.forms, self.dofs, working, tolerance, max_iterations)

    @property
    def factorisations(self) -> int:
        """Matrices factorised so far."""
        return self._factorisations + (self._newton.factorisations if self._newton is not None else 0)

    # --- the host solver -------------------------------------------------------------------------

    def solve(self, m: Floats) -> Floats:
        """Outputs of a batch, `(B, *domain)` -> `(B, *codomain)`.

        Raises:
            ConvergenceError: If a sample cannot be solved; names sample and time.
        """
        rows = [self.trajectory(i, row).outputs for i, row in enumerate(self._replicated(m))]
        return np.stack(rows).reshape(len(m), *self.codomain.shape)

    def tangent(self, m: Floats, u: Floats, dm: Floats) -> Floats:
        """J(m_i) dm_i row by row; equal m share one sweep."""
        m, result = self._replicated(m), np.empty((len(dm), *self.codomain.shape))
        for rows in reversed(groups_of_equal_rows(m)):  # the cache still has the last ones
            result[rows] = self._linearised(int(rows[0]), m[rows[0]]).tangent(dm[rows])
        return result

    def adjoint(self, m: Floats, u: Floats, v: Floats) -> Floats:
        """J(m_i)^T v_i row by row; equal m share one sweep."""
        m, result = self._replicated(m), np.empty((len(v), *self.domain.shape))
        for rows in reversed(groups_of_equal_rows(m)):
            result[rows] = self._linearised(int(rows[0]), m[rows[0]]).adjoint(v[rows])
        return result

    def linearise(self, m: Floats, u: Floats) -> LinearisedMarch:
        """Derivative at one unknown; its trajectory is kept as long as it lives."""
        return self._linearised(0, self._replicated(m[None])[0])

    def _linearised(self, i: int, m: Floats) -> LinearisedMarch:
        return LinearisedMarch(self, self.trajectory(i, m))

    def _replicated(self, m: Floats) -> Floats:
        """The unknown of process 0 on all processes, one row per sample."""
        m = np.array(m, dtype=np.float64).reshape(len(m), -1)
        if not np.isfinite(m).all():
            message = f"`{self.domain.name}` should be finite; check what produced it."
            raise DataError(message)
        if self.dofs.comm.size > 1:
            self.dofs.comm.Bcast(m)
        return m

    # --- trajectories ----------------------------------------------------------------------------

    def trajectory(self, i: int, m: Floats) -> Trajectory:
        """States of one sample, from the cache if they are there. Collective."""
        key = key_of(m)
        found = self._recent.get(key)
        if found is None:
            self.equation.check(m)
            found = self._run(Trajectory(i, np.array(m), key))
            while len(self._recent) >= self._room:
                self._recent.popitem(last=False)
            self._recent[key] = found
        self._recent.move_to_end(key)
        return found

    def state(self, run: Trajectory, n: int) -> Floats:
        """U_n, computed again from the last kept step if need be. Collective."""
        found = run.get(n)
        if found is None:
            start = n - n % self._every
            before, earlier = run.kept[start], run.kept[max(start - 1, 0)]
            run.segment = {}
            self._restart()
            for k in range(start + 1, min(start + self._every, len(self.steps) + 1)):
                before, earlier = self._advance(run, k, before, earlier), before
                run.segment[k] = before
            found = run.segment[n]
        return found

    def _run(self, run: Trajectory) -> Trajectory:
        before = earlier = self.equation.initial(run.m)
        run.kept[0] = before
        recorded = {0: before}
        for n in range(1, len(self.steps) + 1):
            if n == 1 or (n - 1) % self._every == 0:  # so that segments can be computed again bit for bit
                self._restart()
            before, earlier = self._advance(run, n, before, earlier), before
            if self._keeps_all or n % self._every in (0, self._every - 1):
                run.kept[n] = before
            if n in self.outputs:
                recorded[n] = before
        run.outputs = np.stack([recorded[n] for n in self.outputs])
        return run

    def _restart(self) -> None:
        if self._newton is not None:
            self._newton.restart()

    def _advance(self, run: Trajectory, n: int, before: Floats, earlier: Floats) -> Floats:
        """U_n from U_{n-1} and U_{n-2}, starting from their linear extrapolation."""
        step = self.steps[n - 1]
        guess = 2 * before - earlier if n > 2 else before.copy()
        guess[self.equation.fixed] = self.equation.given(step, run.m)
        self.forms.load(run.m, step, guess, before, earlier)
        u, owned = self.forms.u, self.dofs.owned
        try:
            if self._newton is None:
                matrix = self._matrix(run, step).factorisation
                u.x.array[:owned] += matrix.solve(-self.forms.residual()[:, None])[:, 0]
            else:
                self._newton.solve(step.kind)
        except ConvergenceError as error:
            raise self._failure(run, step, error) from error
        state: Floats = self.dofs.gather(u.x.array[:owned, None])[0]
        return state

    # --- matrices --------------------------------------------------------------------------------

    def linearised_step(self, run: Trajectory, step: Step) -> tuple[Slot, Any]:
        """Factorised dF_n/dU_n with [dF_n/dU_{n-1}, dF_n/dU_{n-2}], and dF_n/dm. Collective."""
        states = [self.state(run, max(step.number - level, 0)) for level in (2, 1, 0)]
        self.forms.load(run.m, step, *reversed(states))
        slot = self._matrix(run, step)
        if slot.coupling is None:
            slot.coupling = self.forms.old_derivatives()
        return slot, self.equation.unknown.coupling()

    def _matrix(self, run: Trajectory, step: Step) -> Slot:
        """Slot of a step's matrix at the loaded states: one per step, or per kind of step if F is linear."""
        key = step.kind if self.equation.linear else repr(step.number).encode()
        if not self.equation.linear or self.equation.matrix_depends_on_unknown:
            key = run.key + key
        slot = self._slots.get(key)
        if slot is None:
            slot = self._slots.new()
            try:
                self.forms.factorise(slot.factorisation)
            except ConvergenceError:
                self._slots.give_back(slot)
                raise
            self._factorisations += 1
            self._slots.put(key, slot)
        return slot

    def _failure(self, run: Trajectory, step: Step, error: ConvergenceError) -> ConvergenceError:
        norms = ", ".join(f"{norm:.2e}" for norm in error.history)
        message = (
            f"sample {run.sample} could not be solved at time {step.time:g}: {str(error).rstrip('.')}; residual norms "
            f"{norms}; {self.domain.name} ranges over [{run.m.min():.3g}, {run.m.max():.3g}], so check the prior, take "
            "smaller steps, or use `on_failure='nan'`."
        )
        return ConvergenceError(message, sample=run.sample, history=error.history)
