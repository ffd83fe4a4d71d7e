"""From a collocation to a problem that every solver takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sciprob.io.sensors import read_sensors
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.pde.collocation import Collocation
from sciprob.pde.collocation_checks import sensor_rows
from sciprob.pde.functionals import Functionals
from sciprob.priors.kernels import StationaryKernel
from sciprob.priors.kronecker import KroneckerPrior
from sciprob.problems.collocation_operator import collocation_operator
from sciprob.problems.collocation_prior import initial_kernels
from sciprob.problems.problem import Info, Problem, Report
from sciprob.spaces import GridSpace


def collocation_problem(
    name: str,
    collocation: Collocation,
    *,
    kernels: Sequence[StationaryKernel] | None = None,
    kernel: str = "gaussian",
    components: int = 8,
    scale: float | Sequence[float] = 1.0,
    truth: Tensor | None = None,
    report: Report | None = None,
    info: Info | None = None,
) -> Problem:
    """An equation on a box as a problem: u on the grid, Gaussian prior, all rows as data; also of your own `PDE`.

    Solvers that condition on functionals read `problem.operator.collocation`; all others use the operator.

    Args:
        name: Its name.
        collocation: The equation with its data.
        kernels: Covariance of the prior, one kernel per coordinate; by default `initial_kernels`.
        kernel: `"gaussian"` or `"student"`, for the default kernels.
        components: Most frequencies per coordinate, for the default kernels.
        scale: Envelopes per length, for the default kernels; one number, or one per coordinate.
        truth: Known solution on the grid, which scores and never helps.
        report: Extra scores and figures.
        info: Words.

    Example:
        >>> c = Collocation(MyPDE(), (0.0,), (1.0,), (100,), {"forcing": lambda x: torch.sin(40 * x["x"])})
        >>> posterior = sciprob.solve(collocation_problem("mine", c), "sm-gp")
    """
    chosen = tuple(kernels or initial_kernels(collocation, kernel, components, scale=scale))
    operator = collocation_operator(collocation, chosen)
    space = operator.domain
    assert isinstance(space, GridSpace)
    return Problem(
        name,
        KroneckerPrior(space, chosen),
        Likelihood(operator, GaussianNoise(operator.codomain, operator.std)),
        data=operator.data,
        truth=truth,
        report=report,
        info=info or Info(title=name, default_solver="sm-gp"),
    )


def sensors_of_file(path: Path, collocation: Collocation) -> Functionals:
    """Measured values of u from a CSV file, with a column `time` where the equation has time.

    Raises:
        DataError: For an unusable file, or a place or time outside the box; names the row.
    """
    axes = [i for i, name in enumerate(collocation.coordinates) if name != "t"]
    space = GridSpace(
        tuple(collocation.shape[i] for i in axes),
        name=collocation.unknown,
        dims=tuple(collocation.coordinates[i] for i in axes),
        lower=tuple(collocation.lower[i] for i in axes),
        upper=tuple(collocation.upper[i] for i in axes),
    )
    interval = None
    if "t" in collocation.coordinates:
        t = collocation.coordinates.index("t")
        interval = collocation.lower[t], collocation.upper[t]
    measured = read_sensors(path, space, interval=interval)
    columns = dict(zip(space.dims, measured.points.unbind(1), strict=True))
    if measured.times is not None:
        columns["t"] = measured.times
    points = torch.stack([columns[name] for name in collocation.coordinates], dim=1)
    return sensor_rows(collocation.coordinates, points, measured.values, measured.std)
