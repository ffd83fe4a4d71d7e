"""Networks of the latent video model: frames to sites and context, latent points to frames, drift, control.

Source of the architecture: Daems, Opper, Crevecoeur and Birdal, ICLR 2024, with the changes that `video_model` states.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate, max_pool2d, silu, tanh

from sciprob.errors import ConfigError
from sciprob.random import randn

_SMALLEST = 4  # pixels of the coarsest maps


@dataclass(frozen=True)
class VideoShape:
    """Sizes of the networks.

    Args:
        pixels: Of each side of a frame: 4 times a power of two.
        latents: Latent dimensions D.
        states: s, numbers of the state in each dimension.
        channels: Of the maps after each halving of the side, multiples of 8.
        features: Of a frame, and of the context.
        width: Of the two hidden layers of drift and control.

    Raises:
        ConfigError: If the sides do not come down to 4 pixels.
    """

    pixels: int
    latents: int
    states: int
    channels: tuple[int, ...]
    features: int
    width: int

    def __post_init__(self) -> None:
        if self.pixels != _SMALLEST * 2 ** len(self.channels) or any(c % 8 or c < 8 for c in self.channels):
            message = (
                f"frames of {self.pixels} pixels need one number of channels, a multiple of 8, for each halving down "
                f"to {_SMALLEST} pixels, got {list(self.channels)}."
            )
            raise ConfigError(message)


class Encoder(nn.Module):
    """Videos `(B, n, p, p)` to context `(B, n, F)`, and values and log precisions of sites `(B, n, D)`."""

    def __init__(self, shape: VideoShape) -> None:
        super().__init__()
        sizes = (1, *shape.channels)
        self.maps = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.GroupNorm(8, c) for c in shape.channels)
        self.dense = nn.Linear(_SMALLEST**2 * shape.channels[-1], shape.features)
        self.along = nn.ModuleList(nn.Conv1d(shape.features, shape.features, 3, padding=1) for _ in range(2))
        self.sites = nn.Linear(shape.features, 2 * shape.latents)

    def forward(self, videos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of each frame, then two convolutions in time."""
        maps = videos.flatten(0, 1)[:, None]
        for convolution, norm in zip(self.maps, self.norms, strict=True):
            maps = silu(norm(max_pool2d(convolution(maps), 2)))
        features = self.dense(maps.flatten(1)).unflatten(0, videos.shape[:2])
        context = features.mT
        for convolution in self.along:
            context = context + convolution(silu(context))
        context = context.mT
        values, log_precision = self.sites(context).chunk(2, dim=-1)
        return context, values, log_precision


class Decoder(nn.Module):
    """Latent points `(N, D)` to frames `(N, p, p)` with values in (0, 1)."""

    def __init__(self, shape: VideoShape) -> None:
        super().__init__()
        self.first = nn.Linear(shape.latents, shape.features)
        self.second = nn.Linear(shape.features, _SMALLEST**2 * shape.channels[-1])
        sizes = (*shape.channels[::-1], shape.channels[0])
        self.maps = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.GroupNorm(8, c) for c in sizes[1:])
        self.last = nn.Conv2d(shape.channels[0], 1, 3, padding=1)

    def forward(self, points: Tensor) -> Tensor:
        """Maps of 4 pixels, doubled until they are frames."""
        maps = self.second(silu(self.first(points))).unflatten(1, (-1, _SMALLEST, _SMALLEST))
        for convolution, norm in zip(self.maps, self.norms, strict=True):
            maps = silu(interpolate(norm(convolution(maps)), scale_factor=2.0))
        return torch.sigmoid(self.last(maps)).squeeze(1)


@dataclass(frozen=True)
class Networks:
    """What the entries of one vector `(count,)` mean: the weights of all networks.

    Drift and control are plain layers, since they are called in every time step.
    """

    shape: VideoShape

    @property
    def count(self) -> int:
        """Number of weights."""
        return sum(math.prod(size) for _, size in self._sizes())

    def start(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Random weights; drift and control are zero functions."""
        parts = []
        for name, size in self._sizes():
            if name.endswith("bias") or name in ("drift.4", "control.5"):
                parts.append(like.new_zeros(math.prod(size)))
            elif "norms" in name:
                parts.append(like.new_ones(math.prod(size)))
            else:
                inputs = size[0] if name.startswith(("drift", "control")) else math.prod(size[1:])
                parts.append(randn((math.prod(size),), like, generator) * inputs**-0.5)
        return torch.cat(parts)

    def encode(self, weights: Tensor, videos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `Encoder`."""
        found: tuple[Tensor, Tensor, Tensor] = functional_call(
            _encoder(self.shape), self._part(weights, "encoder."), videos
        )
        return found

    def decode(self, weights: Tensor, points: Tensor) -> Tensor:
        """See `Decoder`."""
        frames: Tensor = functional_call(_decoder(self.shape), self._part(weights, "decoder."), points)
        return frames

    def drift(self, weights: Tensor) -> list[Tensor]:
        """Layers `D -> width -> width -> D`: weight, bias, weight, ..., float64."""
        return [part.double() for part in self._part(weights, "drift.").values()]

    def control(self, weights: Tensor) -> list[Tensor]:
        """Layers of the control: of states and of context, bias, and those after it, float64."""
        return [part.double() for part in self._part(weights, "control.").values()]

    def _sizes(self) -> list[tuple[str, tuple[int, ...]]]:
        s, w = self.shape, self.shape.width
        sizes = []
        for name, module in (("encoder.", _encoder(s)), ("decoder.", _decoder(s))):
            sizes += [(name + key, tuple(value.shape)) for key, value in module.named_parameters()]
        layers = {
            "drift": ((s.latents, w), (w,), (w, w), (w,), (w, s.latents), (s.latents,)),
            "control": ((s.latents * s.states, w), (s.features, w), (w,), (w, w), (w,), (w, s.latents), (s.latents,)),
        }
        for name, shapes in layers.items():
            for i, size in enumerate(shapes):
                sizes.append((f"{name}.{i}" + (".bias" if len(size) == 1 else ""), size))
        return sizes

    def _part(self, weights: Tensor, prefix: str) -> dict[str, Tensor]:
        found, at = {}, 0
        for name, size in self._sizes():
            length = math.prod(size)
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = weights[at : at + length].reshape(size)
            at += length
        return found


def layers(parts: Sequence[Tensor], x: Tensor) -> Tensor:
    """A network with tanh between its layers: weight, bias, weight, ..."""
    *hidden, last, bias = parts
    for weight, shift in itertools.batched(hidden, 2):
        x = tanh(x @ weight + shift)
    return x @ last + bias


@lru_cache(maxsize=8)
def _encoder(shape: VideoShape) -> Encoder:
    with torch.device("meta"):
        return Encoder(shape)


@lru_cache(maxsize=8)
def _decoder(shape: VideoShape) -> Decoder:
    with torch.device("meta"):
        return Decoder(shape)
