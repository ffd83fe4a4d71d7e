"""Averages of weights along training, which denoise better than the last weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.errors import ConfigError


def power_exponent(width: float) -> float:
    """Gamma of the power-function average whose profile has the relative standard deviation `width`.

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), solved for its positive root.

    Args:
        width: Between 0 and 0.28: 0.1 averages about the last quarter of all steps.

    Raises:
        ConfigError: If `width` is outside of that range.

    Sources: Karras et al., CVPR 2024, arXiv 2312.02696, appendix C.
    """
    if not 0 < width < 0.28:
        message = f"the relative width of a weight average should lie between 0 and 0.28, got {width}."
        raise ConfigError(message)
    lower, upper = 0.0, 10.0 / width
    for _ in range(80):
        middle = (lower + upper) / 2
        wide = (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > width**2
        lower, upper = (middle, upper) if wide else (lower, middle)
    return lower


def update_average(average: Sequence[Tensor], weights: Sequence[Tensor], step: int, exponent: float) -> None:
    """Average <- (1 - 1/step)^(exponent + 1) average + rest * weights, in place.

    After n steps the weights of step t count in proportion to t^exponent, whatever n is; the first step copies.
    """
    keep = (1 - 1 / step) ** (exponent + 1)
    torch._foreach_lerp_(list(average), list(weights), 1 - keep)
