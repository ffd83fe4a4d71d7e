r"""One exponential integrator for the reverse-time ODE and SDE of any denoiser, of order 1, 2 or 3.

In z with lambda = -log sigma every linear path has the flow and the family of SDEs with equal marginals

    dz = (1 + eta) (D(z) - z) dlambda + sqrt(2 eta) e^{-lambda} dW,

eta = 0 the probability flow. Over a step h the linear part is exact and the denoiser is replaced by a polynomial
in lambda, either as D itself (data form) or as the noise (z - D) / sigma (noise form).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.exponential import data_integrals, derivative_weights, noise_integrals
from sciprob.random import randn

Denoise = Callable[[Tensor, float], Tensor]


def check_levels(levels: Tensor) -> list[float]:
    """Noise levels as numbers.

    Raises:
        ConfigError: If they are not at least two that fall, all positive but possibly the last.
    """
    values = [float(level) for level in levels]
    falling = all(a > b for a, b in pairwise(values))
    if len(values) < 2 or not falling or values[-1] < 0 or not math.isfinite(values[0]):
        message = f"noise levels should be at least two, finite and falling to a last one >= 0, got {values[:4]}..."
        raise ConfigError(message)
    return values


@dataclass(frozen=True)
class MultistepSampler:
    """The integrator with the denoiser of earlier steps as nodes: one network call per step.

    The first steps have the order that the nodes there are allow. A step to level 0 is z = D(z). Orders 1, 2, 3
    are those of the flow's error; with eta > 0 the laws converge with weak order 1 and 2 (2 at most).

    The third derivative enters with its full Taylor weight. Public codes halve it, which costs one order.

    Args:
        order: 1 (DDIM), 2 or 3.
        form: "data" (DPM-Solver++) or "noise" (DPM-Solver). The data form is the more stable one wherever D
            varies quickly, e.g. under guidance by a likelihood.
        eta: 0 the probability flow, 1 the reverse SDE (ancestral sampling at order 1).
        midpoint: For order 2, weight E_0 h / 2 of the slope instead of the exact E_1: of the same order, and with
            smaller errors at few steps.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Song, Meng, Ermon, ICLR 2021, arXiv 2010.02502 (order 1); Lu et al., NeurIPS 2022, arXiv 2206.00927
    and arXiv 2211.01095; Hochbruck and Ostermann, Acta Numerica 19 (2010).
    """

    order: int = 2
    form: Literal["data", "noise"] = "data"
    eta: float = 0.0
    midpoint: bool = True

    def __post_init__(self) -> None:
        _check(self.order, self.form)
        if not 0 <= self.eta < math.inf:
            message = f"`eta` of a sampler should be finite and not negative, got {self.eta}."
            raise ConfigError(message)

    def calls(self, levels: Tensor) -> int:
        """Network calls of a run over these levels."""
        return len(levels) - 1

    def run(self, denoise: Denoise, z: Tensor, levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Move z from the first level to the last.

        Args:
            denoise: `(z, sigma)` -> D, e.g. a `Denoiser`, or one changed by a likelihood: D + sigma^2 grad log L.
            z: Members at the first level, `(*batch, *shape)`.
            levels: `(steps + 1,)`, falling, the last one may be 0.
            generator: Noise, for eta > 0. Draws are made for the whole batch at once, so that a member's noise
                depends on the shape of the batch.

        Raises:
            ConfigError: For wrong levels, or a missing generator.
        """
        sigmas = check_levels(levels)
        if self.eta > 0 and generator is None:
            message = "a sampler with eta > 0 needs a `generator`."
            raise ConfigError(message)
        nodes: list[float] = []
        values: list[Tensor] = []
        for start, end in pairwise(sigmas):
            denoised = denoise(z, start)
            if end == 0:
                return denoised
            nodes = [-math.log(start), *nodes][: self.order]
            values = [denoised if self.form == "data" else (z - denoised) / start, *values][: self.order]
            decay, weights, spread = self._step(nodes, -math.log(end))
            z = decay * z
            for weight, value in zip(weights, values, strict=True):
                z = z + weight * value
            if generator is not None and spread > 0:
                z = z + spread * randn(tuple(z.shape), z, generator)
        return z

    def _step(self, nodes: list[float], end: float) -> tuple[float, list[float], float]:
        """Factor of z, weights of the nodes' values, and standard deviation of the noise."""
        h, count = end - nodes[0], len(nodes)
        step, sigma = torch.tensor(h, dtype=torch.float64), math.exp(-end)
        derivatives = derivative_weights(nodes)
        if self.form == "data":
            integrals = [float(e) for e in data_integrals(step, 1 + self.eta, count)]
            decay, spread = math.exp(-(1 + self.eta) * h), sigma * math.sqrt(-math.expm1(-2 * self.eta * h))
        else:
            integrals = [-(1 + self.eta) * sigma * float(g) for g in noise_integrals(step, count)]
            decay, spread = 1.0, sigma * math.sqrt(self.eta * math.expm1(2 * h))
        if count == 2 and self.order == 2 and self.midpoint:
            integrals[1] = integrals[0] * h / 2
        weights = [sum(e * d[j] for e, d in zip(integrals, derivatives, strict=True)) for j in range(count)]
        return decay, weights, spread


