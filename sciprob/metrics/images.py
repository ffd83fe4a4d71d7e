"""Likeness of two images: peak signal-to-noise ratio and structural similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError

_SIGMA, _REACH = 1.5, 5  # pixels: Gaussian window of Wang et al., 11 x 11
_C1, _C2 = 0.01, 0.03


def psnr(estimate: Tensor, truth: Tensor, span: float | None = None) -> float:
    """Peak signal-to-noise ratio in decibels, 10 log10(span^2 / mean squared error); infinite for equal images.

    Args:
        estimate: Any shape.
        truth: The same shape.
        span: Range of values an image can take; default largest minus smallest value of the truth.

    Raises:
        ShapeError: If the shapes differ.
        ConfigError: If the span is not positive.
    """
    _check(estimate, truth)
    error = float((estimate.double() - truth.double()).square().mean())
    return math.inf if error == 0 else 10 * math.log10(_span(truth, span) ** 2 / error)


def ssim(estimate: Tensor, truth: Tensor, span: float | None = None) -> float:
    """Mean structural similarity of two images: 1 for equal ones, near 0 for unrelated ones.

    Local means, variances and covariance under a Gaussian window of 1.5 pixels, cut at 5; the mean is over the
    pixels whose window lies inside the image.

    Args:
        estimate: `(height, width)`, at least 11 pixels each.
        truth: The same shape.
        span: Range of values an image can take; default largest minus smallest value of the truth.

    Raises:
        ShapeError: If the shapes differ, are not those of images, or are too small.
        ConfigError: If the span is not positive.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE Trans. Image Processing 13 (2004).
    """
    _check(estimate, truth)
    if truth.ndim != 2 or min(truth.shape) <= 2 * _REACH:
        message = f"structural similarity needs images of at least 11 x 11 pixels, got {tuple(truth.shape)}."
        raise ShapeError(message)
    x, y = estimate.double(), truth.double()
    c1, c2 = (_C1 * _span(truth, span)) ** 2, (_C2 * _span(truth, span)) ** 2
    means = _window(torch.stack([x, y, x * x, y * y, x * y]))
    mx, my = means[0], means[1]
    vx, vy, vxy = means[2] - mx**2, means[3] - my**2, means[4] - mx * my
    similarity = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(similarity.mean())


def _window(images: Tensor) -> Tensor:
    """Gaussian local means where the window fits, `(n, height - 10, width - 10)`."""
    offsets = torch.arange(-_REACH, _REACH + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / _SIGMA).square())
    kernel = kernel / kernel.sum()
    rows = torch.nn.functional.conv2d(images[:, None], kernel.view(1, 1, -1, 1))
    return torch.nn.functional.conv2d(rows, kernel.view(1, 1, 1, -1))[:, 0]


def _span(truth: Tensor, span: float | None) -> float:
    value = float(truth.max() - truth.min()) if span is None else span
    if not (math.isfinite(value) and value > 0):
        message = f"the span of image values should be positive and finite, got {value}; give `span`."
        raise ConfigError(message)
    return value


def _check(estimate: Tensor, truth: Tensor) -> None:
    if estimate.shape != truth.shape:
        message = f"images should have one shape, got {tuple(estimate.shape)} and {tuple(truth.shape)}."
        raise ShapeError(message)
