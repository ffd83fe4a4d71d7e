"""From a model of paths and observations to a problem that every path solver takes."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators.observe_stored import StoredTimes
from sciprob.priors.paths import path_prior
from sciprob.problems.fractional_report import PathReport
from sciprob.problems.problem import Info, Problem
from sciprob.random import Streams, randn
from sciprob.sde.path_data import path_space
from sciprob.sde.path_model import PathModel
from sciprob.sde.simulate import simulate_path


def path_problem(
    name: str,
    model: PathModel,
    grid: Tensor,
    times: Tensor,
    values: Tensor | None,
    std: Tensor | float,
    *,
    true_std: float | None = None,
    seed: int = 0,
    unknown: str = "x",
    unit: str = "1",
    info: Info | None = None,
) -> Problem:
    """Noisy values of a path as a problem; the unknown is the path at `grid` and at the observed times.

    Args:
        name: Its name.
        model: The equation.
        grid: Times at which the path is wanted, `(n,)`, from 0 on.
        times: Observed times `(k,)`, increasing.
        values: Observed values `(k,)`; None simulates them.
        std: Standard deviation of their errors, a number or `(k,)`; where `model.noise_std` is unknown, a first guess.
        true_std: The standard deviation behind simulated data, where it differs.
        seed: Of simulated data.
        unknown: Name of the path.
        unit: Its unit.
        info: Words.

    Raises:
        DataError: For values that are not finite, or times before 0.
    """
    space = path_space(merge_times(grid, times), name=unknown, unit=unit)
    operator = StoredTimes(space, times)
    noise = GaussianNoise(operator.codomain, std)
    stored, spread = space.coords["time"], std if true_std is None else true_std

    def simulate(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        numbers = model.values(model.truth(generator))
        path = simulate_path(model, numbers, stored, generator=generator)
        clean = path[operator.index]
        return path, clean + spread * randn(tuple(clean.shape), clean, generator)

    truth = None
    if values is None:
        truth, values = simulate(Streams(seed)["problem"])
    return Problem(
        name,
        path_prior(space, model),
        Likelihood(operator, noise),
        data=values,
        truth=truth,
        simulator=simulate,
        report=PathReport(),
        info=info or Info(title=name, default_solver="kalman"),
    )


def merge_times(grid: Tensor, times: Tensor) -> Tensor:
    """Both in order, each once; times that differ by rounding count as one, that of `times`."""
    every = torch.cat([times.double(), grid.double()])
    scale = float(every.abs().max()) if len(every) else 1.0
    keep = torch.ones(len(every), dtype=torch.bool)
    for_grid = slice(len(times), None)
    if len(times) and len(grid):
        ordered = times.double().sort().values
        right = torch.searchsorted(ordered, grid.double()).clamp(0, len(ordered) - 1)
        near = torch.minimum((ordered[right] - grid).abs(), (ordered[(right - 1).clamp_min(0)] - grid).abs())
        keep[for_grid] = near > 1e-9 * scale
    merged: Tensor = every[keep].unique()
    return merged
