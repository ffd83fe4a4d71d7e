"""The control of the common noise that a network adds to the guide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

_WAVES = 3  # pairs of sine and cosine in time


class ControlNetwork(nn.Module):
    """v(t, z), two hidden layers; zero at the start of training. Implements `simulate.Control`.

    Args:
        dimension: D.
        size: s, x and the Ornstein-Uhlenbeck states, which come with variance of order one.
        horizon: T.
        center: Typical x `(D,)`.
        spread: Typical deviations of x from it `(D,)`.
        width: Of the two hidden layers.
        generator: Of the initial weights.
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self,
        dimension: int,
        size: int,
        *,
        horizon: float,
        center: Tensor,
        spread: Tensor,
        width: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.horizon = horizon
        past = center.new_zeros(dimension, size - 1)
        self.register_buffer("center", torch.cat([center[:, None], past], dim=-1))
        self.register_buffer("scale", torch.cat([1 / spread[:, None], past + 1], dim=-1))
        inputs = 1 + 2 * _WAVES + dimension * size
        sizes = (inputs, width, width, dimension)
        self.layers = nn.ModuleList(
            nn.Linear(a, b, dtype=center.dtype, device=center.device) for a, b in itertools.pairwise(sizes)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            white = torch.randn(layer.weight.shape, generator=generator, device=generator.device, dtype=center.dtype)
            with torch.no_grad():
                layer.weight.copy_(white.to(center.device) / math.sqrt(layer.in_features))
                layer.bias.zero_()
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]

    def along(self, times: Tensor) -> Sequence[Callable[[Tensor], Tensor]]:
        """One function for each time; time enters through the bias of the first layer."""
        _, second, last = self.layers
        bias, weight = self._first(times)
        return [
            lambda z, b=b: last(silu(second(silu(torch.addmm(b, _flat(z), weight))))).T  # type: ignore[misc]
            for b in bias.unbind()
        ]

    def at_states(self, times: Tensor, states: Tensor) -> Tensor:
        """All times at once, `(N, D, P)`."""
        _, second, last = self.layers
        bias, weight = self._first(times)
        hidden = silu(bias[:, None, :] + states.transpose(1, 2).flatten(-2) @ weight)
        out: Tensor = last(silu(second(hidden)))
        return out.mT

    def _first(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Bias `(N, width)` and weight `(D s, width)` of the first layer for unscaled states."""
        first: Any = self.layers[0]
        phase = math.pi * times[:, None] / self.horizon
        waves = [2 * times[:, None] / self.horizon - 1]
        for k in range(1, _WAVES + 1):
            waves += [torch.sin(k * phase), torch.cos(k * phase)]
        features = torch.cat(waves, dim=-1)
        by_time, by_state = first.weight.split([features.shape[-1], self.scale.numel()], dim=1)
        weight = by_state * self.scale.flatten()
        return first.bias - weight @ self.center.flatten() + features @ by_time.T, weight.T


def _flat(z: Tensor) -> Tensor:
    """`(D, P, s)` -> `(P, D s)`."""
    return z[0] if len(z) == 1 else z.transpose(0, 1).flatten(1)
