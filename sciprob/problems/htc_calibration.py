"""From the readings of the challenge's scanner to line integrals of the material fraction.

The tube is polychromatic: -log(I / I0) grows less than linearly with the length of acrylic. One
cubic curve for the scanner and its material, fitted once to the chords of the published scan of a
solid disc, turns a reading into a length; zero, gain, noise and place of the disc are estimated
from the scan at hand, without its segmentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from sciprob.errors import DataError
from sciprob.io.htc import FanScan

# reading at a length c in mm: sum_k CURVE[k] c^k, increasing up to 148 mm
CURVE = (0.0154689715, 4.36671682e-02, -1.95165868e-04, 2.15869400e-07)
LONGEST = 90.0  # mm; the disc's diameter is 70, and gains differ by a few per cent
_EDGE = 0.25  # reading at which a view's silhouette is cut
_CHORDS = (25.0, 70.0)  # mm, of rays that tell the gain: short ones depend on where the edge is
_GAINS = (0.9, 1.1)  # scans of one scanner differ by a few per cent


@dataclass(frozen=True)
class Calibrated:
    """Line integrals of the material fraction, in mm.

    Attributes:
        lengths: `(views, bins)`.
        std: Their standard deviations, `(views, bins)`.
        centre: Centre (x, y) of the disc.
        gain: Length per length of the disc's material, which the data were divided by.
    """

    lengths: Tensor
    std: Tensor
    centre: tuple[float, float]
    gain: float


def calibrate(scan: FanScan, noise: float, *, radius: float, model_error: float) -> Calibrated:
    """Turn readings into lengths, with their errors.

    The zero of the readings is their median outside the disc. The gain is the most frequent ratio
    of length to chord of the disc among rays with long chords: those that miss every hole agree on
    it, those through holes scatter below. The errors are those of photon counting (growing as
    exp(reading / 2)) and a fraction of the length for what the curve does not explain.

    Args:
        scan: The scan.
        noise: Standard deviation of an unattenuated reading.
        radius: Radius of the disc.
        model_error: The fraction.

    Raises:
        DataError: If no disc of this radius can be seen.
    """
    centre = find_disc(scan, radius)
    chord = disc_chords(scan, centre, radius)
    air = chord == 0
    if not bool(air.any()):
        message = f"the scan shows no air around a disc of radius {radius:g} mm; give the disc's true `prior.radius`."
        raise DataError(message)
    lengths = to_length(scan.sinogram - scan.sinogram[air].median() + CURVE[0])
    gain = most_frequent((lengths / chord)[(chord > _CHORDS[0]) & (chord < _CHORDS[1])], *_GAINS)
    slope = CURVE[1] + lengths.clamp_min(0) * (2 * CURVE[2] + 3 * CURVE[3] * lengths.clamp_min(0))
    counting = noise * (scan.sinogram / 2).exp() / slope / gain
    lengths = lengths / gain
    std = (counting.square() + (model_error * lengths.clamp_min(0)).square()).sqrt()
    return Calibrated(lengths, std, centre, gain)


def to_length(readings: Tensor) -> Tensor:
    """Length in mm of readings `(views, bins)`, by the inverse of the curve.

    Raises:
        DataError: If a reading is larger than `LONGEST` explains; names the first one.
    """
    lengths = np.linspace(-5.0, LONGEST, 4001)
    curve = np.polynomial.polynomial.polyval(lengths, CURVE)
    bad = (readings > curve[-1]).nonzero()
    if len(bad):
        view, position = bad[0].tolist()
        message = (
            f"view {view}, bin {position} of the scan reads {float(readings[view, position]):.3g}, more than "
            f"{LONGEST:g} mm of acrylic do ({curve[-1]:.3g}); scans of other materials need a problem of their own."
        )
        raise DataError(message)
    return torch.from_numpy(np.interp(readings.numpy(), curve, lengths))


def reading_noise(sinogram: Tensor) -> float:
    """Standard deviation of an unattenuated reading, from second differences of neighbouring views.

    Raises:
        DataError: If there are fewer than three views.
    """
    if len(sinogram) < 3:
        message = f"a scan needs at least 3 views, got {len(sinogram)}; widen `span_degrees`."
        raise DataError(message)
    second = sinogram.diff(n=2, dim=0) / (sinogram[1:-1] / 2).exp()
    return float(second.abs().median()) / (0.6745 * math.sqrt(6))


def find_disc(scan: FanScan, radius: float) -> tuple[float, float]:
    """Centre (x, y) of the disc, from the two edges of its silhouette in every view.

    Raises:
        DataError: If a view shows no silhouette.
    """
    bins = _bins(scan)
    edges = np.array([_silhouette(row, bins, k) for k, row in enumerate(scan.sinogram.numpy())])
    source, along = _rays(scan, torch.from_numpy(edges))
    half = float(to_length(torch.tensor([[_EDGE]], dtype=torch.float64))) / 2
    tangent = math.sqrt(radius**2 - half**2)  # distance of a ray with the reading _EDGE from the centre

    def misfit(unknown: np.ndarray) -> np.ndarray:
        distance: np.ndarray = _distance(source, along, torch.tensor(unknown[:2])).numpy()
        return np.ravel(distance - unknown[2])

    fit = least_squares(misfit, [0.0, 0.0, tangent], loss="soft_l1", f_scale=0.1)
    return float(fit.x[0]), float(fit.x[1])


def disc_chords(scan: FanScan, centre: tuple[float, float], radius: float) -> Tensor:
    """Length of every ray inside the disc, `(views, bins)`."""
    bins = torch.from_numpy(_bins(scan)).expand(scan.sinogram.shape)
    distance = _distance(*_rays(scan, bins), torch.tensor(centre, dtype=torch.float64))
    return 2 * (radius**2 - distance.square()).clamp_min(0).sqrt()


def most_frequent(values: Tensor, low: float, high: float) -> float:
    """Mode of the values in (low, high): the peak of their histogram, smoothed by a Gaussian.

    Bins have the width (high - low) / 100, the Gaussian a standard deviation of three of them.

    Raises:
        DataError: If fewer than 100 values lie in the range.
    """
    held = values[(values > low) & (values < high)]
    if len(held) < 100:
        message = (
            f"only {len(held)} of {values.numel()} rays show {low:g} to {high:g} times the length of a solid disc, at "
            "least 100 are needed for the gain; check the disc's `prior.radius` and that the scan is of this scanner."
        )
        raise DataError(message)
    counts = torch.histc(held, bins=100, min=low, max=high)
    offsets = torch.arange(-9, 10, dtype=counts.dtype)
    kernel = (-0.5 * (offsets / 3).square()).exp()
    smooth = torch.nn.functional.conv1d(counts.view(1, 1, -1), kernel.view(1, 1, -1), padding=9).flatten()
    return low + (high - low) * (int(smooth.argmax()) + 0.5) / 100


def _bins(scan: FanScan) -> np.ndarray:
    count = scan.sinogram.shape[1]
    return (np.arange(count) - (count - 1) / 2) * scan.bin_width


def _silhouette(row: np.ndarray, bins: np.ndarray, view: int) -> tuple[float, float]:
    """Detector coordinates where the reading crosses `_EDGE`, interpolated."""
    inside = np.nonzero(row > _EDGE)[0]
    if len(inside) == 0 or inside[0] == 0 or inside[-1] == len(row) - 1:
        message = f"view {view} should show the whole disc with air on both sides; check the scan or its detector."
        raise DataError(message)
    first, last, width = inside[0], inside[-1], bins[1] - bins[0]
    left = bins[first - 1] + width * (_EDGE - row[first - 1]) / (row[first] - row[first - 1])
    right = bins[last] + width * (_EDGE - row[last]) / (row[last + 1] - row[last])
    return float(left), float(right)


def _rays(scan: FanScan, detector: Tensor) -> tuple[Tensor, Tensor]:
    """Sources `(views, 1, 2)` and unit directions `(views, k, 2)` to detector coordinates `(views, k)`."""
    sin, cos = scan.angles.sin()[:, None], scan.angles.cos()[:, None]
    source = torch.stack([sin, -cos], dim=-1) * scan.source_origin
    across = torch.stack([cos, sin], dim=-1)
    target = torch.stack([-sin, cos], dim=-1) * scan.origin_detector + detector[..., None] * across
    along = target - source
    return source, along / along.norm(dim=-1, keepdim=True)


def _distance(source: Tensor, along: Tensor, centre: Tensor) -> Tensor:
    """Distance of rays from a point."""
    offset = centre - source
    return (offset[..., 0] * along[..., 1] - offset[..., 1] * along[..., 0]).abs()
