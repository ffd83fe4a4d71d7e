"""From the readings of the challenge's scanner to line integrals of the material fraction.

The tube is polychromatic: -log(I / I0) grows less than linearly with the length of acrylic. One
cubic curve, fitted once to all five published training scans with their segmentations, turns a
reading into a length; everything else is estimated from the scan at hand.
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

# reading at a length c in mm: sum_k CURVE[k] c^k, increasing up to 75 mm
CURVE = (0.0154689715, 4.36671682e-02, -1.95165868e-04, 2.15869400e-07)
LONGEST = 75.0
_EDGE = 0.25  # reading at which a view's silhouette is cut


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

    The zero of the readings is their median outside the disc, the gain the most frequent ratio of
    length to chord of the disc where the chord is 25 to 45 mm, the errors those of photon counting
    (growing as exp(reading / 2)) plus a fraction of the length for what the curve does not explain.

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
    if not bool((chord == 0).any()) or not bool((chord > 25).any()):
        message = f"the scan does not show a disc of radius {radius:g} mm with air around it; give the disc's `radius`."
        raise DataError(message)
    readings = scan.sinogram - scan.sinogram[chord == 0].median() + CURVE[0]
    lengths = to_length(readings)
    typical = (chord > 25) & (chord < 45)
    gain = half_sample_mode((lengths / chord.clamp_min(1))[typical])
    slope = CURVE[1] + lengths.clamp(0, 72) * (2 * CURVE[2] + 3 * CURVE[3] * lengths.clamp(0, 72))
    counting = noise * (scan.sinogram / 2).exp() / slope / gain
    lengths = lengths / gain
    std = (counting.square() + (model_error * lengths.clamp_min(0)).square()).sqrt()
    return Calibrated(lengths, std, centre, gain)


def to_length(readings: Tensor) -> Tensor:
    """Length in mm of a reading, by the inverse of the curve."""
    lengths = np.linspace(-3.0, LONGEST, 4001)
    curve = np.polynomial.polynomial.polyval(lengths, CURVE)
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
    half = float(to_length(torch.tensor([_EDGE], dtype=torch.float64))[0]) / 2
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


def half_sample_mode(values: Tensor) -> float:
    """Mode of a sample, by halving to the densest half again and again.

    Source: Robertson and Cryer, J. Amer. Statist. Assoc. 69 (1974).
    """
    sample = values.flatten().sort().values
    while len(sample) > 3:
        half = (len(sample) + 1) // 2
        width = sample[half - 1 :] - sample[: len(sample) - half + 1]
        start = int(width.argmin())
        sample = sample[start : start + half]
    return float(sample.mean())


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
