"""Families, test sets, budgets and scores of `rgnp.py`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

import sciprob
from sciprob.problems.family import ProblemFamily

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]  # z, w, points (n, d) -> (cases, n, fields)
TWO_SIGMA = 0.9545


@dataclass(frozen=True)
class Case:
    """One family under test.

    Args:
        name: Its name.
        tests: Members that are scored, drawn from the prior.
        budgets: Processor seconds of training.
        axes: Evaluation points along each axis, ends excluded.
        scored: Fields that are scored.
        published: Settings of the published training that differ from its Poisson example.
        peer: Settings of the peer.
        extremes: Parameters that some of the tests have, by name: hard corners are always among them.
    """

    name: str
    tests: int
    budgets: tuple[float, ...]
    axes: tuple[int, ...]
    scored: tuple[str, ...] = ("u",)
    published: dict[str, Any] = field(default_factory=dict)
    peer: dict[str, Any] = field(default_factory=dict)
    extremes: dict[str, float] = field(default_factory=dict)

    @cached_property
    def family(self) -> ProblemFamily:
        """From its file."""
        return sciprob.load_family(self.name)

    @cached_property
    def points(self) -> Tensor:
        """A regular grid of inner points, `(n, d)`."""
        domain = self.family.domain
        axes = [
            low + (high - low) * torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)
            for low, high, n in zip(domain.lower, domain.upper, self.axes, strict=True)
        ]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
        return grid[domain.contains(grid)]

    @cached_property
    def parameters(self) -> tuple[Tensor, Tensor]:
        """Of the tests, z and w; a tenth of them has the extremes."""
        return self.draw(self.tests, seed=2026)

    @cached_property
    def calibration(self) -> tuple[Tensor, Tensor]:
        """For the solves that fit error bars, z and w; other than those of the tests."""
        return self.draw(32 if self.name != "cavity-family" else 20, seed=7)

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """Parameters from the prior."""
        generator = torch.Generator().manual_seed(seed)
        z, w = self.family.unknown.sample(n, generator), self.family.known.sample(n, generator)
        for name, value in self.extremes.items():
            z[: math.ceil(n / 10), self.family.unknown.names.index(name)] = value
        return z, w

    @cached_property
    def truth(self) -> Tensor:
        """Reference solutions of the tests, `(cases, n, fields)`."""
        return self.family.solve(*self.parameters, self.points)


CASES = {
    "poisson": Case(
        "poisson-family", 200, (60.0, 120.0), (199,), published={"batch": 50, "points": 30}, peer={"points": 100}
    ),
    "burgers": Case(
        "burgers-family",
        60,
        (300.0,),
        (63, 32),
        published={"batch": 25, "points": 225, "residual_noise": 1.0, "learn_noise": True},
        peer={"points": 900},
        extremes={"viscosity": 0.01},
    ),
    "cavity": Case(
        "cavity-family",
        24,
        (300.0, 1800.0),
        (16, 16, 12),
        scored=("u", "v"),
        published={"batch": 5, "points": 512, "rank": 4},
        peer={"points": 1000, "batch": 20},
    ),
    "disk": Case("disk-family", 100, (60.0,), (31, 31), peer={"points": 200}),
}


def errors(found: Tensor, truth: Tensor) -> Tensor:
    """NSE, the squared relative error of each field over all points, `(cases, fields)`."""
    return ((found - truth).square().sum(1) / truth.square().sum(1)).double()


def summary(values: Tensor) -> Iterable[tuple[str, float]]:
    """Mean, median, maximum."""
    return (("mean", float(values.mean())), ("median", float(values.median())), ("max", float(values.max())))


def calibration_scores(error: Tensor, std: Tensor, spread: float) -> dict[str, float]:
    """Scores of error bars.

    Args:
        error: Mean minus truth, any shape.
        std: Its standard deviation, the same.
        spread: One standard deviation for everything, fitted to the same solves.
    """
    half_log = 0.5 * math.log(2 * math.pi)
    nll = (0.5 * (error / std).square() + std.log()).mean() + half_log
    plain = (0.5 * (error / spread).square()).mean() + math.log(spread) + half_log
    by_case_error, by_case_std = error.square().mean(dim=(1, 2)).sqrt(), std.square().mean(dim=(1, 2)).sqrt()
    return {
        "2 sd coverage": float((error.abs() <= 2 * std).double().mean()),
        "NLL": float(nll),
        "NLL gain over one sd": float(plain - nll),
        "spread over error": float(std.square().mean().sqrt() / error.square().mean().sqrt()),
        "rank correlation by case": rank_correlation(by_case_error, by_case_std),
    }


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's."""
    ranks = [item.argsort().argsort().double() for item in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def outside(family: ProblemFamily, factor: float, n: int, generator: torch.Generator) -> Tensor:
    """Parameters on the surface of the box enlarged about its centre, in unit scale."""
    unit = 2 * torch.rand(n, family.unknown.size, generator=generator, dtype=torch.float64) - 1
    sides = itertools.cycle(range(family.unknown.size))
    for row, side in zip(unit, sides, strict=False):
        row[side] = torch.sign(row[side])
    return family.unknown.from_unit(factor * unit)
