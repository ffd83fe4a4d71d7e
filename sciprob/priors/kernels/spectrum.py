r"""Dominant frequencies of sampled data, and the mixture kernel they suggest.

For an operator with constant coefficients |u^(s)| = |f^(s)| / |symbol(s)|: the source is data about the spectrum of the
solution. Peaks are taken one after another from a windowed, zero-padded periodogram of what the earlier ones
leave, then refined together, so that weak tones beside strong ones, tones between the bins and tones with slowly
varying amplitude are found. What a source does not show (the null space of the operator) must come from elsewhere.

Source: Mamandipoor, Ramasamy, Madhow, Newtonized orthogonal matching pursuit, IEEE Trans. Signal Process. 64 (2016).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sciprob.errors import ConfigError, DataError, ShapeError
from sciprob.priors.kernels.base import StationaryKernel
from sciprob.priors.kernels.mixtures import GaussianMixture, StudentMixture
from sciprob.priors.kernels.tones import Samples, refine

_SIGNIFICANT = 20.0  # power of a peak over the median of the spectrum; noise alone reaches about 12
_FEW = 4  # rows not worth compressing
_ROUNDING = 100.0  # multiples of the precision of the values below which nothing counts


class SpectralPeaks(NamedTuple):
    """Tones, the strongest first.

    Attributes:
        frequencies: `(k,)`, in cycles per unit of the coordinate.
        amplitudes: `(k,)`, root mean square over the rows of sqrt(A^2 + B^2), in the unit of the values.
    """

    frequencies: Tensor
    amplitudes: Tensor


def spectral_peaks(
    values: Tensor,
    step: float,
    *,
    count: int = 8,
    padding: int = 8,
    separation: float = 1.2,
    threshold: float = 1e-7,
) -> SpectralPeaks:
    r"""The strongest tones along the last axis, common to all rows.

    A tone is a local maximum of the Hann-windowed periodogram of what trend and earlier tones leave,
    `padding`-fold zero-padded, and refined together with the others by least squares between the bins. Earlier
    tones are taken out with envelopes of degree 2, as a kernel component carries them, so that slow modulation
    makes no tones of its own.
    Sums of pure tones further apart than 2 / L are recovered to rounding; frequencies below `separation` / L
    count as trend, frequencies above Nyquist's 1 / (2 step) appear folded.

    Args:
        values: `(*rows, n)` at equal steps; the power is summed over rows.
        step: Distance of samples.
        count: Most tones returned.
        padding: Bins of the periodogram per 1 / L.
        separation: Least distance of two tones, in 1 / L with L = (n - 1) step.
        threshold: Least amplitude, relative to the largest.

    Returns:
        At most `count` tones, perhaps none (constant values, noise alone, no rows). dtype and device of `values`.

    Raises:
        DataError: If a value is not finite.
        ShapeError: If there are fewer than 16 samples.
    """
    samples = _samples(values, step)
    frequencies = samples.rows.new_zeros(0)
    if not samples.rows.numel():
        return SpectralPeaks(frequencies, frequencies)
    largest = _ROUNDING * torch.finfo(values.dtype).eps / threshold * float(samples.rows.abs().max())
    for _ in range(_affordable(count, samples.rows.shape[-1])):
        found = _strongest(samples, frequencies, padding, separation, threshold * largest)
        if found is None:
            break
        frequencies = _apart(samples, frequencies, found, separation)
        largest = max(largest, float(_amplitudes(samples, frequencies).max()))
    if not len(frequencies):
        return SpectralPeaks(frequencies, frequencies)
    refined = refine(samples, frequencies)
    frequencies = refined if _separated(refined, samples, separation) else frequencies
    amplitudes = _amplitudes(samples, frequencies)
    strong = amplitudes >= threshold * amplitudes.max()
    order = amplitudes.argsort(descending=True)
    order = order[strong[order]]
    return SpectralPeaks(frequencies[order], amplitudes[order])


def initial_mixture(
    frequencies: Tensor,
    amplitudes: Tensor,
    length: float,
    kind: str = "gaussian",
    *,
    scale: float = 1.0,
    low: float = 1.0,
    variance: float | None = None,
    smoothness: float = 2.5,
) -> StationaryKernel:
    """A mixture kernel with one component per peak and one of frequency 0, for trend and boundary values.

    Weights are squared amplitudes, the low-frequency weight `low` times their sum; envelopes have decay
    (scale / length)^2, or inverse length scale / length.

    Args:
        frequencies: `(k,)`, cycles per unit of the coordinate; k = 0 is allowed.
        amplitudes: `(k,)` of the solution: those of a source divided by the modulus of the operator's symbol.
        length: L of the interval.
        kind: `"gaussian"` or `"student"`.
        scale: Envelopes per interval: larger values let amplitudes vary faster.
        low: Weight of the low-frequency component relative to all others.
        variance: k(0), to which all weights are scaled; by default they are left as they are.
        smoothness: Of the Matern envelope of `"student"`.

    Raises:
        ConfigError: If the kind is unknown, or an amplitude is not positive.
    """
    weights = amplitudes.square()
    total = weights.sum() if len(weights) else weights.new_ones(())
    weights = torch.cat([low * total[None], weights])
    if variance is not None:
        weights = variance * weights / weights.sum()
    frequencies = torch.cat([frequencies.new_zeros(1), frequencies])
    width = torch.full_like(weights, scale / length)
    if kind == "gaussian":
        return GaussianMixture(weights, frequencies, width.square())
    if kind == "student":
        return StudentMixture(weights, frequencies, width, smoothness)
    message = f"`kind` of a mixture should be 'gaussian' or 'student', got {kind!r}."
    raise ConfigError(message)


def _samples(values: Tensor, step: float) -> Samples:
    n = values.shape[-1] if values.ndim else 0
    if n < 16:
        message = f"`values` should have at least 16 samples along the last axis to show a spectrum, got {n}."
        raise ShapeError(message)
    if not bool(torch.isfinite(values).all()):
        row = int((~torch.isfinite(values)).reshape(-1).nonzero()[0])
        message = f"entry {row} of the flattened values is not finite; a spectrum needs all of them."
        raise DataError(message)
    return Samples(_compressed(values.detach().reshape(-1, n)), float(step))


def _compressed(rows: Tensor) -> Tensor:
    """Fewer rows with the same rows^T rows / count, which is all that enters: one per singular value above rounding."""
    m, n = rows.shape
    if m <= _FEW:
        return rows
    if m > n:
        rows = torch.linalg.qr(rows, mode="r").R
    _, s, v = torch.linalg.svd(rows, full_matrices=False)
    rank = max(1, int((s > n * torch.finfo(s.dtype).eps * s[0]).sum()))
    compressed: Tensor = (rank / m) ** 0.5 * s[:rank, None] * v[:rank]
    return compressed


def _affordable(count: int, n: int) -> int:
    """Tones that leave half of the samples free."""
    return max(1, min(count, (n // 2 - 5) // 2))


def _degree(tones: int, n: int) -> int:
    """Degree of the envelopes taken out, as long as half of the samples stay free."""
    return max(d for d in range(3) if d == 0 or 5 + 2 * tones * (d + 1) <= n // 2)


def _strongest(samples: Samples, taken: Tensor, padding: int, separation: float, least: float) -> float | None:
    """Frequency of the strongest admissible peak of the residual, or None."""
    n = samples.rows.shape[-1]
    residual = samples.residual(taken, _degree(len(taken), n))
    size = padding * n
    power = torch.fft.rfft(samples.window * residual, n=size).abs().square().sum(0)
    grid = torch.arange(len(power)).to(power) / (size * samples.step)
    inner = power[1:-1]
    peak = (inner >= power[:-2]) & (inner >= power[2:]) & (grid[1:-1] >= separation / samples.length)
    if len(taken):
        peak &= (grid[1:-1, None] - taken).abs().amin(1) >= separation / samples.length
    amplitude = 2 * inner.sqrt() / samples.window.square().sum()
    peak &= (inner > _SIGNIFICANT * power.median()) & (amplitude > least)
    if not bool(peak.any()):
        return None
    k = int(torch.where(peak, inner, -torch.ones_like(inner)).argmax()) + 1
    return float(grid[k])


def _apart(samples: Samples, taken: Tensor, found: float, separation: float) -> Tensor:
    """All tones refined together, unless that makes two of them meet."""
    frequencies = torch.cat([taken, taken.new_tensor([found])])
    refined = refine(samples, frequencies)
    return refined if _separated(refined, samples, separation) else frequencies


def _separated(frequencies: Tensor, samples: Samples, separation: float) -> bool:
    ordered = frequencies.sort().values
    bounded = bool(ordered[0] > 0.5 * separation / samples.length) and bool(ordered[-1] < 0.5 / samples.step)
    return bounded and bool((ordered.diff() > 0.5 * separation / samples.length).all())


def _amplitudes(samples: Samples, frequencies: Tensor) -> Tensor:
    a, b = samples.coefficients(frequencies)
    return (a.square() + b.square()).mean(0).sqrt()
