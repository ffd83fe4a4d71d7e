"""`tomography-htc2022`: acrylic discs with holes from real X-ray scans of a limited range of angles.

The unknown is the fraction of each pixel that is material: the sigmoid of a Matern field whose mean is
"material" inside the disc and "air" outside, or a field of a diffusion prior trained on discs with holes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError
from sciprob.io.htc import FanScan, fetch_scan, read_scan, read_segmentation
from sciprob.likelihoods.base import Likelihood
from sciprob.likelihoods.gaussian import GaussianNoise
from sciprob.operators.parameterise import Bounded
from sciprob.operators.xray import FanBeam, XrayTransform
from sciprob.priors.base import Prior
from sciprob.priors.grid_matern import GridMatern
from sciprob.priors.transformed import TransformedPrior
from sciprob.problems.htc_calibration import calibrate, reading_noise
from sciprob.problems.learned_prior import PriorChoice
from sciprob.problems.problem import Info, Problem
from sciprob.problems.registry import register
from sciprob.problems.tomography_report import Readings, report_segmentation
from sciprob.spaces import GridSpace

_RIM = 1.5  # mm inside the disc's edge, whose place the prior knows


@dataclass(frozen=True)
class DiscPrior(PriorChoice):
    """What is known before the scan: a disc of one material with holes of any shape.

    The latent field is Gaussian, Matern; its sigmoid is the fraction of material. A trained prior gives the
    fraction itself, so that the line integrals stay linear in the unknown; of the numbers only the radius,
    which calibrates the scan, then counts.

    Args:
        kind: `gaussian` (the latent field) or `diffusion`.
        weights: Name or file of the trained prior.
        radius: Radius of the disc, mm.
        edge: Width of its edge, mm.
        inside: Latent mean inside the disc; 1 means a fraction of 0.73.
        outside: Latent mean outside.
        std: Latent standard deviation inside the disc; it falls to zero outside.
        length: Latent length scale, mm.
        smoothness: nu of the latent field.
    """

    radius: float = 34.85
    edge: float = 0.2
    inside: float = 1.0
    outside: float = -8.0
    std: float = 2.0
    length: float = 8.0
    smoothness: float = 1.0

    def on(self, grid: GridSpace, centre: tuple[float, float]) -> Prior:
        """The prior of the fraction on a grid, in single precision.

        Raises:
            ConfigError: If a trained prior is not of this grid's size.
        """
        if self.learned:
            return self.trained(grid)
        share = torch.sigmoid((self.radius - self.distance(grid, centre)) / self.edge).float()
        mean = self.outside + (self.inside - self.outside) * share
        latent = replace(grid, name="latent")
        field = GridMatern(latent, std=self.std * share, length=self.length, smoothness=self.smoothness, mean=mean)
        return TransformedPrior(field, Bounded(latent, grid, lower=0.0, upper=1.0))

    def distance(self, grid: GridSpace, centre: tuple[float, float]) -> Tensor:
        """Distance of every pixel from the centre, mm."""
        x, y = grid.points().T
        return torch.hypot(x - centre[0], y - centre[1]).reshape(grid.shape)


@register("tomography-htc2022")
@dataclass(frozen=True)
class TomographyHTC2022:
    """Material fraction of a disc with holes from a real scan.

    Args:
        scan: Published training scan used without `--data`: ta, tb, tc, td or solid_disc.
        span_degrees: Range of view angles kept, from `start_degrees` on; all of them if not given.
        start_degrees: First angle kept, measured from the scan's first.
        largest_views: Views are thinned evenly to at most this many.
        bin_by: Detector bins averaged to one.
        pixels: Image size, pixels a side.
        model_error: Error of a line integral as a fraction of it, for what the calibration leaves over.
        prior: The disc.
    """

    scan: str = "ta"
    span_degrees: float | None = None
    start_degrees: float = 0.0
    largest_views: int = 180
    bin_by: int = 2
    pixels: int = 256
    model_error: float = 0.01
    prior: DiscPrior = field(default_factory=DiscPrior)

    def __post_init__(self) -> None:
        if self.span_degrees is not None and not 0 < self.span_degrees <= 360:
            message = f"`span_degrees` should lie in (0, 360], got {self.span_degrees}."
            raise ConfigError(message)
        if min(self.largest_views, self.bin_by, self.pixels) < 1:
            message = "`largest_views`, `bin_by` and `pixels` should be at least 1."
            raise ConfigError(message)

    def build(self, *, name: str, data: Path | None = None) -> Problem:
        """The problem with a real scan.

        Raises:
            DataError: If the scan cannot be fetched or read, or has no views in the range.
        """
        path = fetch_scan(self.scan) if data is None else data
        scan = self._average_bins(self._select(read_scan(path), path))
        noise = reading_noise(scan.sinogram)  # from neighbouring views, so before they are thinned
        scan = self._thin(scan)
        measured = calibrate(scan, noise, radius=self.prior.radius, model_error=self.model_error)
        half = scan.image_width / 2
        grid = GridSpace(
            (self.pixels, self.pixels),
            name="material",
            dims=("y", "x"),
            lower=(-half, -half),
            upper=(half, half),
            centring="cell",
        )
        geometry = FanBeam(
            scan.angles, scan.sinogram.shape[1], scan.bin_width, scan.source_origin, scan.origin_detector
        )
        operator = XrayTransform(grid, geometry)
        likelihood = Likelihood(operator, GaussianNoise(operator.codomain, measured.std.float()))
        interior = self.prior.distance(grid, measured.centre) < self.prior.radius - _RIM
        readings = Readings(operator, scan.sinogram.float(), read_segmentation(path), interior)
        return Problem(
            name,
            self.prior.on(grid, measured.centre),
            likelihood,
            data=measured.lengths.float(),
            report=partial(report_segmentation, readings),
            info=Info(),
        )

    def _select(self, scan: FanScan, path: Path) -> FanScan:
        """The views of the range, in the order of their angles from its start; all, as they are, without a range."""
        if self.span_degrees is None and self.start_degrees == 0:
            return scan
        # 1e-6: angles computed in two ways; a view at the start is not one at its end
        from_start = (torch.rad2deg(scan.angles - scan.angles[0]) - self.start_degrees + 1e-6).remainder(360)
        order = from_start.argsort(stable=True)
        again = from_start[order].diff(prepend=torch.tensor([-1.0])) < 1e-5  # as 360 degrees after 0
        inside = (from_start[order] < (self.span_degrees or 360.0)) & (abs(self.start_degrees) < 360)
        order = order[inside & ~again]
        if len(order) < 3:
            message = (
                f"`{path.name}` has {len(order)} of its {len(scan.angles)} views in the range asked for; change "
                "`start_degrees` (counted from the first view) or `span_degrees`."
            )
            raise DataError(message)
        return replace(scan, sinogram=scan.sinogram[order], angles=scan.angles[order])

    def _average_bins(self, scan: FanScan) -> FanScan:
        """Neighbouring detector bins averaged; a remainder is cut off evenly on both sides."""
        count = scan.sinogram.shape[1]
        kept, wide = count // self.bin_by, self.bin_by
        if kept < 2 or (count - kept * wide) % 2:
            message = f"`bin_by` should divide the {count} detector bins, or leave an even rest, got {wide}."
            raise ConfigError(message)
        first = (count - kept * wide) // 2
        averaged: Tensor = scan.sinogram[:, first : first + kept * wide].unflatten(1, (kept, wide)).mean(-1)
        return replace(scan, sinogram=averaged, bin_width=scan.bin_width * wide)

    def _thin(self, scan: FanScan) -> FanScan:
        """Every so many views."""
        step = -(-len(scan.angles) // self.largest_views)
        return replace(scan, sinogram=scan.sinogram[::step], angles=scan.angles[::step])
