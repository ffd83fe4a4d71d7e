"""A compact U-Net for fields on grids of one, two or three dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciprob.errors import ConfigError

_GROUPS = 8  # of channels that are normalised together
Padding = Literal["zeros", "circular", "reflect"]

_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_POOLS: dict[int, Any] = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@dataclass(frozen=True)
class UNetShape:
    """What a `UNet` is built from, besides the shape of its fields.

    Args:
        width: Channels at the finest level, a multiple of 8.
        factors: Channels of each level as multiples of the width, the finest first; each level halves the grid.
        blocks: Residual blocks of a level on the way down; one more on the way up.
        stem: Blocks of this many points a side become channels before the first level, so that a field of
            128 x 128 with 4 costs what one of 32 x 32 costs.
        attention: Self-attention between all points of the coarsest level.
        padding: How fields go on beyond the grid: `zeros`, `circular` for periodic fields, `reflect`.
        coordinates: Give the network the place of each point, for fields whose law is not stationary.

    Raises:
        ConfigError: If a number is too small or the width is no multiple of 8.
    """

    width: int = 48
    factors: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    stem: int = 1
    attention: bool = True
    padding: Padding = "zeros"
    coordinates: bool = False

    def __post_init__(self) -> None:
        if self.width < _GROUPS or self.width % _GROUPS:
            message = f"`width` should be a positive multiple of {_GROUPS}, got {self.width}."
            raise ConfigError(message)
        if not self.factors or min(*self.factors, self.blocks, self.stem) < 1:
            message = (
                "a U-Net needs at least one level and factors, blocks and stem of at least 1, "
                f"got {self.factors}, {self.blocks} and {self.stem}."
            )
            raise ConfigError(message)


class NoiseEmbedding(nn.Module):
    """Features of the noise level: sines and cosines of log sigma, then two linear layers.

    Args:
        features: Number of features, even.
    """

    frequencies: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        # periods from 20 to 0.6 in log sigma: the range of levels spans about 11, and D changes over about 1
        frequencies = 2 * math.pi / torch.logspace(math.log10(20), math.log10(0.6), features // 2)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(features, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU())

    def forward(self, log_sigma: Tensor) -> Tensor:
        """Features `(B, features)` of `log_sigma (B,)`."""
        phase = log_sigma[:, None] * self.frequencies
        features: Tensor = self.layers(torch.cat([phase.cos(), phase.sin()], dim=1))
        return features


class ResidualBlock(nn.Module):
    """x + conv(norm(conv(norm(x))) scaled and shifted by the noise level); the last layer starts at zero."""

    def __init__(self, dimension: int, channels: tuple[int, int], features: int, padding: Padding) -> None:
        super().__init__()
        conv, (before, after) = _CONVOLUTIONS[dimension], channels
        self.first_norm = nn.GroupNorm(_GROUPS, before)
        self.first = conv(before, after, 3, padding=1, padding_mode=padding)
        self.modulation = nn.Linear(features, 2 * after)
        self.second_norm = nn.GroupNorm(_GROUPS, after)
        self.second = conv(after, after, 3, padding=1, padding_mode=padding)
        self.shortcut = nn.Identity() if before == after else conv(before, after, 1)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Values `(B, after, *grid)` of `x (B, before, *grid)`."""
        h = self.first(functional.silu(self.first_norm(x)))
        scale, shift = self.modulation(features).reshape(len(x), -1, *(1 for _ in x.shape[2:])).chunk(2, dim=1)
        h = self.second(functional.silu(self.second_norm(h) * (1 + scale) + shift))
        result: Tensor = self.shortcut(x) + h
        return result


class SelfAttention(nn.Module):
    """x + attention between all points of the grid, in heads of 32 channels or one of all; starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // 32, 1) if channels % 32 == 0 else 1
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.inward = nn.Linear(channels, 3 * channels)
        self.outward = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Values of the shape of `x (B, channels, *grid)`."""
        points = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = self.inward(points).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        result: Tensor = x + self.outward(mixed).transpose(1, 2).reshape(x.shape)
        return result


