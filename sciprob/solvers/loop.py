"""The loop over a solver's steps, from a fresh start or from a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from sciprob.errors import ConvergenceError, SciprobError
from sciprob.operators.counting import SolveCounter
from sciprob.random import Streams
from sciprob.solvers.base import Outcome, Status
from sciprob.solvers.checkpoint import load_checkpoint, save_checkpoint
from sciprob.solvers.outputs import summarise, write_outputs
from sciprob.solvers.progress import Progress
from sciprob.solvers.runfolder import RunFolder
from sciprob.solvers.state import check_finite, settle
from sciprob.solvers.stopping import Clock, Interrupts

if TYPE_CHECKING:
    from sciprob.posteriors.base import Posterior
    from sciprob.problems.problem import Problem

Callback = Callable[[int, Any, Mapping[str, float]], None]

_CHECKPOINT_EVERY = 10.0  # seconds
_CHECKPOINT_SHARE = 0.1  # of the run's time at most


class Looped(Protocol):
    """What the loop reads: settings of a run on a problem, or on a family of problems."""

    @property
    def problem(self) -> Any:
        """What the solver's functions get; it has a name."""
        ...

    @property
    def solver(self) -> Any:
        """The method."""
        ...

    @property
    def budget(self) -> float | None:
        """Largest time in seconds."""
        ...

    @property
    def folder(self) -> RunFolder | None:
        """Where checkpoints and log go."""
        ...

    @property
    def show(self) -> bool:
        """Whether progress is shown."""
        ...

    @property
    def callbacks(self) -> Sequence[Callback]:
        """Called after every step."""
        ...

    @property
    def stats(self) -> SolveCounter:
        """Solves so far."""
        ...


@dataclass(frozen=True)
class Run:
    """Everything that stays fixed while a run goes on."""

    problem: Problem
    solver: Any
    seed: int
    device: torch.device
    budget: float | None
    folder: RunFolder | None
    show: bool
    callbacks: Sequence[Callback]
    figures: bool = True

    @property
    def stats(self) -> SolveCounter:
        """Solves of the problem's operator."""
        return self.problem.operator.stats

    def execute(self) -> Posterior:
        """Make the remaining steps, build the posterior and write the run folder."""
        streams = Streams(self.seed, self.device)
        loop = Loop(self, streams)
        with Interrupts() as interrupts:
            status = loop.iterate(interrupts)
            posterior = self._result(loop, status)
        write_outputs(self.folder, self.problem, self.solver, posterior, figures=self.figures)
        if status in (Status.INTERRUPTED, Status.BUDGET):
            loop.progress.note(how_to_go_on(self.folder, status, loop.steps))
        return posterior

    def _result(self, loop: Loop, status: Status) -> Posterior:
        """The posterior with its figures; too early a stop is an error that says so."""
        try:
            posterior: Posterior = self.solver.result(self.problem, loop.state)
        except SciprobError as error:
            if status is Status.INTERRUPTED:
                raise KeyboardInterrupt(how_to_go_on(self.folder, status, loop.steps)) from error
            if status is Status.BUDGET:
                message = f"{how_to_go_on(self.folder, status, loop.steps)} That was too early for a result: {error}"
                raise ConvergenceError(message) from error
            raise
        outcome = Outcome(status, loop.steps, loop.clock.seconds, loop.solves(), loop.info)
        diagnostics = self.solver.diagnostics(self.problem, loop.state)
        posterior.meta |= summarise(self.problem, self.solver, posterior, outcome, diagnostics, self.seed)
        return posterior


def how_to_go_on(folder: RunFolder | None, status: Status, steps: int) -> str:
    """What to do about a run that stopped early."""
    why = "Interrupted" if status is Status.INTERRUPTED else "The time budget ended"
    if folder is None:
        return f"{why} after {steps} steps; with `out=` (`--out`) a run can be resumed."
    return f"{why} after {steps} steps; `sciprob resume {folder.path}` continues."


class Loop:
    """The changing part of a run: state, streams, counters."""

    def __init__(self, run: Looped, streams: Streams) -> None:
        self.run, self.streams = run, streams
        self.steps = 0
        self.info: dict[str, float] = {}
        before: dict[str, Any] = {"seconds": 0.0, "solves": {}}
        self._stats = run.stats
        folder = run.folder
        if folder is not None and folder.checkpoint.is_file():
            self.state, before = load_checkpoint(folder.checkpoint, run.solver, streams)
            self.steps, self.info = before["steps"], before["info"]
            self.clock = Clock(before["seconds"], run.budget)
        else:
            self.clock = Clock(0.0, run.budget)
            self.state = settle(run.solver.init(run.problem, streams))
        if folder is not None:
            folder.trim_log(self.steps)
        self._first = self.steps
        self._solves_before: dict[str, int] = before["solves"]
        label = f"{run.problem.name} {run.solver.name}"
        self.progress = Progress(label, run.solver.max_steps, self.steps, show=run.show)

    def iterate(self, interrupts: Interrupts) -> Status:
        """Step until something ends the run."""
        saved, cost = time.perf_counter(), 0.0
        try:
            while (status := self._status(interrupts)) is None:
                self._step()
                if time.perf_counter() - saved >= max(_CHECKPOINT_EVERY, cost / _CHECKPOINT_SHARE):
                    start = time.perf_counter()
                    self.save()
                    saved, cost = time.perf_counter(), time.perf_counter() - start
            self.save()
        finally:
            self.progress.close()
        return status

    def _status(self, interrupts: Interrupts) -> Status | None:
        solver = self.run.solver
        if (status := solver.finished(self.state)) is not None:
            return Status(status)
        if self.steps >= solver.max_steps:
            return Status.MAX_STEPS if solver.max_steps > 1 else Status.COMPLETED
        if interrupts.requested:
            return Status.INTERRUPTED
        # at least one step per part, so that every `resume` gets further
        return Status.BUDGET if self.clock.exhausted and self.steps > self._first else None

    def _step(self) -> None:
        run = self.run
        self.state, info = run.solver.step(run.problem, self.state, self.streams)
        self.steps += 1
        settle(self.state)
        check_finite(self.state, self.steps)
        self.info = {name: float(value) for name, value in info.items()}
        self.progress.update(self.steps, self.info)
        if run.folder is not None:
            run.folder.append_log({"step": self.steps, "seconds": self.clock.seconds, **self.info})
        for callback in run.callbacks:
            callback(self.steps, self.state, self.info)

    def solves(self) -> dict[str, int]:
        """Solves of all parts of the run."""
        new = (self.run.stats - self._stats).as_dict()
        return {name: count + self._solves_before.get(name, 0) for name, count in new.items()}

    def save(self) -> None:
        """Write a checkpoint, if there is a folder."""
        if self.run.folder is not None:
            counters = {
                "steps": self.steps,
                "seconds": self.clock.seconds,
                "solves": self.solves(),
                "info": self.info,
            }
            save_checkpoint(self.run.folder.checkpoint, self.state, self.streams, counters)