@dataclass(frozen=True)
class SinglestepSampler:
    """The integrator with nodes inside each step: `order` network calls per step, no history. Flow only.

    Order 2 has its node at half the step, order 3 at one and two thirds. A step to level 0 is z = D(z), one call.

    Args:
        order: 1, 2 or 3, or one order per step.
        form: "data" (DPM-Solver++) or "noise" (DPM-Solver).

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Lu et al., NeurIPS 2022, arXiv 2206.00927, algorithms 1 and 2, and arXiv 2211.01095.
    """

    order: int | tuple[int, ...] = 3
    form: Literal["data", "noise"] = "noise"

    def __post_init__(self) -> None:
        for order in (self.order,) if isinstance(self.order, int) else self.order:
            _check(order, self.form)

    def orders(self, levels: Tensor) -> list[int]:
        """Order, and number of network calls, of each step.

        Raises:
            ConfigError: If there is not one order per step.
        """
        steps = len(levels) - 1
        orders = [self.order] * steps if isinstance(self.order, int) else list(self.order)
        if len(orders) != steps:
            message = f"{steps} steps need as many orders, got {len(orders)}."
            raise ConfigError(message)
        return [*orders[:-1], 1] if float(levels[-1]) == 0 else orders

    def calls(self, levels: Tensor) -> int:
        """Network calls of a run over these levels."""
        return sum(self.orders(levels))

    def run(self, denoise: Denoise, z: Tensor, levels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Move z from the first level to the last; as `MultistepSampler.run`, without noise."""
        sigmas = check_levels(levels)
        for start, end, order in zip(sigmas, sigmas[1:], self.orders(levels), strict=False):
            z = denoise(z, start) if end == 0 else self._step(denoise, z, start, end, order)
        return z

    def _step(self, denoise: Denoise, z: Tensor, start: float, end: float, order: int) -> Tensor:
        h = math.log(start / end)

        def value(at: Tensor, share: float) -> Tensor:
            sigma = start * math.exp(-share * h)
            denoised = denoise(at, sigma)
            return denoised if self.form == "data" else (at - denoised) / sigma

        def advance(share: float, first: Tensor, slope: Tensor | None = None, exact: bool = True) -> Tensor:
            """Z after a share of the step, where D (or the noise) is `first` + u `slope`, u in lambda."""
            e0, e1 = self._integrals(share * h, start)
            moved = math.exp(-share * h) * z + e0 * first if self.form == "data" else z + e0 * first
            return moved if slope is None else moved + (e1 if exact else e0 * h / 2) * slope

        first = value(z, 0.0)
        if order == 1:
            return advance(1.0, first)
        if order == 2:
            middle = value(advance(0.5, first), 0.5)
            return advance(1.0, first, (middle - first) / (0.5 * h), exact=False)
        third = value(advance(1 / 3, first), 1 / 3)
        two_thirds = value(advance(2 / 3, first, (third - first) / (h / 3)), 2 / 3)
        return advance(1.0, first, (two_thirds - first) / (2 * h / 3))

    def _integrals(self, h: float, start: float) -> tuple[float, float]:
        step = torch.tensor(h, dtype=torch.float64)
        if self.form == "data":
            e0, e1 = data_integrals(step, 1.0, 2)
            return float(e0), float(e1)
        scale = -start * math.exp(-h)
        g0, g1 = noise_integrals(step, 2)
        return scale * float(g0), scale * float(g1)


def fast_orders(calls: int) -> tuple[int, ...]:
    """Orders of singlestep methods that use `calls` network calls with as many steps of order 3 as possible.

    Sources: Lu et al., NeurIPS 2022, arXiv 2206.00927, section 3.4 ("DPM-Solver-fast").
    """
    thirds, rest = divmod(calls, 3)
    if rest == 0 and thirds > 0:
        return (*[3] * (thirds - 1), 2, 1)
    return (*[3] * thirds, rest) if rest else ()


def _check(order: int, form: str) -> None:
    if order not in (1, 2, 3) or form not in ("data", "noise"):
        message = f"a sampler has order 1, 2 or 3 and form data or noise, got {order!r} and {form!r}."
        raise ConfigError(message)
