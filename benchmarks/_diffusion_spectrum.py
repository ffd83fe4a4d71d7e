"""Second moments of what a trained network draws, against the exact covariance of the Gaussian fields it learnt."""

from __future__ import annotations

from typing import Any

import torch
from _diffusion_table import Table, cpu_time
from torch import Tensor

from sciprob.priors.diffusion.gaussian import GaussianDenoiser
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.diffusion.recipes import make_recipe
from sciprob.solvers.prior_training import train_prior

BANDS = ((0, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 24))  # cycles across the square


def bench_spectrum(table: Table, quick: bool) -> None:
    """Networks with and without the Gaussian as control variate, and the exact denoiser through the same sampler."""
    steps, count = (10, 32) if quick else (300, 256)
    settings: dict[str, Any] = {"training.steps": steps, "training.warm_up": min(50, steps // 2)}
    exact = GaussianDenoiser.of_prior(make_recipe("gaussian-field").family.prior)
    add_bands(table, "exact denoiser", DiffusionPrior(exact, sigma_max=80.0, sigma_min=0.002), exact, count)
    for label, control in (("control variate", True), ("network alone", False)):
        with cpu_time() as watch:
            prior = train_prior(make_recipe("gaussian-field", settings | {"control_variate": control})).prior
        table.add("gaussian-field, 32 x 32", label, f"training of {steps} steps", watch.seconds, "s")
        add_bands(table, label, prior, exact, count)


def add_bands(table: Table, label: str, prior: DiffusionPrior, exact: GaussianDenoiser, count: int) -> None:
    """Sampled over exact power by band of frequency, with the standard error of its estimate."""
    generator = torch.Generator().manual_seed(1)
    x = prior.sample((count,), generator=generator, sampler="dpm-solver++", calls=40).double()
    found, known = power(x).mean(0), power(exact.sample((4096,), generator=generator).double()).mean(0)
    frequency = radius(x.shape[-1])
    for low, high in BANDS:
        ring = (frequency >= low) & (frequency < high)
        error = (2 / (count * int(ring.sum()))) ** 0.5
        case = f"frequencies {low} to {high}"
        table.add(case, label, "power, sampled / exact", float(found[ring].sum() / known[ring].sum()))
        table.add(case, label, "standard error", error)
    table.add("all", label, "variance, sampled / exact", float(found.sum() / known.sum()))


def power(x: Tensor) -> Tensor:
    """Squared Fourier coefficients, `(n, h, w)`."""
    squared: Tensor = torch.fft.fft2(x, norm="ortho").abs().square()
    return squared


def radius(points: int) -> Tensor:
    """Length of the wave vector, `(points, points)`."""
    axis = torch.fft.fftfreq(points, d=1 / points, dtype=torch.float64)
    return torch.hypot(axis[:, None], axis[None])
