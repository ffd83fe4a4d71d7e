"""A problem kind small enough for the command line's tests: a line, seen by sensors."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import torch

from sciprob.errors import DataError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import DiagonalMap, PointObservation
from sciprob.priors.base import GaussianPrior
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.spaces import GridSpace


@dataclass(frozen=True)
class Noise:
    """Errors of the sensors.

    Args:
        std: Standard deviation of each value.
    """

    std: float = 0.1


@register("toy-sensors")
@dataclass(frozen=True)
class ToySensors:
    """Values of a line at four places.

    Args:
        size: Number of unknowns.
        seed: Seed of truth and noise.
        draws: A name that the toy solver has, too.
        noise: Errors of the sensors.
    """

    size: int = 5
    seed: int = 0
    draws: int = 1
    noise: Noise = field(default_factory=Noise)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        space = GridSpace((self.size,), name="m", dims=("x",), lower=(0.0,), upper=(1.0,))
        ones = torch.ones(self.size, dtype=torch.float64)
        prior = GaussianPrior(0 * ones, DiagonalMap(ones, space))
        places, values = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64), None
        if data is not None:
            rows = list(csv.DictReader(data.read_text().splitlines()))
            if not rows or "value" not in rows[0]:
                message = f"`{data.name}` has no column `value`."
                raise DataError(message)
            places = torch.tensor([float(row["x"]) for row in rows], dtype=torch.float64)
            values = torch.tensor([float(row["value"]) for row in rows], dtype=torch.float64)
        operator = PointObservation(space, places[:, None])
        likelihood = Likelihood(operator, GaussianNoise(operator.codomain, self.noise.std))
        problem = Problem(name, prior, likelihood, info=Info(default_solver="gaussian"))
        if values is not None:
            return problem.observe(values)
        return problem.simulate(torch.Generator().manual_seed(self.seed))
