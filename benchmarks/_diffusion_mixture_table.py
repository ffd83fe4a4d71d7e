"""The nine Gaussian-mixture problems under all diffusion solvers, exact ones and others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from _diffusion_mixtures import CASES, Case, exact_draws, mixture_case
from _diffusion_table import Table, cpu_time, mean

import sciprob
from sciprob.errors import SciprobError, SciprobWarning
from sciprob.metrics.transport import sliced_wasserstein
from sciprob.solvers.diffusion.daps import DAPS
from sciprob.solvers.diffusion.dps import DPS
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.pigdm import PiGDM
from sciprob.solvers.diffusion.red_diff import RedDiff
from sciprob.solvers.diffusion.split_gibbs import SplitGibbs
from sciprob.solvers.diffusion.tds import TwistedDiffusion

_DIRECTIONS = 256


def methods(n: int, steps: int) -> dict[str, Callable[[], Any]]:
    """Each with `n` members and `steps` network calls per member."""

    def ensemble(**settings: Any) -> Callable[[], Any]:
        return lambda: DiffusionEnsemble(particles=n, steps=steps, **settings)

    return {
        "conditioned, surrogate (default)": ensemble(),
        "adaptive kappa, surrogate": ensemble(move="continuous"),
        "kappa 1/2, inflation (FKC)": ensemble(move="continuous", kappa=0.5, twist="inflation"),
        "kappa 1, isotropic (AFDPS-SDE)": ensemble(move="continuous", kappa=1.0, twist="isotropic"),
        "flow + Langevin (AFDPS-ODE)": lambda: DiffusionEnsemble(
            particles=n, steps=steps // 3, move="flow", twist="inflation", correctors=1, corrector="langevin"
        ),
        "tds": lambda: TwistedDiffusion(particles=n, steps=steps),
        "split-gibbs": lambda: SplitGibbs(
            chains=n, samples=1, burn_in=9, prior_calls=steps // 10, rho_max=3.0, decay=0.6
        ),
        "pigdm": lambda: PiGDM(samples=n, steps=steps),
        "daps": lambda: DAPS(samples=n, steps=steps // 5, flow_calls=5),
        "dps, scale 0.3": lambda: DPS(samples=n, steps=steps, scale=0.3),
        "dps, scale 1": lambda: DPS(samples=n, steps=steps, scale=1.0),
        "red-diff": lambda: RedDiff(samples=n, steps=steps),
    }


def distance(samples: torch.Tensor, weights: torch.Tensor | None, case: Case) -> float:
    """Sliced Wasserstein-2 distance to exact draws."""
    directions = torch.Generator().manual_seed(1)
    return sliced_wasserstein(samples, case.reference, weights, projections=_DIRECTIONS, generator=directions)


def bench_mixtures(table: Table, particles: int, steps: int, seeds: int = 1) -> None:
    """Distance and evidence error of every method, mean over the nine problems (times seeds)."""
    cases = [mixture_case(d, m, seed) for seed in range(seeds) for d, m in CASES]
    floor = [distance(exact_draws(case, particles, torch.Generator().manual_seed(9)), None, case) for case in cases]
    name = f"nine mixtures, N = {particles}, {steps} calls"
    table.add(name, "exact draws (floor)", "sliced W2", mean(floor))
    for method, make in methods(particles, steps).items():
        found, evidence, seconds = [], [], 0.0
        for case in cases:
            try:
                with cpu_time() as watch, warnings.catch_warnings():
                    warnings.simplefilter("ignore", SciprobWarning)
                    posterior = sciprob.solve(case.problem, make(), seed=3, progress=False, device="cpu")
            except SciprobError as error:
                print(f"  {method} failed on {case.problem.name}: {error}")
                continue
            seconds += watch.seconds
            found.append(distance(posterior.samples.double(), posterior.weights.double(), case))
            table.add(case.problem.name, method, "sliced W2", found[-1])
            if "log_evidence" in posterior.meta.get("diagnostics", {}):
                evidence.append(abs(posterior.meta["diagnostics"]["log_evidence"] - case.log_evidence))
        if found:
            table.add(name, method, "sliced W2", mean(found))
            table.add(name, method, "largest sliced W2", max(found))
        if evidence:
            table.add(name, method, "|log evidence error|", mean(evidence), "nats")
        table.add(name, method, "cpu", seconds, "s")
