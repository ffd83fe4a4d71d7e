"""`tomography-phantom`: an image of ellipses from few X-ray views, the whole story in one small problem.

The data are the exact line integrals of the ellipses, so that no projector is inverted by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.likelihoods.poisson import PoissonCounts
from sciprob.operators.xray import Ellipses, FanBeam, ParallelBeam, XrayTransform
from sciprob.priors.base import Prior
from sciprob.priors.grid_matern import GridMatern
from sciprob.problems.learned_prior import PriorChoice
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.random import Streams
from sciprob.spaces import GridSpace


@dataclass(frozen=True)
class Scan:
    """The views; the image is the square [-1, 1]^2.

    Args:
        beam: Parallel rays, or a fan from a source at distance 4 onto a detector at distance 2.
        views: Number of views.
        span_degrees: They are spread evenly over this angle; 180 (parallel) or 360 (fan) see all.
        bins: Number of detector bins, which cover the whole image.
    """

    beam: Literal["parallel", "fan"] = "parallel"
    views: int = 45
    span_degrees: float = 180.0
    bins: int = 136

    def __post_init__(self) -> None:
        if self.views < 1 or self.bins < 1 or not 0 < self.span_degrees <= 360:
            message = (
                f"a scan needs views >= 1, bins >= 1 and 0 < span_degrees <= 360, "
                f"got {self.views}, {self.bins} and {self.span_degrees}."
            )
            raise ConfigError(message)

    def geometry(self) -> ParallelBeam | FanBeam:
        """The rays."""
        step = math.radians(self.span_degrees) / self.views
        angles = step * (torch.arange(self.views, dtype=torch.float64) + 0.5)
        width = 2 * math.sqrt(2) / self.bins
        if self.beam == "parallel":
            return ParallelBeam(angles, self.bins, width)
        return FanBeam(angles, self.bins, 1.6 * width, source_origin=4.0, origin_detector=2.0)


@dataclass(frozen=True)
class Phantom:
    """A body with random ellipses inside.

    Args:
        ellipses: Number of ellipses in the body.
        contrast: Largest change of attenuation, up or down, that an ellipse makes.
    """

    ellipses: int = 8
    contrast: float = 0.4

    def draw(self, generator: torch.Generator) -> Ellipses:
        """A body of attenuation 0.5 and its ellipses, inside the disc of radius 0.9."""
        inner = Ellipses.random(
            self.ellipses,
            radius=0.6,
            semi_axes=(0.08, 0.45),
            values=(-self.contrast, self.contrast),
            generator=generator,
        )
        body = Ellipses.random(1, radius=0.9, semi_axes=(0.8, 0.95), values=(0.5, 0.5), generator=generator)
        parts = zip(
            (body.value, 0 * body.centre, body.semi_axes, body.angle),
            (inner.value, inner.centre, inner.semi_axes, inner.angle),
            strict=True,
        )
        return Ellipses(*(torch.cat(pair) for pair in parts))


@dataclass(frozen=True)
class ScanNoise:
    """Noise of the detector.

    Args:
        kind: `gaussian`: the data are line integrals with independent errors; `transmission`: they are
            photon counts, Poisson(photons * exp(-line integral)).
        std: Standard deviation of a line integral (gaussian).
        photons: Mean count of an unattenuated ray (transmission).
    """

    kind: Literal["gaussian", "transmission"] = "gaussian"
    std: float = 0.03
    photons: float = 1e4


@dataclass(frozen=True)
class ImagePrior(PriorChoice):
    """Gaussian field with Matern covariance on a body in the middle of the image, nothing around it.

    The numbers describe the phantoms: their mean, spread and variogram. A trained diffusion prior takes their
    place; it should have been trained on such phantoms.

    Args:
        kind: `gaussian` or `diffusion`.
        weights: Name or file of the trained prior.
        mean: Attenuation per unit length inside the body.
        std: Standard deviation, inside and near the body's edge.
        length: Length scale, in units of the image ([-1, 1]).
        smoothness: nu; 1/2 for fields with edges.
        radius: Most probable radius of the body.
        edge: Its uncertainty; mean and std fall to zero over a few of it.

    Bands are those of a Gaussian field: the truth, flat between edges, lies inside them more often than
    they say away from its edges, and less often at them.
    """

    mean: float = 0.5
    std: float = 0.2
    length: float = 0.25
    smoothness: float = 0.5
    radius: float = 0.78
    edge: float = 0.03

    def on(self, grid: GridSpace) -> Prior:
        """The prior on a grid.

        Raises:
            ConfigError: If a trained prior is not of this grid's size.
        """
        if self.learned:
            return self.trained(grid)
        radius = grid.points().norm(dim=1).reshape(grid.shape)
        beyond = (self.radius - radius) / self.edge
        mean, std = self.mean * torch.sigmoid(beyond), self.std * torch.sigmoid(beyond + 3)
        return GridMatern(grid, std=std, length=self.length, smoothness=self.smoothness, mean=mean)


@register("tomography-phantom")
@dataclass(frozen=True)
class TomographyPhantom:
    """Attenuation of a phantom from its X-ray scan.

    Args:
        pixels: Image size, pixels a side.
        scan: The views.
        phantom: What is scanned.
        noise: Noise of the detector.
        prior: What is known of the image before the data.
        seed: Seed of phantom and noise.
    """

    pixels: int = 96
    scan: Scan = field(default_factory=Scan)
    phantom: Phantom = field(default_factory=Phantom)
    noise: ScanNoise = field(default_factory=ScanNoise)
    prior: ImagePrior = field(default_factory=ImagePrior)
    seed: int = 0

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem with simulated data.

        Raises:
            ConfigError: If a data file is given, which this kind does not read.
        """
        if data is not None:
            message = f"`{name}` makes its own data and reads no file; real scans go to `tomography-htc2022`."
            raise ConfigError(message)
        grid = GridSpace(
            (self.pixels, self.pixels),
            name="attenuation",
            dims=("y", "x"),
            unit="1 / length",
            lower=(-1.0, -1.0),
            upper=(1.0, 1.0),
            centring="cell",
        )
        operator = XrayTransform(grid, self.scan.geometry())
        clean = operator.codomain
        noise = (
            GaussianNoise(clean, self.noise.std)
            if self.noise.kind == "gaussian"
            else PoissonCounts(clean, self.noise.photons)
        )
        prior = self.prior.on(grid)

        def simulate(generator: torch.Generator) -> tuple[Tensor, Tensor]:
            ellipses = self.phantom.draw(generator)
            exact = ellipses.line_integrals(operator.geometry.rays())
            return ellipses.image(grid), noise.sample(exact, generator=generator)

        problem = Problem(name, prior, Likelihood(operator, noise), simulator=simulate, info=Info())
        return problem.simulate(Streams(self.seed)["problem"])
