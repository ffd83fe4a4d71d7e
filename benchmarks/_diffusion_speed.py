"""Network evaluations per effective posterior draw where the posterior is known, and what an evaluation costs.

The effective number of draws of a run is (posterior variance) / (squared error of the mean), averaged over
coordinates and runs: N for N independent draws, less for copies after resampling, for chains, and for bias.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from _diffusion_mixtures import mixture_case
from _diffusion_table import Table, cpu_time
from torch import Tensor

import sciprob
from sciprob.errors import SciprobWarning
from sciprob.priors.diffusion.store import available_priors, load_diffusion_prior
from sciprob.problems.problem import Problem
from sciprob.problems.registry import load_problem
from sciprob.solvers.diffusion.daps import DAPS
from sciprob.solvers.diffusion.dps import DPS
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.pigdm import PiGDM
from sciprob.solvers.diffusion.red_diff import RedDiff
from sciprob.solvers.diffusion.split_gibbs import SplitGibbs
from sciprob.solvers.diffusion.tds import TwistedDiffusion


def solvers(n: int, calls: int) -> dict[str, Callable[[], Any]]:
    """`n` members and about `calls` network calls each."""
    return {
        "diffusion-ensemble": lambda: DiffusionEnsemble(particles=n, steps=calls),
        "tds": lambda: TwistedDiffusion(particles=n, steps=calls),
        "split-gibbs": lambda: SplitGibbs(
            chains=n, samples=1, burn_in=9, prior_calls=max(calls // 10, 2), rho_max=3.0, decay=0.7
        ),
        "pigdm": lambda: PiGDM(samples=n, steps=calls),
        "pigdm, weights of the score": lambda: PiGDM(samples=n, steps=calls, weighting="score"),
        "daps": lambda: DAPS(samples=n, steps=max(calls // 5, 2), flow_calls=5),
        "dps": lambda: DPS(samples=n, steps=calls),
        "red-diff": lambda: RedDiff(samples=n, steps=calls),
    }


def bench_speed(table: Table, quick: bool) -> None:
    """Throughput of the networks, then evaluations per effective draw on a mixture and on an inpainting problem."""
    for file in available_priors():
        for batch in (1, 16) if quick else (1, 16, 64):
            network_throughput(table, file.name, batch)
    case = mixture_case(8, 2)
    mean, variance = case.reference.mean(0), case.reference.var(0)
    runs = range(2 if quick else 8)
    effective_draws(table, "mixture, d = 8, m = 2", case.problem, (mean, variance), solvers(64, 50), runs)
    field = load_problem("inpainting", {"pixels": 32})
    exact = sciprob.solve(field, "gaussian", progress=False, device="cpu")
    known = exact.mean, exact.std.square()
    effective_draws(table, "inpainting, 32 x 32", field, known, solvers(64, 20), range(1))


def effective_draws(
    table: Table,
    case: str,
    problem: Problem,
    known: tuple[Tensor, Tensor],
    methods: dict[str, Callable[[], Any]],
    seeds: range,
) -> None:
    """One row of figures per method."""
    for name, make in methods.items():
        error, calls, members = 0.0, 0, 0
        with cpu_time() as watch, warnings.catch_warnings():
            warnings.simplefilter("ignore", SciprobWarning)
            for seed in seeds:
                posterior = sciprob.solve(problem, make(), seed=seed, progress=False, device="cpu")
                members, calls = len(posterior.samples), posterior.meta["network_calls"]
                error += float(((posterior.mean - known[0]).square() / known[1]).mean()) / len(seeds)
        table.add(case, name, "network calls", float(calls))
        table.add(case, name, "effective draws of 64", 1 / error)
        table.add(case, name, "evaluations per draw", calls * members * error)
        table.add(case, name, "cpu per run", watch.seconds / len(seeds), "s")


def network_throughput(table: Table, name: str, batch: int, repeats: int = 3) -> None:
    """Fields per second of one batched call; on a GPU also in bfloat16 and compiled, and the GPU's utilisation."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior = load_diffusion_prior(name).to(device)
    z = torch.randn(batch, *prior.latent.shape, generator=torch.Generator().manual_seed(0)).to(device)
    case = f"{name}, batch {batch}"
    with torch.no_grad():
        prior.denoiser(z, 1.0)
        if device.type == "cpu":
            with cpu_time() as watch:
                for _ in range(repeats):
                    prior.denoiser(z, 1.0)
            table.add(case, "network", "fields per CPU second", repeats * batch / watch.seconds, "1/s")
            return
        compiled = torch.compile(prior.denoiser)
        for label, denoise, half in (
            ("network", prior.denoiser, False),
            ("network, bfloat16", prior.denoiser, True),
            ("network, bfloat16, compiled", compiled, True),
        ):
            with torch.autocast("cuda", torch.bfloat16, enabled=half):
                denoise(z, 1.0)
                with gpu_time() as (seconds, busy):
                    for _ in range(100):
                        denoise(z, 1.0)
                        busy()
            table.add(case, label, "fields per second", 100 * batch / seconds[0], "1/s")
            table.add(case, label, "GPU utilisation", seconds[1], "%")


@contextmanager
def gpu_time() -> Iterator[tuple[list[float], Callable[[], None]]]:
    """Wall-clock seconds, and the mean utilisation that the driver reports whenever the second value is called."""
    figures, seen = [0.0, 0.0], []
    torch.cuda.synchronize()
    start = time.perf_counter()
    yield figures, lambda: seen.append(torch.cuda.utilization())
    torch.cuda.synchronize()
    figures[:] = time.perf_counter() - start, sum(seen) / max(len(seen), 1)
