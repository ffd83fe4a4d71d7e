"""Nine Gaussian-mixture problems with known posteriors, and the ensembles' distance to them.

`measure(method)` runs one method on all nine: sliced Wasserstein-2 distance to exact posterior draws, and the error
of the log evidence. The family is that of Cardoso et al. (2024): 25 components on a grid, scaled to unit distance.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators.linear import DenseMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.problems.problem import Problem
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.resampling import systematic_indices
from sciprob.solvers.diffusion.tds import TwistedDiffusion
from sciprob.solvers.driver import solve

CASES = tuple((d, m) for d in (2, 8, 80) for m in (1, 2, 4))
_DRAWS = 4096
_DIRECTIONS = 256


@dataclass(frozen=True)
class Case:
    """One problem and its exact posterior.

    Attributes:
        problem: Mixture prior with full-covariance surrogate, linear operator, Gaussian noise, data.
        reference: Exact posterior draws `(4096, d)`.
        log_evidence: Exact log p(y).
    """

    problem: Problem
    reference: Tensor
    log_evidence: float


def mixture_case(d: int, m: int, seed: int = 0) -> Case:
    """Mixture of 25 components on (i, j, i, j, ...), i, j in -2..2, variance 1/64, random weights and operator."""
    generator = torch.Generator().manual_seed(1000 * seed + 10 * d + m)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    grid = torch.tensor([[i, j] for i in range(-2, 3) for j in range(-2, 3)], dtype=torch.float64)
    means = grid.repeat(1, d // 2)
    weights = normal(25).square()
    denoiser = MixtureDenoiser(weights, means, torch.eye(d, dtype=torch.float64).expand(25, d, d) / 64)
    k = min(m, d)
    left, right = torch.linalg.qr(normal(m, m))[0][:, :k], torch.linalg.qr(normal(d, d))[0][:k]
    singular = torch.rand(k, generator=generator, dtype=torch.float64)
    matrix = (left * singular) @ right
    std = float(singular.max()) * float(torch.rand((), generator=generator, dtype=torch.float64))
    truth = denoiser.sample(generator=generator)
    data = matrix @ truth + std * normal(m)
    root = torch.linalg.cholesky(denoiser.covariance)
    surrogate = GaussianPrior(denoiser.mean, DenseMap(root))
    prior = DiffusionPrior(denoiser, surrogate=surrogate)
    operator = DenseMap(matrix, domain=denoiser.space)
    likelihood = Likelihood(operator, GaussianNoise(operator.codomain, std))
    problem = Problem(f"mixture-{d}-{m}", prior, likelihood, data=data, truth=truth)
    reference, evidence = _exact(weights, means, matrix, std, data, generator)
    return Case(problem, reference, evidence)


def exact_draws(case: Case, n: int, generator: torch.Generator) -> Tensor:
    """`n` of the exact draws, for the floor of the distance."""
    return case.reference[torch.randperm(len(case.reference), generator=generator)[:n]]


def _exact(
    weights: Tensor, means: Tensor, matrix: Tensor, std: float, data: Tensor, generator: torch.Generator
) -> tuple[Tensor, float]:
    """Draws of the posterior mixture, and log p(y)."""
    m, d = matrix.shape
    noise = std**2 * torch.eye(m, dtype=torch.float64) + matrix @ matrix.T / 64
    factor = torch.linalg.cholesky(noise)
    residual = data - means @ matrix.T
    solved = torch.cholesky_solve(residual.T, factor).T
    log_joint = (weights / weights.sum()).log() - (residual * solved).sum(1) / 2
    constant = factor.diagonal().log().sum() + m / 2 * math.log(2 * math.pi)
    gain = torch.cholesky_solve(matrix, factor).T / 64
    covariance = torch.eye(d, dtype=torch.float64) / 64 - gain @ matrix / 64
    chosen = torch.multinomial(log_joint.softmax(0), _DRAWS, replacement=True, generator=generator)
    white = torch.randn((_DRAWS, d), generator=generator, dtype=torch.float64)
    root = torch.linalg.cholesky(covariance + 1e-14 * torch.eye(d, dtype=torch.float64))
    draws = means[chosen] + residual[chosen] @ gain.T + white @ root.T
    return draws, float(log_joint.logsumexp(0) - constant)


def sliced_distance(samples: Tensor, log_weights: Tensor | None, case: Case, generator: torch.Generator) -> float:
    """Sliced Wasserstein-2 distance to the exact draws over 256 random directions.

    Weighted samples are resampled systematically, so that they have as many equal members.
    """
    if log_weights is not None:
        samples = samples[systematic_indices(log_weights, generator)]
    d = samples.shape[1]
    directions = torch.randn((_DIRECTIONS, d), generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    levels = (torch.arange(_DRAWS, dtype=torch.float64) + 0.5) / _DRAWS
    first, second = ((x @ directions.T).sort(0)[0][(levels * len(x)).long()] for x in (samples, case.reference))
    return float((first - second).square().mean().sqrt())


def measure(
    run: Callable[[Problem], tuple[Tensor, Tensor | None, float]],
    cases: tuple[tuple[int, int], ...] = CASES,
    seed: int = 0,
) -> list[dict[str, float]]:
    """One row for each problem: d, m, distance, error of log p(y), CPU seconds.

    Args:
        run: Problem -> samples `(N, d)`, log-weights `(N,)` or None, log evidence or NaN.
        cases: (d, m) of the problems.
        seed: Of the problems.
    """
    rows = []
    for d, m in cases:
        case = mixture_case(d, m, seed)
        start = time.process_time()
        samples, log_weights, evidence = run(case.problem)
        seconds = time.process_time() - start
        distance = sliced_distance(samples, log_weights, case, torch.Generator().manual_seed(seed))
        row = {"d": d, "m": m, "distance": distance, "log_evidence_error": evidence - case.log_evidence}
        rows.append(row | {"seconds": seconds})
    return rows


def with_solver(solver: Any, seed: int = 0) -> Callable[[Problem], tuple[Tensor, Tensor | None, float]]:
    """`run` of `measure` for one of the package's solvers."""

    def run(problem: Problem) -> tuple[Tensor, Tensor | None, float]:
        posterior: Any = solve(problem, solver, seed=seed, progress=False)
        evidence = float(posterior.meta.get("diagnostics", posterior.meta).get("log_evidence", math.nan))
        return posterior.samples, posterior.log_weights, evidence

    return run


