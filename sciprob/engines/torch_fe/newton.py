"""Newton's method for a batch of samples: all take their steps together, each stops by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciprob.engines.torch_fe.discretisation import Discretisation
from sciprob.engines.torch_fe.system import LinearSolver, System, linear_failure
from sciprob.engines.torch_fe.weak_form import conductivity, matrix_values, residual

_INNER = 1e-5  # relative accuracy of a step: the last one is below the tolerance, its error far below
_HALVINGS = 12


@dataclass(frozen=True)
class Failure:
    """Why a sample has no state.

    Attributes:
        sample: Its number.
        reason: Half a sentence.
        history: Residual norms.
    """

    sample: int
    reason: str
    history: tuple[float, ...]


@dataclass
class States:
    """Result for a batch.

    Attributes:
        u: States `(B, N)`, NaN where they failed.
        failures: Of the samples that did.
        factorisations: Preconditioners built, one per sample and step.
    """

    u: Tensor
    failures: list[Failure] = field(default_factory=list)
    factorisations: int = 0


@dataclass(frozen=True)
class Newton:
    """Solves F(u, m) = 0, from the given boundary values; one step if the problem is linear.

    Args:
        reaction: c.
        tolerance: Stop when a step is this small relative to u.
        max_iterations: After which a sample has failed.
        linear: Settings of the linear solves.
    """

    reaction: float
    tolerance: float
    max_iterations: int
    linear: LinearSolver

    def solve(self, t: Discretisation, m: Tensor) -> States:
        """States of `m (B, P)`."""
        states = States(m.new_full((len(m), len(t.lift)), torch.nan))
        norms: list[list[float]] = [[] for _ in m]
        active, k, u = torch.arange(len(m), device=m.device), conductivity(t, m), t.lift.expand(len(m), -1)
        force = self.force(t, k, u)
        for _ in range(self.max_iterations):
            for i, norm in zip(active.tolist(), force.norm(dim=1).tolist(), strict=True):
                norms[i].append(norm)
            step, lost = self._step(t, k, u, force, active, states)
            done = ~lost & self._is_last(step, u + step)
            states.u[active[done]] = (u + step)[done]
            left = ~done & ~lost
            active, k, u, step, force = (x[left] for x in (active, k, u, step, force))
            if not len(active):
                return states
            u, force, found = self.line_search(t, k, u, step, force)
            self._fail(states, active[~found], "Newton's method found no step that reduces the residual", norms)
            active, k, u, force = (x[found] for x in (active, k, u, force))
        self._fail(states, active, f"Newton's method did not converge in {self.max_iterations} iterations", norms)
        return states

    def force(self, t: Discretisation, k: Tensor, u: Tensor) -> Tensor:
        """-F, zero where u is given."""
        inner = -residual(t, k, u, self.reaction)[:, t.free]
        return torch.zeros_like(u).index_copy(1, t.free, inner)

    def _is_last(self, step: Tensor, u: Tensor) -> Tensor:
        """Whether an iteration ends with this step `(B,)`."""
        small: Tensor = step.norm(dim=1) <= self.tolerance * u.norm(dim=1)
        return small | (self.reaction == 0.0)

    def _step(
        self, t: Discretisation, k: Tensor, u: Tensor, force: Tensor, active: Tensor, states: States
    ) -> tuple[Tensor, Tensor]:
        """Newton's steps `(B, N)`, and which samples have none."""
        system = System(t, matrix_values(t, k, u, self.reaction), self.linear)
        states.factorisations += len(u)
        solution = system.solve(force[:, :, None], tolerance=None if self.reaction == 0.0 else _INNER)
        lost = solution.failed[:, 0]
        for row in lost.nonzero().flatten().tolist():
            reason, history = linear_failure(solution), tuple(solution.history[:, row, 0].tolist())
            states.failures.append(Failure(int(active[row]), reason, history))
        return solution.x[:, :, 0], lost

    def line_search(
        self, t: Discretisation, k: Tensor, u: Tensor, step: Tensor, force: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Halve each step until the residual falls: new states, their residuals, and for whom it did."""
        norm, found = force.norm(dim=1), torch.zeros(len(u), dtype=torch.bool, device=u.device)
        length, next_u, next_force = 1.0, u, force
        for _ in range(_HALVINGS):
            trial = u + length * step
            force_there = self.force(t, k, trial)
            better = ~found & (force_there.norm(dim=1) <= (1 - 1e-4 * length) * norm)  # false for NaN
            next_u = torch.where(better[:, None], trial, next_u)
            next_force = torch.where(better[:, None], force_there, next_force)
            found = found | better
            if bool(found.all()):
                break
            length /= 2
        return next_u, next_force, found

    @staticmethod
    def _fail(states: States, samples: Tensor, reason: str, norms: list[list[float]]) -> None:
        states.failures += [Failure(i, reason, tuple(norms[i])) for i in samples.tolist()]
