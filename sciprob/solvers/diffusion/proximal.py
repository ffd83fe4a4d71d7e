"""Draws of x given the data and a Gaussian N(centre, variance I) around a point."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.random import randn
from sciprob.solvers.diffusion.annealing import affine_data
from sciprob.solvers.diffusion.latent_problem import LatentProblem

_POWER_STEPS = 8
_SAFETY = 1.5  # on the estimated curvature, which power iterations approach from below


def proximal_draw(
    latent: LatentProblem, centre: Tensor, variance: float, generator: torch.Generator, steps: int, rate: float
) -> Tensor:
    r"""Draws of p(x) ~ exp(-|r(x)|^2 / 2 - |x - centre|^2 / (2 variance)), one around each centre.

    Exact where the data are affine in x; else `steps` of unadjusted Langevin dynamics from the centre with step
    rate / (1 / variance + L), L the largest curvature |J|^2 of the data at the centres by power iterations.

    Args:
        latent: The data.
        centre: `(n, *latent.shape)`.
        variance: > 0.
        generator: Randomness.
        steps: Langevin steps.
        rate: Step relative to the inverse curvature, in (0, 1].
    """
    if latent.linear:
        return affine_data(latent).condition(centre, variance, 0.0, generator)
    size = rate / (1 / variance + _SAFETY * largest_curvature(latent, centre, generator))
    x = centre
    for _ in range(steps):
        _, gradient = latent.residual_and_pullback(x)
        drift = gradient + (x - centre) / variance
        x = x - size * drift + math.sqrt(2 * size) * randn(tuple(x.shape), x, generator)
    return x


def largest_curvature(latent: LatentProblem, x: Tensor, generator: torch.Generator) -> float:
    """Largest eigenvalue of J^T J over the points x `(n, *latent.shape)`, by power iterations from below."""
    axes = tuple(range(1, x.ndim))
    shape = (-1, *(1 for _ in axes))
    direction = randn(tuple(x.shape), x, generator)
    largest = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(_POWER_STEPS):
        length = direction.square().sum(axes).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
        direction = direction / length.reshape(shape)
        _, tangent = latent.jvp(x, direction)
        # J^T w is the pull-back of w in place of the residual
        _, direction = latent.residual_and_pullback(x, lambda _, w=tangent: w)
        largest = direction.square().sum(axes).sqrt()
    return float(largest.max())
