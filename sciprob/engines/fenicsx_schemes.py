"""Time steps of implicit schemes: the theta scheme and the second backward difference formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sciprob.errors import ConfigError

Scheme = Literal["bdf2", "theta"]


@dataclass(frozen=True)
class Step:
    """One step of M (a_0 U_n + a_1 U_{n-1} + a_2 U_{n-2}) + theta R(U_n) + (1 - theta) R(U_{n-1}) = 0.

    Args:
        number: n, from 1.
        before: Time of U_{n-1}.
        time: Time of U_n.
        weights: `(a_0, a_1, a_2)`; all zero for a steady problem.
        theta: Weight of the new state.
    """

    number: int
    before: float
    time: float
    weights: tuple[float, float, float]
    theta: float

    @property
    def kind(self) -> bytes:
        """Equal for steps with the same coefficients, whose matrices are equal if the equation is linear."""
        return repr((self.weights, self.theta)).encode()


STEADY = (Step(1, 0.0, 0.0, (0.0, 0.0, 0.0), 1.0),)


def time_steps(times: Sequence[float], step: float, scheme: Scheme, theta: float) -> tuple[list[Step], list[int]]:
    """Equal steps from time 0 to the last output, and the numbers of the steps that end at outputs.

    BDF2 has two levels behind it; its first step is one of the theta scheme with theta = 1
    (backward Euler), whose local error O(step^2) leaves the global order 2.

    Args:
        times: Output times, increasing, from 0 on; multiples of `step`.
        step: Length of the steps.
        scheme: `"bdf2"` (second order, strongly damping) or `"theta"`.
        theta: 1/2 (second order, conserving) to 1 (first order, damping); of the theta scheme.

    Raises:
        ConfigError: If a setting is out of range or an output is no multiple of the step.
    """
    _check(times, step, scheme, theta)
    outputs = [round(time / step) for time in times]
    steps = []
    for n in range(1, outputs[-1] + 1):
        a: tuple[float, float, float] = (1 / step, -1 / step, 0.0)
        weight = theta if scheme == "theta" else 1.0
        if scheme == "bdf2" and n > 1:
            a = (1.5 / step, -2 / step, 0.5 / step)
        steps.append(Step(n, (n - 1) * step, n * step, a, weight))
    return steps, outputs


def _check(times: Sequence[float], step: float, scheme: str, theta: float) -> None:
    if scheme not in ("bdf2", "theta"):
        message = f"`scheme` should be 'bdf2' or 'theta', got {scheme!r}."
        raise ConfigError(message)
    if not 0.5 <= theta <= 1.0:
        message = f"`theta` should lie in [0.5, 1], where the scheme is stable for every step, got {theta:g}."
        raise ConfigError(message)
    if not step > 0 or not np.isfinite(step):
        message = f"`step` should be positive, got {step:g}."
        raise ConfigError(message)
    t = np.asarray(times, dtype=np.float64)
    if t.ndim != 1 or not len(t) or not np.isfinite(t).all() or t[0] < 0 or (np.diff(t) <= 0).any() or t[-1] == 0:
        message = f"`times` should increase from 0 on and end after it, got {list(times)}."
        raise ConfigError(message)
    off = np.abs(t / step - np.round(t / step))
    if off.max() > 1e-6 * max(1.0, t[-1] / step):
        worst = float(t[int(off.argmax())])
        nearest = worst / max(1, round(worst / step))
        message = f"the output time {worst:g} is no multiple of the step {step:g}; take for instance {nearest:.6g}."
        raise ConfigError(message)
