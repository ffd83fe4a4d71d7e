"""Samplers by name for a given number of network calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from sciprob.config import did_you_mean
from sciprob.errors import ConfigError
from sciprob.priors.diffusion.heun import HeunSampler
from sciprob.priors.diffusion.levels import karras_levels, log_snr_levels
from sciprob.priors.diffusion.sampler import Denoise, MultistepSampler, SinglestepSampler, fast_orders


class Sampler(Protocol):
    """What all samplers with a fixed grid of levels do."""

    def calls(self, levels: Tensor) -> int:
        """Network calls of a run over these levels."""
        ...

    def run(self, denoise: Denoise, z: Tensor, levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Move z from the first level to the last."""
        ...


Preset = Callable[[int, float, float], tuple[Sampler, Tensor]]


def ddim(calls: int, sigma_max: float, sigma_min: float) -> tuple[Sampler, Tensor]:
    """DDIM: order 1, `calls` steps uniform in lambda."""
    return MultistepSampler(order=1), log_snr_levels(calls, sigma_max, sigma_min)


def dpm_solver(calls: int, sigma_max: float, sigma_min: float) -> tuple[Sampler, Tensor]:
    """DPM-Solver-fast: noise form, singlestep, as many steps of order 3 as fit; the last call denoises at sigma_min."""
    orders = fast_orders(calls - 1)
    return SinglestepSampler((*orders, 1), "noise"), log_snr_levels(len(orders) + 1, sigma_max, sigma_min)


def dpm_solver_pp(calls: int, sigma_max: float, sigma_min: float) -> tuple[Sampler, Tensor]:
    """DPM-Solver++(2M): data form, multistep, order 2, `calls` steps uniform in lambda."""
    return MultistepSampler(order=2), log_snr_levels(calls, sigma_max, sigma_min)


def edm_heun(calls: int, sigma_max: float, sigma_min: float) -> tuple[Sampler, Tensor]:
    """EDM: Heun's method without churn on Karras levels, n steps with 2 n - 1 <= calls."""
    return HeunSampler(), karras_levels((calls + 1) // 2, sigma_max, sigma_min)


PRESETS: dict[str, Preset] = {
    "ddim": ddim,
    "dpm-solver": dpm_solver,
    "dpm-solver++": dpm_solver_pp,
    "edm-heun": edm_heun,
}


def make_sampler(name: str, calls: int, sigma_max: float, sigma_min: float) -> tuple[Sampler, Tensor]:
    """A sampler and its levels, which end in 0.

    Args:
        name: `ddim`, `dpm-solver`, `dpm-solver++` or `edm-heun`.
        calls: Network calls, at least 1; `edm-heun` makes one less if it is even.
        sigma_max: First level.
        sigma_min: Last level above zero.

    Raises:
        ConfigError: For an unknown name, or a number of calls or levels out of range.
    """
    if name not in PRESETS:
        message = f"unknown sampler `{name}`; {did_you_mean(name, PRESETS)}"
        raise ConfigError(message)
    return PRESETS[name](calls, sigma_max, sigma_min)
