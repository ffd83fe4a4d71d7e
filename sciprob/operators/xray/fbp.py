"""Filtered back-projection for parallel and fan beams."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.operators.linear import ExplicitLinearMap
from sciprob.operators.xray.angular import angular_cells, short_scan_weights
from sciprob.operators.xray.geometry import FanBeam, ParallelBeam
from sciprob.operators.xray.projector import XrayTransform

Window = Literal["ramp", "hann"]


class FilteredBackProjection(ExplicitLinearMap):
    """The classical reconstruction of an image from its X-ray data, as a linear map data -> image.

    Parallel beam:  f(x) = sum_v w_v (h * y_v)(<x, across_v>).
    Flat fan:       f(x) = sum_v w_v / U_v(x)^2 (h * (c r_v y_v))(u_v(x)),  with U the distance of
    x from the source along the central ray over `source_origin`, u_v(x) its projection on the
    detector scaled to the rotation axis, c the cosine of the ray's fan angle and r_v the share of
    a line that is measured more than once (1/2 in a full turn, smooth weights in a short scan).

    h is the band-limited ramp given by its samples 1/(4 b^2), 0, -1/(pi k b)^2 (k odd) for the bin
    spacing b, which keeps the mean right where a sampled `|frequency|` does not; w_v is the cell of
    view v among the angles. Values between bins are interpolated linearly and are zero beyond the
    detector. An object wider than the detector gives the known bright rim, and a missing range
    of angles gives streaks: nothing is done about either. The adjoint is the exact transpose.

    Args:
        transform: The X-ray transform whose data are reconstructed, on the grid of its domain.
        window: "ramp", or "hann" to damp the high frequencies by (1 + cos(pi f / f_Nyquist)) / 2.

    Raises:
        ConfigError: If the window is unknown.
        UnsupportedProblemError: If the geometry is neither a parallel nor a flat fan beam.

    Source: A. C. Kak and M. Slaney, "Principles of Computerized Tomographic Imaging" (1988),
    chapter 3; D. L. Parker, "Optimal short scan convolution reconstruction for fanbeam CT",
    Med. Phys. 9 (1982).
    """

    weight: Tensor
    spectrum: Tensor

    def __init__(self, transform: XrayTransform, *, window: Window = "ramp") -> None:
        super().__init__(transform.codomain, transform.domain)
        geometry = transform.geometry
        if not isinstance(geometry, ParallelBeam | FanBeam):
            message = f"filtered back-projection knows ParallelBeam and FanBeam, got {type(geometry).__name__}."
            raise UnsupportedProblemError(message)
        self.geometry = geometry
        spacing = geometry.bin_width
        if isinstance(geometry, FanBeam):
            spacing *= geometry.source_origin / geometry.source_detector
        self.register_buffer("weight", _ray_weights(geometry), persistent=False)
        self.register_buffer("spectrum", _ramp_spectrum(geometry.n_bins, spacing, window), persistent=False)

    def _matvec(self, x: Tensor) -> Tensor:
        filtered = self._filter(x * self.weight.to(x))
        image = x.new_zeros(len(x), self.codomain.size)
        for view in range(len(self.geometry.angles)):
            index, share = self._footprint(view, x)
            row = filtered[:, view]
            image += row[:, index[0]] * share[0] + row[:, index[1]] * share[1]
        return image.reshape(len(x), *self.codomain.shape)

    def _rmatvec(self, y: Tensor) -> Tensor:
        image = y.flatten(1)
        rows = []
        for view in range(len(self.geometry.angles)):
            index, share = self._footprint(view, y)
            row = y.new_zeros(len(y), self.geometry.n_bins)
            row.index_add_(1, index[0], image * share[0]).index_add_(1, index[1], image * share[1])
            rows.append(row)
        return self._filter(torch.stack(rows, dim=1)) * self.weight.to(y)  # the filter is symmetric

    def _filter(self, sinogram: Tensor) -> Tensor:
        """Convolve each view with the ramp."""
        if sinogram.numel() == 0:  # which the FFT refuses
            return sinogram
        n_bins, n = sinogram.shape[-1], 2 * (len(self.spectrum) - 1)
        spectrum = torch.fft.rfft(sinogram, n=n) * self.spectrum.to(sinogram)
        filtered: Tensor = torch.fft.irfft(spectrum, n=n)
        return filtered[..., :n_bins]

    def _footprint(self, view: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The two bins that each pixel falls between and their shares, `(2, n_pixels)` both."""
        geometry = self.geometry
        cos, sin = math.cos(geometry.angles[view]), math.sin(geometry.angles[view])
        y, x = (self.codomain.axis(i).to(like.device) for i in (0, 1))
        u = (y[:, None] * sin + x * cos).flatten()
        scale = torch.ones_like(u)
        if isinstance(geometry, FanBeam):
            depth = 1 + (y[:, None] * cos - x * sin).flatten() / geometry.source_origin
            u = u / depth * (geometry.source_detector / geometry.source_origin)
            scale = depth**-2
        position = (u - float(geometry.bins[0])) / geometry.bin_width
        scale = scale * ((position >= 0) & (position <= geometry.n_bins - 1))
        left = position.floor().clamp(0, max(geometry.n_bins - 2, 0))
        share = position - left
        index = torch.stack([left, left + 1]).long().clamp_max(geometry.n_bins - 1)
        return index, (torch.stack([1 - share, share]) * scale).to(like.dtype)


def _ray_weights(geometry: ParallelBeam | FanBeam) -> Tensor:
    """What each datum is multiplied with before the filter, `(n_angles, n_bins)`, float64."""
    if isinstance(geometry, ParallelBeam):
        cells, _ = angular_cells(geometry.angles, period=math.pi)
        return cells[:, None].expand(geometry.shape).contiguous()
    cells, arc = angular_cells(geometry.angles, period=2 * math.pi)
    fan_angle = torch.atan2(geometry.bins, torch.full_like(geometry.bins, geometry.source_detector))
    return cells[:, None] * fan_angle.cos() * short_scan_weights(geometry.angles, fan_angle, arc)


def _ramp_spectrum(n_bins: int, spacing: float, window: str) -> Tensor:
    """Transfer function of the ramp on a grid long enough for a linear convolution, `(n // 2 + 1,)`."""
    if window not in ("ramp", "hann"):
        message = f"`window` should be 'ramp' or 'hann', got {window!r}."
        raise ConfigError(message)
    n = 2 ** math.ceil(math.log2(max(2 * n_bins, 2)))
    lag = torch.arange(n, dtype=torch.float64)
    lag = torch.minimum(lag, n - lag)
    odd = lag.remainder(2) == 1
    kernel = torch.where(odd, -1 / (math.pi * lag.clamp_min(1)) ** 2, 0.0)
    kernel[0] = 0.25
    spectrum: Tensor = torch.fft.rfft(kernel).real / spacing  # h has the unit 1 / length^2, the sum over bins a length
    if window == "hann":
        spectrum *= (1 + torch.linspace(0, math.pi, len(spectrum), dtype=torch.float64).cos()) / 2
    return spectrum
