"""A network of one point and its parameters: the mean of a field, at any point of the domain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError, ShapeError
from sciprob.pde.jet import Jet
from sciprob.spaces.shapes import broadcast_shapes

Activation = Literal["tanh", "silu"]
_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "silu": nn.SiLU}


@dataclass(frozen=True)
class NetworkShape:
    """What a `PointNetwork` is built from, besides the box of its points.

    Args:
        width: Units of each hidden layer.
        depth: Hidden layers.
        harmonics: Frequencies per coordinate; the k-th has k quarter periods across half the box.
        activation: `tanh` or `silu`.

    Raises:
        ConfigError: If a number is too small or the activation unknown.
    """

    width: int = 40
    depth: int = 3
    harmonics: int = 4
    activation: Activation = "tanh"

    def __post_init__(self) -> None:
        if self.width < 1 or self.depth < 1 or self.harmonics < 0:
            message = f"a network needs width and depth of at least 1 and harmonics of at least 0, got {self}."
            raise ConfigError(message)
        if self.activation not in _ACTIVATIONS:
            message = f"`activation` should be one of {', '.join(_ACTIVATIONS)}, got {self.activation!r}."
            raise ConfigError(message)


class PointNetwork(nn.Module):
    """n(x, q): a multilayer perceptron on x, sin(k pi x / 2), cos(k pi x / 2) and q, x scaled to [-1, 1].

    All learnt parameters are those of linear layers, which is what per-sample Jacobians are formed
    from (`sample_jacobian`). Points may be jets, so that derivatives come in one pass; gradients,
    `torch.func.functional_call` and `vmap` work through it.

    Args:
        lower: Lower corner of the box of points, `(d,)`.
        upper: Upper corner.
        parameters: Number of parameters q, in unit scale.
        outputs: Number of outputs.
        shape: Widths, depth, frequencies, activation.
        generator: Randomness of the initial weights: Glorot's normal ones, biases zero.

    Raises:
        ConfigError: If the box is empty.
    """

    centre: Tensor
    reach: Tensor
    frequencies: Tensor

    def __init__(
        self,
        lower: Sequence[float],
        upper: Sequence[float],
        parameters: int,
        outputs: int,
        shape: NetworkShape,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        low, high = (torch.tensor(tuple(corner), dtype=torch.float64) for corner in (lower, upper))
        if low.shape != high.shape or not bool((low < high).all()):
            message = f"the box of a network should have lower < upper, got {tuple(lower)} and {tuple(upper)}."
            raise ConfigError(message)
        d = len(low)
        steps = 0.5 * math.pi * torch.arange(1, shape.harmonics + 1, dtype=torch.float64)
        frequencies = torch.einsum("k,ij->kij", steps, torch.eye(d, dtype=torch.float64)).reshape(-1, d)
        self.register_buffer("centre", (low + high) / 2)
        self.register_buffer("reach", (high - low) / 2)
        self.register_buffer("frequencies", frequencies)
        self.parameters_in = parameters
        widths = [d * (1 + 2 * shape.harmonics) + parameters] + [shape.width] * shape.depth + [outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b, dtype=torch.float64) for a, b in itertools.pairwise(widths))
        self.activation = _ACTIVATIONS[shape.activation]()
        for layer in self.layers:
            linear = cast(nn.Linear, layer)
            nn.init.xavier_normal_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)

    def forward(self, points: Tensor | Jet, parameters: Tensor) -> Tensor | Jet:
        """Outputs `(*batch, n, outputs)`.

        Args:
            points: `(*batch, n, d)`, or their jet.
            parameters: `(*batch, n, p)` or `(*batch, 1, p)` in unit scale.

        Raises:
            ShapeError: If the number of parameters is wrong.
        """
        if parameters.shape[-1] != self.parameters_in:
            message = f"the network takes {self.parameters_in} parameters, got {tuple(parameters.shape)}."
            raise ShapeError(message)
        hidden = self._features(points, parameters)
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        output: Tensor | Jet = self.layers[-1](hidden)
        return output

    def _features(self, points: Tensor | Jet, parameters: Tensor) -> Tensor:
        scaled = (points - self.centre) * self.reach.reciprocal()
        lead = broadcast_shapes(points.shape[:-1], parameters.shape[:-1])
        parts = [scaled, parameters.expand(*lead, self.parameters_in)]
        if len(self.frequencies):
            angles = nn.functional.linear(cast(Tensor, scaled), self.frequencies)
            parts += [torch.sin(angles), torch.cos(angles)]
        if isinstance(scaled, Tensor):
            parts = [part.expand(*lead, part.shape[-1]) for part in cast(list[Tensor], parts)]
        return torch.cat(cast(list[Tensor], parts), dim=-1)
