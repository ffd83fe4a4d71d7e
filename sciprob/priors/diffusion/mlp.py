"""A residual network for vectors without a grid."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from sciprob.errors import ConfigError
from sciprob.priors.diffusion.unet import NoiseEmbedding


@dataclass(frozen=True)
class MLPShape:
    """What a `ResidualMLP` is built from, besides the length of its vectors.

    Args:
        width: Units of each layer, even.
        blocks: Residual blocks of two layers.

    Raises:
        ConfigError: If a number is too small or the width odd.
    """

    width: int = 128
    blocks: int = 3

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2 or self.blocks < 1:
            message = f"a residual network needs an even width and at least one block, got {self.width}, {self.blocks}."
            raise ConfigError(message)


class _Block(nn.Module):
    """h + second(silu(first(norm(h)) (1 + scale) + shift)), zero at the start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 2 * width)
        self.second = nn.Linear(width, width)

    def forward(self, h: Tensor, features: Tensor) -> Tensor:
        """Values of the shape of `h (B, width)`."""
        scale, shift = self.modulation(features).chunk(2, dim=1)
        result: Tensor = h + self.second(functional.silu(self.first(self.norm(h)) * (1 + scale) + shift))
        return result


class ResidualMLP(nn.Module):
    """F(x, log sigma), a vector of the length of x, zero before training.

    Args:
        length: Entries of x.
        shape: Width and depth.

    Sources: He et al., CVPR 2016, arXiv 1512.03385.
    """

    def __init__(self, length: int, shape: MLPShape) -> None:
        super().__init__()
        self.embedding = NoiseEmbedding(shape.width)
        self.inward = nn.Linear(length, shape.width)
        self.blocks = nn.ModuleList(_Block(shape.width) for _ in range(shape.blocks))
        self.outward = nn.Linear(shape.width, length)

    def forward(self, x: Tensor, log_sigma: Tensor) -> Tensor:
        """F `(B, length)` for `x (B, length)` and `log_sigma (B,)`."""
        features = self.embedding(log_sigma)
        h = self.inward(x)
        for block in self.blocks:
            h = block(h, features)
        result: Tensor = self.outward(functional.silu(h))
        return result
