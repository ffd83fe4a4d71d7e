r"""Bias and covariance of Whittle's estimates at finite length.

The periodogram of n values of a Gaussian series at the frequencies 2 pi j / n has, with r the autocovariance and
q_j = sum_{h > 0} r(h) sin(2 pi j h / n),

    E I_j = sum_{|h| < n} (1 - |h| / n) r(h) e^{-2 pi i j h / n} / (2 pi),
    |E J_j conj(J_k)|^2 = ((q_j - q_k) / (2 pi n sin(pi (j - k) / n)))^2,    I = |J|^2.

Whittle's likelihood takes I_j as independent with the mean f_j. For a spectrum that vanishes at 0 (H < 1/2) leakage
breaks both, and its curvature gives too small an error. Here the score's mean and covariance are exact, in O(n log n).
Source: White, Econometrica 50 (1982), for A^{-1} B A^{-1}; Sykulski et al., Biometrika 106 (2019), for leakage.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def score_moments(autocovariance: Tensor, spectrum: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(*batch, p)` and covariance `(*batch, p, p)` of the score of the likelihood with profiled variance.

    Args:
        autocovariance: r(0), .., r(n - 1), `(*batch, n)`.
        spectrum: f at 2 pi j / n for j = 1, .., m < n / 2, `(*batch, m)`.
        slopes: Derivatives of log f in p parameters, `(*batch, p, m)`.
    """
    n, m = autocovariance.shape[-1], spectrum.shape[-1]
    lag = torch.arange(n, dtype=spectrum.dtype, device=spectrum.device)
    weighted = autocovariance * (1 - lag / n)
    expected = (2 * torch.fft.fft(weighted).real[..., 1 : m + 1] - autocovariance[..., :1]) / (2 * math.pi)
    q = -torch.fft.fft(autocovariance).imag
    ratio = expected / spectrum
    level = ratio.mean(-1, keepdim=True)
    centred = slopes - slopes.mean(-1, keepdim=True)
    mean = (centred * (ratio / level)[..., None, :]).sum(-1)
    by = centred / (spectrum * level)[..., None, :]  # of each ordinate
    circle = torch.nn.functional.pad(by, (1, n - 1 - m))  # frequencies j and -j
    circle = circle + circle.roll(-1, -1).flip(-1)
    kernel = torch.zeros_like(lag)
    kernel[1:] = 1 / (2 * math.pi * n * torch.sin(math.pi * lag[1:] / n)).square()
    transform = torch.fft.fft(kernel)

    def convolve(x: Tensor) -> Tensor:
        found: Tensor = torch.fft.ifft(torch.fft.fft(x) * transform).real
        return found[..., 1 : m + 1]

    at, wave = q[..., None, 1 : m + 1], q[..., None, :]
    leaked = at.square() * convolve(circle) - 2 * at * convolve(circle * wave) + convolve(circle * wave.square())
    total = leaked + by * expected.square()[..., None, :]
    return mean, by @ total.mT
