"""`inpainting`, `deblurring`, `super-resolution`: a field on a square from an incomplete or blurred picture of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators import LinearMap, Restriction
from sciprob.operators.block_average import BlockAverage
from sciprob.operators.blur import ReflectedConvolution, gaussian_kernel, motion_kernel
from sciprob.operators.fourier import Convolution
from sciprob.problems.grid_report import report_residuals
from sciprob.problems.grid_settings import GridField
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.problems.sensor_noise import SensorNoise
from sciprob.random import Streams
from sciprob.spaces import GridSpace


@dataclass(frozen=True, kw_only=True)
class FieldImage:
    """A field on the unit square, seen through a linear map and independent Gaussian noise.

    Args:
        pixels: Points a side.
        noise: Errors of the picture's numbers.
        seed: Seed of truth and noise.
        prior: Prior of the field.
    """

    words: ClassVar[Info] = Info(default_solver="diffusion-ensemble")

    pixels: int
    noise: SensorNoise
    prior: GridField
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pixels < 4:
            message = f"`pixels` should be at least 4, got {self.pixels}."
            raise ConfigError(message)

    def operator(self, grid: GridSpace) -> LinearMap:
        """Field -> picture."""
        raise NotImplementedError

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem with simulated data; the truth is a draw of the prior.

        Raises:
            ConfigError: For settings out of range, a trained prior of another size, or a data file, which this
                kind does not read.
        """
        if data is not None:
            message = f"`{name}` makes its own data and reads no file; build a `Problem` in Python for your own."
            raise ConfigError(message)
        grid = GridSpace(
            (self.pixels, self.pixels),
            name="field",
            dims=("y", "x"),
            lower=(0.0, 0.0),
            upper=(1.0, 1.0),
            centring="cell",
        )
        operator = self.operator(grid)
        likelihood = Likelihood(operator, GaussianNoise(operator.codomain, self.noise.std))
        prior = self.prior.on(grid, "stationary")
        problem = Problem(name, prior, likelihood, report=report_residuals, info=self.words)
        return problem.simulate(Streams(self.seed)["problem"])


@dataclass(frozen=True)
class Hidden:
    """Which points are not seen.

    Args:
        pattern: `points`: points at random; `box`: a square in the middle.
        share: Share of all points that is hidden, in (0, 1).
        seed: Seed of the places.
    """

    pattern: Literal["points", "box"] = "points"
    share: float = 0.7
    seed: int = 1

    def mask(self, grid: GridSpace) -> Tensor:
        """Boolean `(*grid.shape)`, true where the field is seen.

        Raises:
            ConfigError: If all or no points are hidden.
        """
        if self.pattern == "box":
            side = round(self.share**0.5 * grid.shape[0])
            first = (grid.shape[0] - side) // 2
            mask = torch.ones(grid.shape, dtype=torch.bool)
            mask[first : first + side, first : first + side] = False
        else:
            order = torch.rand(grid.size, generator=Streams(self.seed)["sensors"], dtype=torch.float64).argsort()
            mask = torch.ones(grid.size, dtype=torch.bool)
            mask[order[: round(self.share * grid.size)]] = False
        if bool(mask.all()) or not bool(mask.any()):
            message = f"`share` of hidden points should leave some and hide some, got {self.share:g}."
            raise ConfigError(message)
        return mask.reshape(grid.shape)


@register("inpainting")
@dataclass(frozen=True, kw_only=True)
class Inpainting(FieldImage):
    """A field from some of its points.

    Args:
        hidden: Which points are not seen.
    """

    hidden: Hidden = field(default_factory=Hidden)

    def operator(self, grid: GridSpace) -> LinearMap:
        """Field -> its seen points."""
        return Restriction(grid, self.hidden.mask(grid))


@dataclass(frozen=True)
class Blur:
    """The blur.

    Args:
        kind: `gaussian` or `motion`.
        width: Standard deviation of the Gaussian, or length of the motion; the square has side 1.
        angle: Direction of the motion, degrees from x towards y.
        border: What lies beyond the square: its mirror image (`mirror`), or the square again (`periodic`).
    """

    kind: Literal["gaussian", "motion"] = "gaussian"
    width: float = 0.03
    angle: float = 30.0
    border: Literal["mirror", "periodic"] = "mirror"


@register("deblurring")
@dataclass(frozen=True, kw_only=True)
class Deblurring(FieldImage):
    """A field from a blurred picture.

    Args:
        blur: The blur.
    """

    blur: Blur = field(default_factory=Blur)

    def operator(self, grid: GridSpace) -> LinearMap:
        """Convolution with the blur's kernel."""
        kernel = (
            gaussian_kernel(grid, self.blur.width)
            if self.blur.kind == "gaussian"
            else motion_kernel(grid, self.blur.width, self.blur.angle)
        )
        return Convolution(grid, kernel) if self.blur.border == "periodic" else ReflectedConvolution(grid, kernel)


@register("super-resolution")
@dataclass(frozen=True, kw_only=True)
class SuperResolution(FieldImage):
    """A field from the means over blocks of its points.

    Args:
        factor: Points to a block along each axis; divides `pixels`.
    """

    factor: int = 4

    def operator(self, grid: GridSpace) -> LinearMap:
        """Field -> block means."""
        return BlockAverage(grid, self.factor)