class UNet(nn.Module):
    """F(x, log sigma), a field of the shape of x, zero before training.

    Residual blocks on ever coarser grids and back, with the fields of the way down handed over to the way
    up; group normalisation, SiLU, and the noise level as scale and shift in every block.

    Args:
        grid: Shape of the fields, one to three axes, each divisible by stem * 2^(levels - 1).
        shape: Widths, levels and the rest.

    Raises:
        ConfigError: If the grid has too many axes or does not divide.

    Sources: Ronneberger et al., MICCAI 2015, arXiv 1505.04597; Ho et al., NeurIPS 2020, arXiv 2006.11239;
        Shi et al., CVPR 2016, arXiv 1609.05158 (points as channels).
    """

    coordinates: Tensor

    def __init__(self, grid: tuple[int, ...], shape: UNetShape) -> None:
        super().__init__()
        dimension, levels = len(grid), len(shape.factors)
        coarsest = shape.stem * 2 ** (levels - 1)
        if dimension not in _CONVOLUTIONS or any(n % coarsest for n in grid):
            message = (
                f"a U-Net with stem {shape.stem} and {levels} levels needs a grid of one to three axes divisible by "
                f"{coarsest}, got {tuple(grid)}."
            )
            raise ConfigError(message)
        self.grid, self.shape, self.levels = tuple(grid), shape, levels
        conv, features = _CONVOLUTIONS[dimension], 2 * shape.width
        widths = [shape.width * factor for factor in shape.factors]
        inner = shape.stem**dimension

        def block(before: int, after: int) -> ResidualBlock:
            return ResidualBlock(dimension, (before, after), features, shape.padding)

        self.embedding = NoiseEmbedding(features)
        self.register_buffer("coordinates", self._places() if shape.coordinates else torch.empty(0), persistent=False)
        added = dimension if shape.coordinates else 0
        self.inward = conv(inner + added, widths[0], 3, padding=1, padding_mode=shape.padding)
        self.down, kept = nn.ModuleList(), [widths[0]]
        before = widths[0]
        for width in widths:
            level = nn.ModuleList()
            for _ in range(shape.blocks):
                level.append(block(before, width))
                before = width
                kept.append(width)
            self.down.append(level)
        self.middle = block(before, before)
        self.attention = SelfAttention(before) if shape.attention else nn.Identity()
        self.up = nn.ModuleList()
        for width in reversed(widths):
            level = nn.ModuleList()
            for _ in range(shape.blocks):
                level.append(block(before + kept.pop(), width))
                before = width
            self.up.append(level)
        self.last = block(before + kept.pop(), widths[0])
        self.norm = nn.GroupNorm(_GROUPS, widths[0])
        self.outward = conv(widths[0], inner, 3, padding=1, padding_mode=shape.padding)

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """F `(B, *grid)` for `x (B, *grid)` and `log_sigma (B,)`."""
        features = self.embedding(log_sigma)
        h = points_to_channels(x, self.shape.stem)
        if self.shape.coordinates:
            h = torch.cat([h, self.coordinates.to(h.dtype).expand(len(h), *self.coordinates.shape)], dim=1)
        if len(self.grid) == 2:  # the layout that convolutions are fastest in
            h = h.contiguous(memory_format=torch.channels_last)
        h = self.inward(h)
        kept = [h]
        for i, level in enumerate(self.down):
            h = h if i == 0 else _POOLS[len(self.grid)](h, 2)
            for block in cast(nn.ModuleList, level):
                h = block(h, features)
                kept.append(h)
        h = self.attention(self.middle(h, features))
        for i, level in enumerate(self.up):
            h = h if i == 0 else functional.interpolate(h, scale_factor=2, mode="nearest")
            for block in cast(nn.ModuleList, level):
                h = block(torch.cat([h, kept.pop()], dim=1), features)
        h = self.last(torch.cat([h, kept.pop()], dim=1), features)
        return channels_to_points(self.outward(functional.silu(self.norm(h))), self.shape.stem)

    def _places(self) -> Tensor:
        """Coordinates in (-1, 1) of the first level's points, `(d, *grid / stem)`."""
        axes = [(2 * torch.arange(m) + 1) / m - 1 for m in (n // self.shape.stem for n in self.grid)]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def points_to_channels(x: Tensor, block: int) -> Tensor:
    """`(B, n_1, ...)` -> `(B, block^d, n_1 / block, ...)`: the points of each block become channels."""
    d = x.ndim - 1
    split = x.reshape(len(x), *(size for n in x.shape[1:] for size in (n // block, block)))
    order = (0, *(2 + 2 * i for i in range(d)), *(1 + 2 * i for i in range(d)))
    return split.permute(order).reshape(len(x), block**d, *(n // block for n in x.shape[1:]))


def channels_to_points(x: Tensor, block: int) -> Tensor:
    """`(B, block^d, n_1, ...)` -> `(B, n_1 block, ...)`, the inverse of `points_to_channels`."""
    d = x.ndim - 2
    split = x.reshape(len(x), *(block for _ in range(d)), *x.shape[2:])
    order = (0, *(axis for i in range(d) for axis in (1 + d + i, 1 + i)))
    return split.permute(order).reshape(len(x), *(n * block for n in x.shape[2:]))


def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Draw all weights anew from a generator, uniformly with variance 1 / fan-in; biases and last layers are zero.

    The last layers of residual blocks, of attention and of a whole network (attributes `second` and `outward`)
    start at zero, so that every block starts as the identity.
    """
    with torch.no_grad():
        for name, module in network.named_modules():
            weight = getattr(module, "weight", None)
            if weight is None or weight.ndim < 2:  # norms keep one and zero
                continue
            bound = math.sqrt(3 / weight[0].numel())
            drawn = 2 * torch.rand(weight.shape, generator=generator, device=generator.device) - 1
            last = name.rpartition(".")[2] in ("second", "outward")
            weight.copy_(torch.zeros_like(drawn) if last else bound * drawn)
            if module.bias is not None:
                module.bias.zero_()
    return network
