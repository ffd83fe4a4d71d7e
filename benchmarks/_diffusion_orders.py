"""Orders of the prior's samplers on a Gaussian mixture, whose probability flow is integrated to 1e-12 beside them."""

from __future__ import annotations

import math

import numpy as np
import torch
from _diffusion_table import Table
from scipy.integrate import solve_ivp
from torch import Tensor

from sciprob.priors.diffusion.heun import HeunSampler
from sciprob.priors.diffusion.levels import karras_levels, log_snr_levels
from sciprob.priors.diffusion.mixture import MixtureDenoiser
from sciprob.priors.diffusion.sampler import MultistepSampler, SinglestepSampler

FIRST, LAST = 80.0, 0.02
SAMPLERS = {
    "ddim": MultistepSampler(1),
    "multistep 2, data": MultistepSampler(2),
    "multistep 3, data": MultistepSampler(3),
    "singlestep 2, data": SinglestepSampler(2, "data"),
    "singlestep 3, data": SinglestepSampler(3, "data"),
    "multistep 2, noise": MultistepSampler(2, "noise"),
    "multistep 3, noise": MultistepSampler(3, "noise"),
    "singlestep 2, noise": SinglestepSampler(2, "noise"),
    "singlestep 3, noise": SinglestepSampler(3, "noise"),
    "Heun": HeunSampler(),
}


def mixture() -> MixtureDenoiser:
    """Five components in four dimensions."""
    generator = torch.Generator().manual_seed(3)
    means = 1.5 * torch.randn(5, 4, generator=generator, dtype=torch.float64)
    roots = 0.3 * torch.randn(5, 4, 4, generator=generator, dtype=torch.float64)
    covariances = roots @ roots.mT + 0.02 * torch.eye(4, dtype=torch.float64)
    return MixtureDenoiser(torch.rand(5, generator=generator, dtype=torch.float64) + 0.2, means, covariances)


def exact_flow(denoiser: MixtureDenoiser, start: Tensor) -> Tensor:
    """Where the probability flow carries `start` from the first to the last level."""

    def velocity(place: float, flat: np.ndarray) -> np.ndarray:
        z = torch.from_numpy(flat.reshape(start.shape))
        moved: np.ndarray = (denoiser(z, math.exp(-place)) - z).numpy().ravel()
        return moved

    span = (-math.log(FIRST), -math.log(LAST))
    solution = solve_ivp(velocity, span, start.numpy().ravel(), method="DOP853", rtol=1e-12, atol=1e-13)
    return torch.from_numpy(solution.y[:, -1].reshape(start.shape))


def bench_orders(table: Table) -> None:
    """Median error of 64 flows at 80 to 640 steps (the mean is that of the few near a ridge), order by regression."""
    denoiser = mixture()
    start = FIRST * torch.randn(64, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    end = exact_flow(denoiser, start)
    for name, method in SAMPLERS.items():
        grid = karras_levels if name == "Heun" else log_snr_levels
        steps, errors = (80, 160, 320, 640), []
        for count in steps:
            before = denoiser.calls
            levels = grid(count + 1, FIRST, LAST)[:-1]
            reached = method.run(denoiser, start, levels)
            errors.append(float((reached - end).norm(dim=1).median()))
            assert denoiser.calls - before == method.calls(levels)
            table.add(f"{count} steps, {method.calls(levels)} calls", name, "median error", errors[-1])
        slope = np.polyfit(np.log(steps[1:]), np.log(errors[1:]), 1)[0]
        table.add("order by regression", name, "order", -float(slope))
