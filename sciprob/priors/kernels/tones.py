r"""Tones in sampled rows: joint least squares for cosines of unknown frequency.

Model of one row at centred coordinates x: trend(x) + sum_k A_k cos(2 pi mu_k x) + B_k sin(2 pi mu_k x), with common
frequencies and a trend of degree 4 per row, in the norm weighted by a Hann window. Amplitudes are projected
out (Golub and Pereyra's variable projection, in Kaufman's approximation), so that only the frequencies are iterated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_TREND = 5  # polynomials of degree 0 to 4, about what a low-frequency component carries


@dataclass(frozen=True)
class Samples:
    """Rows sampled at equal steps, with the window that weights them.

    Args:
        rows: `(m, n)`.
        step: Distance of samples, in the unit of the coordinate.
    """

    rows: Tensor
    step: float

    @property
    def length(self) -> float:
        """Length of the interval."""
        return self.step * (self.rows.shape[-1] - 1)

    @property
    def x(self) -> Tensor:
        """Coordinates `(n,)` from the middle of the interval."""
        x: Tensor = self.step * torch.arange(self.rows.shape[-1]).to(self.rows) - self.length / 2
        return x

    @property
    def window(self) -> Tensor:
        """Hann window `(n,)`, positive at the ends."""
        n = self.rows.shape[-1]
        window: Tensor = torch.sin(math.pi * (torch.arange(n).to(self.rows) + 0.5) / n).square()
        return window

    def waves(self, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each `(n, k)`."""
        phase = 2 * math.pi * self.x[:, None] * frequencies
        return torch.cos(phase), torch.sin(phase)

    def basis(self, frequencies: Tensor, degree: int = 0) -> Tensor:
        """Windowed trend and tones with polynomial envelopes, `(n, 5 + 2 k (degree + 1))`."""
        s = 2 * self.x[:, None] / self.length
        powers = [s**j for j in range(max(_TREND, degree + 1))]
        waves = torch.cat(self.waves(frequencies), dim=1)
        columns = torch.cat(powers[:_TREND] + [waves * powers[j] for j in range(degree + 1)], dim=1)
        basis: Tensor = self.window[:, None] * columns
        return basis

    def residual(self, frequencies: Tensor, degree: int = 0) -> Tensor:
        """Windowed rows less their projection on the basis, `(m, n)`: stable however alike the columns are."""
        q = torch.linalg.qr(self.basis(frequencies, degree)).Q
        windowed = self.window * self.rows
        rest: Tensor = windowed - (windowed @ q) @ q.mT
        return rest

    def coefficients(self, frequencies: Tensor) -> tuple[Tensor, Tensor]:
        """A and B of every row, each `(m, k)`."""
        basis = self.basis(frequencies)
        q, r = torch.linalg.qr(basis)
        fitted = torch.linalg.solve_triangular(r, q.mT @ (self.window * self.rows).mT, upper=True)
        a, b = fitted[_TREND:].mT.split(len(frequencies), dim=1)
        return a, b


def refine(samples: Samples, frequencies: Tensor, iterations: int = 10) -> Tensor:
    """Frequencies that minimise the windowed residual, by Gauss-Newton steps that never increase it.

    A step moves no frequency by more than 0.3 / length, so that tones stay in their own basin.
    """
    misfit = samples.residual(frequencies).square().sum()
    largest = 0.3 / samples.length
    for _ in range(iterations):
        step = _gauss_newton(samples, frequencies).clamp(-largest, largest)
        for _ in range(4):
            trial = samples.residual(frequencies + step).square().sum()
            if bool(trial < misfit):
                break
            step = step / 4
        else:
            return frequencies
        frequencies, misfit = frequencies + step, trial
        if float(step.abs().max()) * samples.length < 1e-9:
            break
    return frequencies


def _gauss_newton(samples: Samples, frequencies: Tensor) -> Tensor:
    """The step `(k,)` of the linearised projected residual."""
    a, b = samples.coefficients(frequencies)
    cosines, sines = samples.waves(frequencies)
    weight = 2 * math.pi * samples.window * samples.x
    slope = weight * (b.T[..., None] * cosines.T[:, None] - a.T[..., None] * sines.T[:, None])  # (k, m, n)
    q = torch.linalg.qr(samples.basis(frequencies)).Q
    slope = (slope - (slope @ q) @ q.mT).flatten(1)
    gram = slope @ slope.mT
    floor = 1e-12 * gram.diagonal().max().clamp_min(torch.finfo(gram.dtype).tiny)
    right = slope @ samples.residual(frequencies).flatten()
    step: Tensor = torch.linalg.solve(gram + floor * torch.eye(len(gram)).to(gram), right)
    return step
