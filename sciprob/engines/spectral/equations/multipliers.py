"""Spectral multipliers that equations share."""

from __future__ import annotations

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis


class Multipliers:
    """Named multipliers of coefficients, built once in double precision.

    `multipliers(name, like)` has the precision and device of `like`, and is kept for the next call.
    """

    def __init__(self, **values: Tensor) -> None:
        self._values = values
        self._cache: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def __call__(self, name: str, like: Tensor) -> Tensor:
        """The multiplier `name`, real or complex as built."""
        key = (name, like.dtype, like.device)
        if key not in self._cache:
            value = self._values[name]
            precision = torch.empty(0, dtype=like.dtype).real.dtype
            dtype = precision.to_complex() if value.is_complex() else precision
            self._cache[key] = value.to(dtype=dtype, device=like.device)
        return self._cache[key]


def real(value: Tensor) -> Tensor:
    """A real tensor as a complex one, so that products with coefficients need no conversion on the way."""
    return torch.complex(value, torch.zeros_like(value))


def imaginary(value: Tensor) -> Tensor:
    """I times a real tensor."""
    return torch.complex(torch.zeros_like(value), value)


def polynomial_mask(basis: SpectralBasis, degree: int) -> Tensor:
    """Modes within which a product of `degree` fields of these modes has no aliases, 0 or 1, `(*spectral_shape)`.

    The rule is |k| < 2/(degree + 1) k_Nyquist along every axis: 2/3 for products of two, 1/2 for cubes.
    """
    keep = torch.ones(basis.spectral_shape, dtype=torch.bool)
    for i, n in enumerate(basis.extended_shape):
        last = i == len(basis.extended_shape) - 1
        index = torch.fft.rfftfreq(n, 1 / n) if last else torch.fft.fftfreq(n, 1 / n)
        allowed = index.round().abs() * (degree + 1) < n
        keep = keep & allowed.reshape([-1 if j == i else 1 for j in range(keep.ndim)])
    return keep.double()
