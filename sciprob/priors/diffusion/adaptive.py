"""Steps of adaptive size, chosen for every member by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ConvergenceError
from sciprob.priors.diffusion.exponential import data_integrals

_MOST_ROUNDS = 10_000
_LARGEST_GROWTH = 5.0


@dataclass(frozen=True)
class AdaptiveSampler:
    """Embedded singlestep pairs of order 2(1) or 3(2) in data form, with step control per member.

    The members of a batch have levels of their own; those that have arrived leave the network's batch. A step is
    kept if rms((z_high - z_low) / max(atol, rtol max(|z_low|, |z|))) <= 1, and the next is 0.9 h E^{-1/order}. After a
    rejection D at the start of the step is used again.

    Args:
        order: 2 or 3, network calls of an accepted step.
        rtol: Relative tolerance.
        atol: Absolute tolerance in the unit of x; 1/128 suits images in [-1, 1].
        first_step: First step in lambda.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Lu et al., NeurIPS 2022, arXiv 2206.00927, appendix C (there the error is the maximum of the batch).
    """

    order: int = 3
    rtol: float = 0.05
    atol: float = 0.0078
    first_step: float = 0.05

    def __post_init__(self) -> None:
        if self.order not in (2, 3) or not min(self.rtol, self.atol, self.first_step) > 0:
            message = (
                "the adaptive sampler has order 2 or 3 and positive tolerances and first step, "
                f"got {self.order}, {self.rtol}, {self.atol}, {self.first_step}."
            )
            raise ConfigError(message)

    def run(
        self,
        denoise: Callable[[Tensor, Tensor], Tensor],
        z: Tensor,
        sigma_max: float,
        sigma_min: float,
        event_axes: int,
    ) -> Tensor:
        """Move z from level sigma_max to sigma_min, and then to D there.

        Args:
            denoise: `(z (B, *shape), sigma (B,))` -> D, e.g. a `Denoiser`.
            z: Members at sigma_max, `(*batch, *shape)`.
            sigma_max: First level.
            sigma_min: Last level above zero.
            event_axes: Number of axes of `shape`.

        Raises:
            ConfigError: If the levels are out of order.
            ConvergenceError: If a step becomes too small, e.g. because a value is not finite.
        """
        if not 0 < sigma_min < sigma_max:
            message = f"noise levels should be 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}."
            raise ConfigError(message)
        shape = z.shape
        z = z.reshape(-1, *shape[z.ndim - event_axes :]).clone()
        place = torch.full((len(z),), -math.log(sigma_max), dtype=torch.float64, device=z.device)
        end = -math.log(sigma_min)
        step = torch.full_like(place, self.first_step)
        first, known = torch.zeros_like(z), torch.zeros(len(z), dtype=torch.bool, device=z.device)
        for _ in range(_MOST_ROUNDS):
            moving = (place < end).nonzero()[:, 0]
            if not len(moving):
                return denoise(z, torch.full_like(place, sigma_min)).reshape(shape)
            new = moving[~known[moving]]
            if len(new):
                first[new] = denoise(z[new], (-place[new]).exp())
                known[new] = True
            h = step[moving].minimum(end - place[moving])
            low, high = self._attempt(denoise, z[moving], first[moving], place[moving], h)
            error = self._error(low, high, z[moving], event_axes)
            accepted = error <= 1
            growth = (0.9 * error.clamp_min(1e-12) ** (-1 / self.order)).clamp(0.1, _LARGEST_GROWTH)
            step[moving] = h * growth.nan_to_num(nan=0.1)
            if bool((step[moving] < 1e-10).any()):
                message = "the adaptive sampler's step became too small; the denoiser is not smooth or not finite."
                raise ConvergenceError(message)
            kept = moving[accepted]
            z[kept] = high[accepted]
            arrived = h[accepted] >= end - place[kept]
            place[kept] = torch.where(arrived, end, place[kept] + h[accepted])
            known[kept] = False
        message = f"the adaptive sampler made {_MOST_ROUNDS} rounds without arriving; raise the tolerances."
        raise ConvergenceError(message)

    def _attempt(
        self, denoise: Callable[[Tensor, Tensor], Tensor], z: Tensor, first: Tensor, place: Tensor, h: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The step with the lower and the higher order."""

        def wide(factor: Tensor) -> Tensor:
            return factor.to(z.dtype).reshape(-1, *(1 for _ in z.shape[1:]))

        def advance(share: float, slope: Tensor | None = None) -> Tensor:
            e0, e1 = data_integrals(share * h, 1.0, 2)
            moved = wide((-share * h).exp()) * z + wide(e0) * first
            return moved if slope is None else moved + wide(e1) * slope

        def slope(share: float, at: Tensor) -> Tensor:
            return (denoise(at, (-place - share * h).exp()) - first) / wide(share * h)

        if self.order == 2:
            return advance(1.0), advance(1.0, slope(0.5, advance(0.5)))
        third = slope(1 / 3, advance(1 / 3))
        return advance(1.0, third), advance(1.0, slope(2 / 3, advance(2 / 3, third)))

    def _error(self, low: Tensor, high: Tensor, z: Tensor, event_axes: int) -> Tensor:
        allowed = (self.rtol * low.abs().maximum(z.abs())).clamp_min(self.atol)
        squares = ((high - low) / allowed).to(torch.float64).square()
        return squares.flatten(1).mean(1).sqrt() if event_axes else squares.sqrt()
