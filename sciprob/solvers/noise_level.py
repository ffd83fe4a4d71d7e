"""Estimating the level of Gaussian noise together with the unknown."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sciprob.problems.problem import Problem
from sciprob.solvers.covariance import perturbed_deviations
from sciprob.solvers.linear_algebra import inner
from sciprob.solvers.whitened import LocalModel, WhitenedTarget

_PROBES = 8
_SETTLED = 1e-2  # relative change of s^2; its own posterior has the relative width sqrt(2 / n)


def first_level(noise: Any) -> float | None:
    """Level s^2 to begin with where the noise is Gaussian of unknown level, or None."""
    return None if getattr(noise, "level", None) is None else float(noise.nominal_level)


def level_round(
    problem: Problem,
    local: LocalModel,
    xi: Tensor,
    level: float,
    generator: torch.Generator,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[float, float, bool]:
    """One round of evidence maximisation around xi.

    gamma = sum lam / (1 + lam) is estimated as the mean of |B d|^2 over posterior deviations d.

    Args:
        problem: The problem, with Gaussian noise of unknown level.
        local: Its linearisation at xi with the present level.
        xi: Mode of the posterior at the present level.
        level: The present s^2.
        generator: Source of the deviations.
        tolerance: As in `perturbed_deviations`.
        max_iterations: As in `perturbed_deviations`.

    Returns:
        The next s^2, gamma, and whether s^2 has settled within 1 %.
    """
    spread, _ = perturbed_deviations(
        local.data_map, xi, generator, count=_PROBES, tolerance=tolerance, max_iterations=max_iterations
    )
    images = local.data_map(spread)
    informed = float(inner(images, images).mean())
    residual = WhitenedTarget(problem, 1.0).residual(local.clean)
    new = updated_level(problem.likelihood.noise, float(residual.square().sum()), informed)
    return new, informed, abs(math.log(new / level)) < _SETTLED


def updated_level(noise: Any, residual_square: float, informed: float) -> float:
    """Next s^2 of evidence maximisation, (2b + |r|^2) / (2a + 2 + n - gamma).

    It has the fixed points of expectation-maximisation, where gamma s^2 is added to |r|^2 instead
    of subtracted from n, and comes to them in far fewer rounds when the data inform many directions.

    Args:
        noise: Gaussian noise with an inverse-gamma level (a, b).
        residual_square: |r|^2 with the weights of level 1, at the posterior mean.
        informed: gamma, the number of directions that the data determine.

    Source: MacKay, Neural Computation 4 (1992).
    """
    remaining = max(noise.space.size - informed, 0.0)
    return float((2 * noise.level.rate + residual_square) / (2 * noise.level.shape + 2 + remaining))
