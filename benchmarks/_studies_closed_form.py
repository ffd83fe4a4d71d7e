"""Solvers against posteriors in closed form, differences in Monte-Carlo standard errors."""

from __future__ import annotations

import time

import torch
from _diffusion_table import Table
from _studies_problems import HURST, SETTINGS, configured, problem_of, rod_covariance
from torch import Tensor

import sciprob
from sciprob import Problem
from sciprob.metrics import mcmc
from sciprob.posteriors import Ensemble

LONGER = {"pcn": {"samples": 1000}, "nuts": {"samples": 1000, "chains": 2}, "diffusion-ensemble": {"particles": 4000}}
"""One run may take longer than one of hundreds."""


def bench_closed_form(table: Table, quick: bool) -> None:
    """One data set per solver."""
    for solver in SETTINGS:
        problem = problem_of(solver).simulate(torch.Generator().manual_seed(4))
        mean, std = _closed_form(solver, problem)
        more = {} if quick else LONGER.get(solver, {})
        start = time.process_time()
        posterior = sciprob.solve(problem, configured(solver, **more), seed=1, progress=False)
        seconds = time.process_time() - start
        free = std > 1e-6 * std.max()  # a path starts at a known value
        if isinstance(posterior, Ensemble):
            _in_standard_errors(table, solver, posterior, mean[free], std[free], free)
        else:
            difference = ((posterior.mean - mean) / std)[free].abs().max()
            table.add("closed form", solver, "mean: largest / std", float(difference))
            table.add("closed form", solver, "std: largest rel.", float((posterior.std / std - 1)[free].abs().max()))
        table.add("closed form", solver, "CPU time", seconds, "s")


def _in_standard_errors(
    table: Table, solver: str, posterior: Ensemble, mean: Tensor, std: Tensor, free: Tensor
) -> None:
    """Root mean square (1 if right) and largest over the entries; chains count by their effective draws."""
    draws = posterior.by_chain()[..., free]
    squares = (draws - mean).square()
    for word, estimate, truth, sample in (
        ("mean", draws.mean((0, 1)), mean, draws),
        ("variance", squares.mean((0, 1)), std.square(), squares),
    ):
        effective = mcmc.ess_mean(sample) if posterior.chains else torch.full_like(mean, posterior.ess)
        z = (estimate - truth) / (sample.flatten(0, 1).std(0) / effective.sqrt())
        table.add("closed form", solver, f"{word}: rms error", float(z.square().mean().sqrt()), "s.e.")
        table.add("closed form", solver, f"{word}: largest error", float(z.abs().max()), "s.e.")
        table.add("closed form", solver, f"{word}: effective draws", float(effective.median()))


def _closed_form(solver: str, problem: Problem) -> tuple[Tensor, Tensor]:
    """Mean and standard deviations by dense conditioning."""
    y = problem.observed.flatten()
    if solver == "sm-gp":
        joint, noise = rod_covariance(problem)
        n = len(joint) - len(noise)
        return _conditioned(torch.zeros(n, dtype=y.dtype), joint[:n, :n], joint[:n, n:], joint[n:, n:], noise, y)
    if solver == "kalman":
        t = problem.parameter.coords["time"].double()
        powers = t.pow(2 * HURST)
        covariance = (powers[:, None] + powers - (t[:, None] - t).abs().pow(2 * HURST)) / 2
        mean, index = torch.zeros_like(t), problem.operator.index
        cross, data = covariance[:, index], covariance[index][:, index]
    else:
        prior, matrix = problem.prior, problem.operator.to_dense()
        root = prior.root.to_dense()
        covariance, mean = root @ root.T, prior.mean
        cross = covariance @ matrix.T
        data, y = matrix @ cross, y - matrix @ mean
    noise = problem.likelihood.noise.std.expand(len(y))
    return _conditioned(mean, covariance, cross, data, noise, y)


def _conditioned(
    mean: Tensor, covariance: Tensor, cross: Tensor, data: Tensor, noise: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    gain = torch.linalg.solve(data + noise.square().diag(), cross.T).T
    return mean + gain @ y, (covariance - gain @ cross.T).diagonal().clamp_min(0).sqrt()
