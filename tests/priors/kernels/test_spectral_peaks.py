"""Frequencies from samples: between the bins, weak beside strong, modulated, averaged, under noise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.priors.kernels import GaussianMixture, StudentMixture, covariance, initial_mixture, spectral_peaks


def line(length: float, n: int) -> tuple[Tensor, float]:
    return torch.linspace(0, length, n, dtype=torch.float64), length / (n - 1)


def tones(x: Tensor, frequencies: list[float], amplitudes: list[float], phases: list[float]) -> Tensor:
    terms = [a * torch.sin(2 * math.pi * f * x + p) for f, a, p in zip(frequencies, amplitudes, phases, strict=True)]
    return torch.stack(terms).sum(0)


def uniform(generator: torch.Generator, low: float, high: float, size: int) -> list[float]:
    values = low + (high - low) * torch.rand(size, generator=generator, dtype=torch.float64)
    return [float(v) for v in values]


@pytest.mark.parametrize("seed", range(8))
def test_random_frequencies_are_found_to_rounding(seed: int) -> None:
    """Four tones, none periodic on the interval, at least 2.5 / L apart, amplitudes over three decades."""
    generator = torch.Generator().manual_seed(seed)
    length = uniform(generator, 0.5, 7.0, 1)[0]
    x, step = line(length, 300)
    gaps = uniform(generator, 2.5, 30.0, 4)
    frequencies = [sum(gaps[: k + 1]) / length for k in range(4)]
    amplitudes = [10.0**e for e in uniform(generator, -1.5, 1.5, 4)]
    values = tones(x, frequencies, amplitudes, uniform(generator, 0, 6.28, 4))
    peaks = spectral_peaks(values, step)
    order = sorted(range(4), key=lambda k: -amplitudes[k])
    expected = torch.tensor([[frequencies[k], amplitudes[k]] for k in order], dtype=torch.float64)
    assert float((peaks.frequencies[:4] - expected[:, 0]).abs().max()) * length < 1e-6
    torch.testing.assert_close(peaks.amplitudes[:4], expected[:, 1], rtol=1e-5, atol=0)
    assert float(peaks.amplitudes[4:].sum()) < 1e-5 * float(peaks.amplitudes[0])


def test_close_tones_and_a_weak_one_beside_a_strong_one() -> None:
    """1.3 / L apart, below what the window resolves; and four decades weaker at 5 / L."""
    x, step = line(2.0, 400)
    peaks = spectral_peaks(tones(x, [10.03, 10.68, 13.2], [1.0, 0.8, 1e-4], [0.3, 1.0, 2.0]), step)
    found = peaks.frequencies[:3]
    torch.testing.assert_close(found, torch.tensor([10.03, 10.68, 13.2], dtype=torch.float64), rtol=1e-6, atol=0)


def test_trend_does_not_hide_or_shift_tones() -> None:
    x, step = line(1.0, 400)
    for trend in (5.0 - 40 * (x - 0.3) ** 2, torch.exp(2 * x), 30 * torch.sin(0.9 * x)):
        peaks = spectral_peaks(trend + tones(x, [17.31], [1.0], [0.4]), step)
        nearest = (peaks.frequencies - 17.31).abs().min()
        assert float(nearest) < 1e-3  # of 1 / L = 1


@pytest.mark.parametrize("envelope", [lambda s: 1 + s, lambda s: s, lambda s: 1 + 0.5 * s + s**2])
def test_modulated_tone_has_its_peaks_at_the_carrier(envelope) -> None:
    """Slowly varying amplitude: 99 % of the weight within the main lobe of the window, 2 / L, around the carrier."""
    length = 2 * math.pi
    x, step = line(length, 600)
    values = envelope(2 * x / length - 1) * torch.sin(150.3 * x + 0.2)
    peaks = spectral_peaks(values, step)
    carrier = 150.3 / (2 * math.pi)
    weights = peaks.amplitudes.square() / peaks.amplitudes.square().sum()
    near = (peaks.frequencies - carrier).abs() * length < 2.0
    assert float(weights[~near].sum()) < 1e-2
    assert float((peaks.frequencies[0] - carrier).abs()) * length < 1.3


def test_product_of_tones_on_a_plane_averages_over_the_other_axis() -> None:
    x, step = line(1.5, 128)
    y, _ = line(1.0, 90)
    values = tones(x, [9.7], [1.0], [0.3])[:, None] * tones(y, [13.1], [2.0], [1.0])
    values = values + tones(x, [21.4], [0.5], [0.0])[:, None] + torch.ones_like(y)
    along_x = spectral_peaks(values.mT, step)
    torch.testing.assert_close(
        along_x.frequencies[:2].sort().values, torch.tensor([9.7, 21.4]).double(), rtol=1e-6, atol=0
    )
    along_y = spectral_peaks(values, 1.0 / 89)
    torch.testing.assert_close(along_y.frequencies[:1], torch.tensor([13.1]).double(), rtol=1e-6, atol=0)
    assert float(along_y.amplitudes[1:].sum()) < 1e-5
    cube = torch.stack([values, -values, 0.5 * values])
    again = spectral_peaks(cube, 1.0 / 89)
    torch.testing.assert_close(again.frequencies[0], along_y.frequencies[0], rtol=1e-8, atol=0)
    torch.testing.assert_close(again.amplitudes[0], along_y.amplitudes[0] * math.sqrt(2.25 / 3), rtol=1e-6, atol=0)


def test_many_rows_and_few_give_the_same() -> None:
    """More rows than samples are compressed without loss."""
    generator = torch.Generator().manual_seed(2)
    x, step = line(1.0, 40)
    phases = torch.tensor(uniform(generator, 0, 6.28, 100)).double()[:, None]
    rows = torch.sin(2 * math.pi * 7.3 * x + phases) * (1 + phases)
    peaks = spectral_peaks(rows, step)
    torch.testing.assert_close(peaks.frequencies[0], torch.tensor(7.3).double(), rtol=1e-7, atol=0)
    expected = (1 + phases).square().mean().sqrt()
    torch.testing.assert_close(peaks.amplitudes[0], expected, rtol=1e-6, atol=0)


def test_noise_alone_has_no_peaks_and_noise_with_a_tone_has_one() -> None:
    x, step = line(3.0, 500)
    found = 0
    for seed in range(20):
        noise = torch.randn(500, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found += len(spectral_peaks(noise, step).frequencies)
        peaks = spectral_peaks(noise + tones(x, [22.2], [1.5], [0.1]), step)
        # Cramer-Rao for one tone: std of the frequency sqrt(6 / (n snr)) / (pi L); a window doubles it about.
        assert abs(float(peaks.frequencies[0]) - 22.2) < 5 * 2 * math.sqrt(6 / (500 * 1.125)) / (math.pi * 3.0)
    assert found <= 1


def test_constants_and_lines_have_no_peaks() -> None:
    x, step = line(1.0, 64)
    for values in (torch.zeros_like(x), torch.ones_like(x), 3 * x - 1, x.expand(9, 64), x.expand(0, 64)):
        assert spectral_peaks(values, step).frequencies.shape == (0,)


def test_scale_shift_and_mirror() -> None:
    """Unit of the coordinate, unit of the values, and reversal of the axis."""
    x, step = line(2.0, 250)
    values = tones(x, [8.13, 19.4], [1.0, 0.1], [0.3, 1.0])
    reference = spectral_peaks(values, step)
    stretched = spectral_peaks(1e6 * values.flip(-1), 1000 * step)
    torch.testing.assert_close(1000 * stretched.frequencies[:2], reference.frequencies[:2], rtol=1e-9, atol=0)
    torch.testing.assert_close(stretched.amplitudes[:2], 1e6 * reference.amplitudes[:2], rtol=1e-7, atol=0)


def test_count_and_short_data() -> None:
    x, step = line(1.0, 24)
    peaks = spectral_peaks(tones(x, [4.3], [1.0], [0.0]), step)
    assert abs(float(peaks.frequencies[0]) - 4.3) < 1e-3
    x, step = line(1.0, 400)
    values = tones(x, [10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 3.0, 4.0], [0.0] * 4)
    torch.testing.assert_close(
        spectral_peaks(values, step, count=2).frequencies, torch.tensor([40.0, 30.0]).double(), rtol=1e-4, atol=0
    )


def test_single_precision() -> None:
    x, step = line(1.0, 200)
    peaks = spectral_peaks(tones(x, [12.34], [1.0], [0.0]).float(), step)
    assert peaks.frequencies.dtype == torch.float32
    assert abs(float(peaks.frequencies[0]) - 12.34) < 1e-3


def test_initial_mixture_has_the_weights_and_a_low_component() -> None:
    frequencies, amplitudes = torch.tensor([3.0, 8.0]).double(), torch.tensor([2.0, 1.0]).double()
    kernel = initial_mixture(frequencies, amplitudes, 4.0)
    assert isinstance(kernel, GaussianMixture)
    torch.testing.assert_close(kernel.weights.detach(), torch.tensor([5.0, 4.0, 1.0]).double())
    torch.testing.assert_close(kernel.frequencies.detach(), torch.tensor([0.0, 3.0, 8.0]).double())
    torch.testing.assert_close(kernel.decay.detach(), torch.full((3,), 1 / 16).double())
    student = initial_mixture(frequencies, amplitudes, 4.0, "student", variance=7.0, low=0.5, scale=2.0, smoothness=3.5)
    assert isinstance(student, StudentMixture)
    assert student.max_order == 6
    torch.testing.assert_close(student.inverse_lengths.detach(), torch.full((3,), 0.5).double())
    at_zero = covariance(student, torch.zeros(1).double(), torch.zeros(1).double()).detach()
    torch.testing.assert_close(at_zero, torch.full((1, 1), 7.0).double())
    empty = initial_mixture(frequencies[:0], amplitudes[:0], 4.0)
    assert empty.weights.tolist() == [1.0]
    with pytest.raises(ConfigError, match="'gaussian' or 'student', got 'cauchy'"):
        initial_mixture(frequencies, amplitudes, 4.0, "cauchy")


def test_unusable_values() -> None:
    with pytest.raises(DataError, match="entry 3 of the flattened values is not finite"):
        spectral_peaks(torch.tensor([0.0, 1, 2, math.nan] + [1.0] * 20), 0.1)
    with pytest.raises(ShapeError, match="at least 16 samples along the last axis to show a spectrum, got 5"):
        spectral_peaks(torch.zeros(20, 5), 0.1)
