"""Initial vorticity of a stirred flow: learned prior against pCN at equal solver calls, and against DPS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from _diffusion_table import Table, cpu_time, mean
from torch import Tensor

import sciprob
from sciprob.engines.spectral import Evolution, SpectralBasis
from sciprob.engines.spectral.equations.navier_stokes_2d import NavierStokes2DSpectral
from sciprob.likelihoods.base import Likelihood
from sciprob.metrics.scores import coverage, crps, relative_error
from sciprob.operators.linear import FunctionMap
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.grid_matern import GridMatern
from sciprob.problems.problem import Problem
from sciprob.problems.registry import load_problem
from sciprob.solvers.baselines.pcn import PCN
from sciprob.spaces import GridSpace

NAME = "navier-stokes-initial-learned"
# the data come from the same grid with half the step: the truth is a flow, not a draw of the network
SAME_GRID = {"grid.data": 64, "step.data": 0.0125}
_SEARCH = 3000  # solver calls of the search for the mode and its eigenpairs, about
GAUSSIAN = {"prior.kind": "gaussian", "prior.weights": ""}


def fresh_flow(grid: GridSpace, seed: int, time: float = 6.0) -> Tensor:
    """Vorticity of a flow that no prior was trained on, at a time when it has forgotten its start."""
    equation = NavierStokes2DSpectral.kolmogorov(SpectralBasis(grid), viscosity=0.005, wavenumber=4, amplitude=1.0)
    start = GridMatern(grid, std=2.0, length=1.0, smoothness=3.0, boundary="periodic")
    initial = start.sample(generator=torch.Generator().manual_seed(10_000 + seed))
    evolution = Evolution(equation, torch.tensor([time], dtype=torch.float64), step=0.0125, scheme="etdrk4")
    with torch.no_grad():
        flow: Tensor = evolution(initial - initial.mean())[0]
    return flow


@lru_cache(maxsize=4)
def loaded(prior: str, points: int) -> Problem:
    """The problem with the `learned` or the `gaussian` prior; loading draws from the network."""
    settings = SAME_GRID | (GAUSSIAN if prior == "gaussian" else {})
    return load_problem(NAME, settings if points == 64 else settings | {"grid.inversion": points, "grid.data": points})


def band_limited(fine: GridSpace, coarse: GridSpace) -> FunctionMap:
    """Periodic fields on fewer points, without the Fourier modes that those do not resolve."""
    n, m = fine.shape[0], coarse.shape[0]
    modes = torch.fft.rfft(torch.eye(n, dtype=torch.float64), dim=0)[: m // 2 + 1].clone()
    modes[m // 2] = 0
    matrix = torch.fft.irfft(modes, n=m, dim=0) * m / n
    return FunctionMap(fine, coarse, lambda x: matrix @ x @ matrix.T, lambda y: matrix.T @ y @ matrix)


def flow_problems(seed: int, points: int) -> tuple[Problem, Problem]:
    """A flow with the learned and with the Gaussian prior, both on 64 points; the flow is computed with `points`."""
    learned, plain = loaded("learned", 64), loaded("gaussian", 64)
    truth, likelihood = fresh_flow(learned.operator.domain, seed), learned.likelihood
    with torch.no_grad():
        if points == 64:
            clean = learned.simulator.model[1](truth)
        else:  # model and data on the same fewer points, ten times cheaper
            coarse = loaded("gaussian", points)
            operator = coarse.operator @ band_limited(plain.operator.domain, coarse.operator.domain)
            likelihood = Likelihood(operator, coarse.likelihood.noise)
            clean = operator(truth)
        data = likelihood.noise.sample(clean, generator=torch.Generator().manual_seed(seed))
    return tuple(replace(problem, likelihood=likelihood, truth=truth, data=data) for problem in (learned, plain))


def pcn_of(calls: int) -> PCN:
    """Four chains that take about so many solver calls with their search for a reference; half of them burn-in."""
    iterations = max((calls - _SEARCH) // 4, 64)
    return PCN(chains=4, burn_in=iterations // 2, samples=iterations // 8, thin=4)


def nominal(members: int, level: float = 0.9) -> float:
    """Share of truths, exchangeable with the members, inside the central interval of their interpolated quantiles."""
    rank = (members - 1) * (1 - level) / 2
    return 1 - 2 * (rank + 1) / (members + 1)


def bench_flows(table: Table, flows: int, methods: dict[str, Callable[[], Any]], points: int) -> None:
    """All methods on the same flows; pCN, with a Gaussian prior, gets as many solver calls as the first method."""
    case, scores = f"initial vorticity, {points} points", {}
    for seed in range(flows):
        learned, plain = flow_problems(seed, points)
        calls = 0
        for method, make in methods.items():
            solves = add_run(scores, method, learned, make(), seed)
            calls = calls or solves
        add_run(scores, "laplace, Gaussian prior", plain, "laplace", seed)
        if calls:
            add_run(scores, "pcn, Gaussian prior", plain, pcn_of(calls), seed)
    for method, found in scores.items():
        for key in found[0]:
            unit = "s" if key == "cpu" else "1"
            table.add(case, method, key, mean([row[key] for row in found if math.isfinite(row[key])]), unit)


def add_run(scores: dict[str, list[dict[str, float]]], method: str, problem: Problem, solver: Any, seed: int) -> int:
    """Error, CRPS, coverage and cost of one run; its solver calls, an adjoint counted as one."""
    try:
        with cpu_time() as watch:
            posterior = sciprob.solve(problem, solver, seed=seed, progress=False, device="cpu")
    except sciprob.errors.SciprobError as error:
        print(f"  {method} failed: {error}")
        return 0
    assert problem.truth is not None
    solves = posterior.meta.get("solves", {})
    calls = sum(int(solves.get(kind, 0)) for kind in ("forward", "adjoint", "tangent"))
    scores.setdefault(method, []).append(
        {
            "relative error": relative_error(posterior.mean, problem.truth),
            "CRPS": float(crps(posterior, problem.truth).mean()),
            "coverage 0.9": coverage(posterior, problem.truth, (0.9,))["0.9"],
            "coverage expected": nominal(len(posterior.samples)) if isinstance(posterior, Ensemble) else 0.9,
            "solver calls": float(calls),
            "cpu": watch.seconds,
        }
    )
    return calls
