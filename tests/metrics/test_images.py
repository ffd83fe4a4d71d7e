"""Image likeness against scikit-image."""

import math

import pytest
import torch

from sciprob.errors import ConfigError, ShapeError
from sciprob.metrics.images import psnr, ssim


def images(seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(40, 33, generator=generator, dtype=torch.float64).cumsum(0).sin()
    return truth + 0.2 * torch.randn(40, 33, generator=generator, dtype=torch.float64), truth


@pytest.mark.parametrize("span", [None, 2.5])
def test_both_are_those_of_scikit_image(span):
    peers = pytest.importorskip("skimage.metrics")
    estimate, truth = images()
    width = float(truth.max() - truth.min()) if span is None else span
    x, y = estimate.numpy(), truth.numpy()
    assert psnr(estimate, truth, span) == pytest.approx(peers.peak_signal_noise_ratio(y, x, data_range=width))
    expected = peers.structural_similarity(
        y, x, data_range=width, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(estimate, truth, span) == pytest.approx(expected, rel=1e-10)


def test_equal_images_are_alike():
    _, truth = images()
    assert psnr(truth, truth) == math.inf
    assert ssim(truth, truth) == pytest.approx(1.0)


def test_what_cannot_be_compared_is_refused():
    estimate, truth = images()
    with pytest.raises(ShapeError, match="one shape"):
        psnr(estimate[1:], truth)
    with pytest.raises(ShapeError, match="11 x 11"):
        ssim(estimate[:10], truth[:10])
    with pytest.raises(ConfigError, match="span"):
        psnr(estimate, torch.zeros_like(truth))
