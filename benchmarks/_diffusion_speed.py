"""Network calls per effective posterior draw, and what a call costs."""

from __future__ import annotations

import torch
from _diffusion_table import Table, cpu_time

import sciprob
from sciprob.errors import SciprobError
from sciprob.priors.diffusion.store import available_priors, load_diffusion_prior
from sciprob.problems.registry import load_problem
from sciprob.solvers.diffusion.dps import DPS
from sciprob.solvers.diffusion.ensemble import DiffusionEnsemble
from sciprob.solvers.diffusion.split_gibbs import SplitGibbs


def bench_speed(table: Table, quick: bool) -> None:
    """CPU time per member of one batched call, by prior; and calls per effective draw on one scan of ellipses."""
    generator = torch.Generator().manual_seed(0)
    for file in available_priors():
        prior = load_diffusion_prior(file.name)
        for batch in (1, 16, 64):
            z = torch.randn(batch, *prior.latent.shape, generator=generator)
            with torch.no_grad():
                prior.denoiser(z, 1.0)
                with cpu_time() as watch:
                    prior.denoiser(z, 1.0)
            table.add(f"{file.name}, batch {batch}", "network", "cpu per member", watch.seconds / batch, "s")
    members, steps = (8, 20) if quick else (32, 60)
    problem = load_problem("tomography-sparse")
    solvers = {
        "diffusion-ensemble": DiffusionEnsemble(particles=members, steps=steps),
        "diffusion-ensemble, 1 corrector": DiffusionEnsemble(particles=members, steps=steps // 2, correctors=1),
        "split-gibbs": SplitGibbs(chains=members, samples=4, burn_in=8, prior_calls=5, rho_max=2.0, decay=0.7),
        "dps": DPS(samples=members, steps=steps),
    }
    for name, solver in solvers.items():
        try:
            with cpu_time() as watch:
                posterior = sciprob.solve(problem, solver, progress=False, device="cpu")
        except SciprobError as error:
            print(f"  {name} failed: {error}")
            continue
        found = posterior.meta["diagnostics"]
        calls = float(found["network_calls"])
        effective = float(found.get("ess", found.get("ess_bulk_median", members)))
        table.add("16 views", name, "batched calls", calls)
        table.add("16 views", name, "effective draws", effective)
        table.add("16 views", name, "evaluations per draw", calls * members / effective)
        table.add("16 views", name, "cpu", watch.seconds, "s")
