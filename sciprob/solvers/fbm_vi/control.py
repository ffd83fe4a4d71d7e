"""The control of the common noise that a network adds to the guide."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu

from sciprob.random import randn

_WAVES = 3  # pairs of sine and cosine in time
_TIMES = 1 + 2 * _WAVES


@dataclass(frozen=True)
class NetworkShape:
    """A network of (t, z) with two hidden layers, whose weights are one vector.

    Args:
        size: s, x and the Ornstein-Uhlenbeck states, which come with variance of order one.
        width: Of the hidden layers.
        horizon: T.
        center: Typical x `(D,)`.
        spread: Typical deviations of x from it `(D,)`.
    """

    size: int
    width: int
    horizon: float
    center: Tensor
    spread: Tensor

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of weights and biases, layer by layer; the first layer has times before states."""
        dimension, w = len(self.center), self.width
        return ((_TIMES, w), (dimension * self.size, w), (w,), (w, w), (w,), (w, dimension), (dimension,))

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(math.prod(shape) for shape in self.shapes)

    def start(self, generator: torch.Generator) -> Tensor:
        """Random weights of a network that is zero, `(count,)`."""
        inputs = (_TIMES + len(self.center) * self.size) ** -0.5
        gains = (inputs, inputs, 0.0, self.width**-0.5, 0.0, 0.0, 0.0)
        parts = [
            gain * randn((math.prod(shape),), self.center, generator)
            for shape, gain in zip(self.shapes, gains, strict=True)
        ]
        return torch.cat(parts)

    def at(self, weights: Tensor) -> NetworkControl:
        """The control with these weights `(count,)`."""
        parts = weights.split([math.prod(shape) for shape in self.shapes])
        return NetworkControl(self, [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)])


@dataclass(frozen=True)
class NetworkControl:
    """Implements `simulate.Control`."""

    shape: NetworkShape
    parts: Sequence[Tensor]

    def along(self, times: Tensor) -> Sequence[Callable[[Tensor], Tensor]]:
        """One function for each time; time enters through the bias of the first layer."""
        bias, weight = self._first(times)
        return [lambda z, b=b: self._rest(torch.addmm(b, _flat(z), weight)).mT for b in bias.unbind()]  # type: ignore[misc]

    def at_states(self, times: Tensor, states: Tensor) -> Tensor:
        """All times at once, `(N, D, P)`."""
        bias, weight = self._first(times)
        return self._rest(bias[:, None, :] + states.transpose(1, 2).flatten(-2) @ weight).mT

    def _rest(self, hidden: Tensor) -> Tensor:
        *_, second, second_bias, last, last_bias = self.parts
        return silu(silu(hidden) @ second + second_bias) @ last + last_bias

    def _first(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Bias `(N, width)` and weight `(D s, width)` of the first layer for states that are not scaled."""
        by_time, by_state, bias = self.parts[:3]
        shape = self.shape
        scale = torch.ones(len(shape.center), shape.size, dtype=bias.dtype, device=bias.device)
        scale[:, 0] = 1 / shape.spread
        shift = torch.zeros_like(scale)
        shift[:, 0] = shape.center
        phase = math.pi * times[:, None] / shape.horizon
        waves = [2 * times[:, None] / shape.horizon - 1]
        for k in range(1, _WAVES + 1):
            waves += [torch.sin(k * phase), torch.cos(k * phase)]
        weight = by_state * scale.flatten()[:, None]
        return bias - shift.flatten() @ weight + torch.cat(waves, dim=-1) @ by_time, weight


@dataclass(frozen=True)
class BoundedControl:
    """A control that sees x bent into `center` +- `reach`: a diffusion that grows with x throws single paths far out.

    Args:
        control: What gets the bent states.
        center: `(D,)`.
        reach: `(D,)`.
    """

    control: NetworkControl
    center: Tensor
    reach: Tensor

    def along(self, times: Tensor) -> Sequence[Callable[[Tensor], Tensor]]:
        """As `NetworkControl.along`."""
        return [lambda z, inner=inner: inner(self._bent(z)) for inner in self.control.along(times)]  # type: ignore[misc]

    def at_states(self, times: Tensor, states: Tensor) -> Tensor:
        """As `NetworkControl.at_states`."""
        return self.control.at_states(times, self._bent(states))

    def _bent(self, z: Tensor) -> Tensor:
        center, reach = self.center[:, None, None], self.reach[:, None, None]
        return torch.cat([center + reach * torch.tanh((z[..., :1] - center) / reach), z[..., 1:]], dim=-1)


def _flat(z: Tensor) -> Tensor:
    """`(D, P, s)` -> `(P, D s)`."""
    return z[0] if len(z) == 1 else z.transpose(0, 1).flatten(1)