def methods() -> dict[str, Any]:
    """Settings of the ensemble compared at 1024 particles and 200 network calls."""
    n = 1024
    return {
        "conditioned, surrogate": DiffusionEnsemble(weights="path", particles=n, steps=200),
        "adaptive kappa, surrogate": DiffusionEnsemble(weights="path", particles=n, steps=200, move="continuous"),
        "kappa 1/2, surrogate": DiffusionEnsemble(weights="path", particles=n, steps=200, move="continuous", kappa=0.5),
        "denoised, surrogate": DiffusionEnsemble(weights="path", particles=n, steps=200, move="denoised"),
        "adaptive kappa, inflation": DiffusionEnsemble(
            weights="path", particles=n, steps=200, move="continuous", twist="inflation"
        ),
        "kappa 1/2, inflation (FKC)": DiffusionEnsemble(
            weights="path", particles=n, steps=200, move="continuous", kappa=0.5, twist="inflation"
        ),
        "AFDPS-SDE, inflation": DiffusionEnsemble(
            weights="path", particles=n, steps=200, move="continuous", kappa=1.0, twist="inflation"
        ),
        "AFDPS-SDE, isotropic": DiffusionEnsemble(
            weights="path", particles=n, steps=200, move="continuous", kappa=1.0, twist="isotropic"
        ),
        "tds": TwistedDiffusion(particles=n, steps=200),
        "AFDPS-ODE, inflation, Langevin": DiffusionEnsemble(
            weights="path", particles=n, steps=67, move="flow", twist="inflation", correctors=1, corrector="langevin"
        ),
    }


if __name__ == "__main__":
    chosen = tuple(pair for pair in CASES if len(sys.argv) < 2 or pair[0] <= int(sys.argv[1]))
    floors = []
    for pair in chosen:
        case, generator = mixture_case(*pair), torch.Generator().manual_seed(9)
        floors.append(sliced_distance(exact_draws(case, 1024, generator), None, case, generator))
    print(f"{'exact draws':32} {sum(floors) / len(floors):.3f} | {' '.join(f'{x:.3f}' for x in floors)}", flush=True)
    for name, solver in methods().items():
        rows = measure(with_solver(solver), chosen)
        mean = sum(row["distance"] for row in rows) / len(rows)
        distances = " ".join(f"{row['distance']:.3f}" for row in rows)
        errors = " ".join(f"{row['log_evidence_error']:+.2f}" for row in rows)
        print(f"{name:32} {mean:.3f} | {distances} | {errors} | {sum(r['seconds'] for r in rows):.0f} s", flush=True)
