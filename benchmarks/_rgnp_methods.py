"""The trainings that `rgnp.py` compares, each for the same processor time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from _rgnp_cases import Case, Predictor
from torch import Tensor

from sciprob.random import Streams
from sciprob.solvers.rgnp.amortised import Amortised
from sciprob.solvers.rgnp.gauss_newton import GaussNewton
from sciprob.solvers.rgnp.network import NetworkShape
from sciprob.solvers.rgnp.solver import RandomGridNeuralProcess
from sciprob.solvers.rgnp.variational import Variational, VariationalSettings

OURS = {
    "poisson": RandomGridNeuralProcess(network=NetworkShape(40, 3), gauss_newton=GaussNewton(points=1000)),
    "burgers": RandomGridNeuralProcess(network=NetworkShape(44, 4), gauss_newton=GaussNewton(points=1500)),
    "cavity": RandomGridNeuralProcess(  # full steps on three residuals per point are too noisy
        network=NetworkShape(40, 4, harmonics=2), gauss_newton=GaussNewton(points=1000, rate=0.5, resampled=0.3)
    ),
    "disk": RandomGridNeuralProcess(network=NetworkShape(40, 3), gauss_newton=GaussNewton(points=1000)),
}


@dataclass(frozen=True)
class Trained:
    """A predictor, and what it took."""

    predict: Predictor
    seconds: float
    steps: int
    model: Any = None


def planned(seconds: float, some: int, run: Callable[[int], None]) -> int:
    """How many steps fit into the time, from the time of some."""
    run(1)  # the first one loads what is loaded late
    start = time.process_time()
    run(some)
    return max(10, int(some * seconds / (time.process_time() - start)))


def train_ours(name: str, case: Case, seconds: float, seed: int = 0) -> Trained:
    """This package's default: stochastic Gauss-Newton, the schedule fitted to the time."""
    solver, family = OURS[name], case.family

    def run(chosen: RandomGridNeuralProcess, n: int) -> Any:
        streams = Streams(seed)
        state = chosen.init(family, streams)
        for _ in range(n):
            state, _ = chosen.step(family, state, streams)
        return state

    long = dataclasses.replace(solver, gauss_newton=dataclasses.replace(solver.gauss_newton, steps=10**6))
    steps = planned(seconds, 3, lambda n: run(long, n))
    chosen = dataclasses.replace(
        solver, gauss_newton=dataclasses.replace(solver.gauss_newton, steps=steps), calibration_cases=0
    )
    start = time.process_time()
    state = run(chosen, steps)
    spent = time.process_time() - start
    model: Amortised = chosen.result(family, state)
    return Trained(lambda z, w, x: model.mean(z, w, x), spent, steps, model)


def train_published(_name: str, case: Case, seconds: float, seed: int = 0) -> Trained:
    """The published training: Adam on the evidence lower bound, forward and inverse map together."""
    settings = VariationalSettings(**case.published)

    def run(chosen: VariationalSettings, n: int) -> tuple[Variational, Any]:
        trainer, streams = Variational(case.family, chosen), Streams(seed)
        state = trainer.init(streams)
        for _ in range(n):
            state, _ = trainer.step(state, streams)
        return trainer, state

    steps = planned(seconds, 5, lambda n: run(settings, n))
    start = time.process_time()
    trainer, state = run(dataclasses.replace(settings, steps=steps), steps)
    spent = time.process_time() - start
    field = trainer.forward_map(state)

    def predict(z: Tensor, w: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            means = [field.field(x, a, b).mean.reshape(len(x), -1) for a, b in zip(z, w, strict=True)]
        return torch.stack(means)

    return Trained(predict, spent, steps, field)


def train_peer(_name: str, case: Case, seconds: float) -> Trained | None:
    """DeepXDE's physics-informed DeepONet; None where it is not installed."""
    from _rgnp_deepxde import DeepONet, deepxde

    if deepxde is None:
        return None
    model = DeepONet(case.family, seconds, **case.peer)
    return Trained(model, model.seconds, model.steps, model)
