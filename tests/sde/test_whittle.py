"""Whittle's estimates at finite length: the score's moments are exact, intervals cover where the spectrum vanishes."""

import math

import numpy as np
import pytest
import torch

from sciprob.sde import fgn_autocovariance, hurst_whittle, sample_fgn
from sciprob.sde.whittle import score_moments


@pytest.mark.parametrize("n", [16, 17])
def test_moments_of_the_score_are_those_of_the_dense_covariance(n):
    m = (n - 1) // 2
    r = fgn_autocovariance(n, torch.tensor([0.2, 0.8], dtype=torch.float64), normalisation="unit")
    generator = torch.Generator().manual_seed(0)
    spectrum = 1 + torch.rand(2, m, dtype=torch.float64, generator=generator)
    slopes = torch.randn(2, 2, m, dtype=torch.float64, generator=generator)
    mean, covariance = score_moments(r, spectrum, slopes)
    fourier = np.exp(-2j * math.pi / n * np.outer(np.arange(1, m + 1), np.arange(n))) / math.sqrt(2 * math.pi * n)
    for i in range(2):
        full = r[i].numpy()[np.abs(np.subtract.outer(np.arange(n), np.arange(n)))]
        across, along = fourier @ full @ fourier.conj().T, fourier @ full @ fourier.T
        expected, f = across.diagonal().real, spectrum[i].numpy()
        level = (expected / f).mean()
        centred = (slopes[i] - slopes[i].mean(-1, keepdim=True)).numpy() / (f * level)
        by_hand = centred @ (np.abs(across) ** 2 + np.abs(along) ** 2) @ centred.T
        np.testing.assert_allclose(covariance[i].numpy(), by_hand, rtol=1e-10, atol=1e-12 * np.abs(by_hand).max())
        np.testing.assert_allclose(mean[i].numpy(), centred @ expected, rtol=1e-10, atol=1e-12)


def test_intervals_cover_where_power_leaks():
    """At H = .05 the curvature alone covers 80 % and the bias is half of the spread."""
    count = 200
    x = sample_fgn(256, 0.05, generator=torch.Generator().manual_seed(1), normalisation="unit", shape=(count,))
    found = hurst_whittle(x, observed="increments")
    low, high = found.interval(0.9)
    inside = float(((low <= 0.05) & (high >= 0.05)).double().mean())
    assert abs(inside - 0.9) < 3 * math.sqrt(0.9 * 0.1 / count)
    assert float(found.std_error.mean() / found.hurst.std()) == pytest.approx(1, abs=4 / math.sqrt(2 * count))
    assert abs(float(found.hurst.mean()) - 0.05) < 4 * float(found.hurst.std()) / math.sqrt(count)
