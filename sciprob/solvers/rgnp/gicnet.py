"""GICNet: a network whose input is a field sampled at any points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError, ShapeError
from sciprob.solvers.rgnp.set_interpolation import kernel_interpolation

_KERNEL = {1: 3, 2: 2, 3: 2}  # width of the convolutions by dimension
_GRID = {1: 16, 2: 10, 3: 8}
_GAIN = 1.68  # E swish(x)^2 = 1 / 1.68^2 for standard normal x
_CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class GICShape:
    """What a `GICNet` is built from.

    Args:
        channels: Lifted channels, each with a length scale of its own.
        grid: Nodes per axis; 0 for 16, 10 or 8 in one, two or three dimensions.
        lifts: Dense layers of the pointwise lift.
        convolutions: Convolutional layers.
        width: Units of the dense layers.

    Raises:
        ConfigError: If a number is too small.
    """

    channels: int = 12
    grid: int = 0
    lifts: int = 4
    convolutions: int = 4
    width: int = 64

    def __post_init__(self) -> None:
        if min(self.channels, self.lifts, self.convolutions, self.width) < 1 or self.grid < 0:
            message = f"a GICNet needs at least one channel, lift, convolution and unit, got {self}."
            raise ConfigError(message)


class GICNet(nn.Module):
    r"""Outputs of a field's values at any number of points, wherever they are, in any order.

    Values are lifted pointwise, interpolated to a fixed grid with one length scale per channel
    (`kernel_interpolation`), and read by a convolutional network; a second branch reads the side
    vector. The logarithm of the density of points near each node is a channel too, so that the
    network can tell clustered from even designs. Length scales stay above half the spacing of the grid.

    Args:
        dim: Coordinates of points, 1 to 3.
        values: Numbers per point.
        side: Numbers per set, may be 0.
        outputs: Numbers out.
        shape: Channels, grid, layers.
        generator: Randomness of the initial weights: normal, of the size that keeps signals from fading on their
            way through so many layers; biases zero.

    Raises:
        ConfigError: If the dimension is not 1, 2 or 3, or the convolutions do not fit the grid.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    nodes: Tensor

    def __init__(
        self, dim: int, values: int, side: int, outputs: int, shape: GICShape, generator: torch.Generator
    ) -> None:
        super().__init__()
        if dim not in _KERNEL:
            message = f"GICNet knows points in one to three dimensions, got {dim}."
            raise ConfigError(message)
        grid, shrink = shape.grid or _GRID[dim], (_KERNEL[dim] - 1) * shape.convolutions
        if grid <= shrink:
            message = f"{shape.convolutions} convolutions need a grid of more than {shrink} nodes per axis, got {grid}."
            raise ConfigError(message)
        axis = torch.linspace(-1, 1, grid, dtype=torch.float64)
        self.dim, self.grid, self.values, self.shape = dim, grid, values, shape
        self.register_buffer("nodes", torch.cartesian_prod(*[axis] * dim).reshape(-1, dim))
        self.shortest = 1 / (grid - 1)  # half a spacing
        lengths = torch.logspace(0, math.log10(1.5 * self.shortest), shape.channels, dtype=torch.float64)
        self.raw_lengths = nn.Parameter((lengths - self.shortest).log())
        p, width = shape.channels, shape.width
        self.lift = _dense([values] + [p] * shape.lifts)
        convolution = _CONVOLUTIONS[dim]
        channels = [dim + 2 * p] + [2 * p] * shape.convolutions
        self.convolutions = nn.ModuleList(
            convolution(a, b, _KERNEL[dim], dtype=torch.float64) for a, b in pairwise(channels)
        )
        flat = channels[-1] * (grid - shrink) ** dim
        # two linear layers in a row, as published: a product of low rank
        self.branch = nn.Sequential(*(nn.Linear(a, b, dtype=torch.float64) for a, b in ((flat, width), (width, width))))
        self.trunk = _dense([side, width, width, width]) if side else None
        head = _dense([2 * width if side else width] + [width] * 4)
        self.head = nn.Sequential(*head, nn.Linear(width, outputs, dtype=torch.float64))
        linear = {id(layer) for layer in (*self.branch, self.head[-1])}
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                fan_in = module.weight[0].numel()
                gain = 1.0 if id(module) in linear else _GAIN
                nn.init.normal_(module.weight, std=gain / math.sqrt(max(fan_in, 1)), generator=generator)
                nn.init.zeros_(cast(Tensor, module.bias))

    @property
    def lengths(self) -> Tensor:
        """Length scales `(channels,)`, above half the spacing of the grid."""
        return self.shortest + self.raw_lengths.exp()

    def forward(self, points: Tensor, values: Tensor, side: Tensor, log_weights: Tensor | None = None) -> Tensor:
        """Outputs `(*batch, outputs)`.

        Args:
            points: `(*batch, m, d)`, m > 0, scaled so that the domain fills [-1, 1]^d.
            values: `(*batch, m, values)`.
            side: `(*batch, side)`.
            log_weights: Logarithms of the points' weights `(*batch, m)`; -inf for points that are padding.

        Raises:
            ShapeError: If points or values have another number of columns.
            DataError: If there is no point.
        """
        if points.shape[-1] != self.dim or values.shape[-1] != self.values:
            message = (
                f"points and values should have {self.dim} and {self.values} columns, "
                f"got {tuple(points.shape)} and {tuple(values.shape)}."
            )
            raise ShapeError(message)
        image = self.images(points, values, log_weights)
        batch = image.shape[: -1 - self.dim]
        hidden = image.reshape(batch.numel(), *image.shape[len(batch) :])
        for layer in self.convolutions:
            hidden = nn.functional.silu(layer(hidden))
        hidden = self.branch(hidden.flatten(1))
        hidden = hidden.reshape(*batch, hidden.shape[-1])
        if self.trunk is not None:
            hidden = torch.cat([self.trunk(side).expand(hidden.shape), hidden], dim=-1)
        outputs: Tensor = self.head(hidden)
        return outputs

    def images(self, points: Tensor, values: Tensor, log_weights: Tensor | None = None) -> Tensor:
        """What the convolutions read: coordinates, interpolated channels and densities `(*batch, d + 2 p, *grid)`."""
        averages, density = kernel_interpolation(points, self.lift(values), self.nodes, self.lengths, log_weights)
        # far from all points the log density falls like a squared distance; damped, it stays of order one
        damped = -(1 - density.clamp_max(0)).log()
        coordinates = self.nodes.expand(*averages.shape[:-1], self.dim)
        stacked = torch.cat([coordinates, averages, damped], dim=-1).mT
        return stacked.reshape(*stacked.shape[:-1], *(self.grid,) * self.dim)


def _dense(widths: list[int]) -> nn.Sequential:
    """Dense layers, each followed by swish."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b, dtype=torch.float64), nn.SiLU()]
    return nn.Sequential(*layers)
