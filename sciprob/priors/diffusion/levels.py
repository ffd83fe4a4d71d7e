"""Grids of noise levels from the largest to zero."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.path import Path


def karras_levels(steps: int, sigma_max: float, sigma_min: float, rho: float = 7.0) -> Tensor:
    """Levels uniform in sigma^{1/rho} from sigma_max to sigma_min, then 0: `(steps + 1,)`, float64.

    Args:
        steps: Number of steps, the last of which goes to zero.
        sigma_max: First level.
        sigma_min: Last level above zero; the single positive level is sigma_max if `steps` is 1.
        rho: 7 for images; 1 is uniform in sigma, larger values put more levels at small noise.

    Raises:
        ConfigError: If steps, levels or rho are out of range.

    Sources: Karras, Aittala, Aila, Laine, NeurIPS 2022, arXiv 2206.00364, eq. 5.
    """
    _check(steps, sigma_max, sigma_min)
    if not rho > 0:
        message = f"`rho` should be positive, got {rho}."
        raise ConfigError(message)
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    roots = sigma_max ** (1 / rho) + share * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))
    return _to_zero(roots**rho, sigma_max, sigma_min)


def log_snr_levels(steps: int, sigma_max: float, sigma_min: float) -> Tensor:
    """Levels uniform in lambda = -log sigma from sigma_max to sigma_min, then 0: `(steps + 1,)`, float64.

    Args:
        steps: Number of steps, the last of which goes to zero.
        sigma_max: First level.
        sigma_min: Last level above zero.

    Raises:
        ConfigError: If steps or levels are out of range.
    """
    _check(steps, sigma_max, sigma_min)
    logs = torch.linspace(0, 1, steps, dtype=torch.float64) * torch.log(
        torch.tensor(sigma_min / sigma_max, dtype=torch.float64)
    )
    return _to_zero(sigma_max * logs.exp(), sigma_max, sigma_min)


def path_levels(path: Path, steps: int, sigma_max: float, sigma_min: float) -> Tensor:
    """Levels uniform in a path's time from sigma_max to sigma_min, then 0: `(steps + 1,)`, float64.

    Args:
        path: Noise schedule; `VariancePreserving()` gives the levels of DDPM's linear schedule.
        steps: Number of steps, the last of which goes to zero.
        sigma_max: First level.
        sigma_min: Last level above zero.

    Raises:
        ConfigError: If steps or levels are out of range.
    """
    _check(steps, sigma_max, sigma_min)
    first, last = path.time_of_level(torch.tensor([sigma_max, sigma_min], dtype=torch.float64))
    times = first + torch.linspace(0, 1, steps, dtype=torch.float64) * (last - first)
    return _to_zero(path.sigma(times), sigma_max, sigma_min)


def _to_zero(levels: Tensor, sigma_max: float, sigma_min: float) -> Tensor:
    levels[0] = sigma_max
    if len(levels) > 1:
        levels[-1] = sigma_min
    return torch.cat([levels, levels.new_zeros(1)])


def _check(steps: int, sigma_max: float, sigma_min: float) -> None:
    if steps < 1:
        message = f"a grid of noise levels needs at least 1 step, got {steps}."
        raise ConfigError(message)
    if not 0 < sigma_min < sigma_max:
        message = f"noise levels should be 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}."
        raise ConfigError(message)
