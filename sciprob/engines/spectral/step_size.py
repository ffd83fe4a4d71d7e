"""Choice of a time step by step doubling."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.march import March, segments
from sciprob.engines.spectral.schemes import Scheme
from sciprob.errors import ConfigError, ConvergenceError

_HALVINGS = 24


def choose_step(
    equation: SpectralEquation, scheme: Scheme, times: Sequence[float], initial: Tensor | None, tolerance: float
) -> tuple[float, Tensor]:
    """Largest of the steps T, T/2, T/4, ... whose run agrees with its halved run.

    The error of the halved run is estimated by |u_h - u_{h/2}| / (2^order - 1) relative to
    |u_{h/2}|, the largest over the output times; the halved step is returned, and its trajectory
    `(n_times, *state.shape)`. T is the largest interval between output times.

    Raises:
        ConfigError: If the tolerance is not positive.
        ConvergenceError: If no step above T / 2^24 is accurate enough.
    """
    if not tolerance > 0 or initial is None:
        message = f"`tolerance` should be positive, got {tolerance}."
        raise ConfigError(message)
    step = max((b - a for a, b in zip([0.0, *times[:-1]], times, strict=True)), default=1.0) or 1.0
    coarse: Tensor | None = None
    for _ in range(_HALVINGS):
        fine = _run(equation, scheme, times, initial, step)
        if coarse is not None and fine is not None:
            norms = fine.flatten(1).norm(dim=1)
            error = (coarse - fine).flatten(1).norm(dim=1) / torch.where(norms > 0, norms, 1.0)
            if float(error.max()) <= tolerance * (2**scheme.order - 1):
                return step, fine
        coarse, step = fine, step / 2
    message = (
        f"no time step down to {step:g} reaches a relative error of {tolerance:g}; use a larger `tolerance` "
        "(round-off allows about 1e-12), or check the initial state and the parameters."
    )
    raise ConvergenceError(message)


def _run(
    equation: SpectralEquation, scheme: Scheme, times: Sequence[float], initial: Tensor, step: float
) -> Tensor | None:
    """Trajectory from `initial`, or None where the step is too large to stay finite."""
    march = March(equation, scheme, segments(times, step), ("initial",), None, len(times))
    try:
        with torch.no_grad():
            values, _ = march.run((initial[None],), store=False)
    except ConvergenceError:
        return None
    return values[0] if math.isfinite(float(values.sum())) else None
