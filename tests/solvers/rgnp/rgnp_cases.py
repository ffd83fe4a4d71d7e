"""Maps trained for seconds, shared by several tests."""

from __future__ import annotations

from functools import cache

import torch

import sciprob
from sciprob.random import Streams
from sciprob.solvers.rgnp import Amortised, GaussNewton, NetworkShape, RandomGridNeuralProcess


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_solver(steps: int = 40, cases: int = 10) -> RandomGridNeuralProcess:
    """Settings that train in a second or two."""
    return RandomGridNeuralProcess(
        NetworkShape(16, 2, 3),
        GaussNewton(points=200, steps=steps),
        laplace_residuals=200,
        calibration_cases=cases,
        calibration_points=40,
    )


@cache
def trained(name: str = "poisson-family", steps: int = 40, cases: int = 10) -> Amortised:
    """A map of a family of the package, calibrated on few reference solutions."""
    family, solver, streams = sciprob.load_family(name), small_solver(steps, cases), Streams(0)
    state = solver.init(family, streams)
    while solver.finished(state) is None:
        state, _ = solver.step(family, state, streams)
    return solver.result(family, state)
