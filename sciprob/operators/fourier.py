"""Periodic convolutions by the fast Fourier transform."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError, UnsupportedProblemError
from sciprob.operators.linear import LinearMap
from sciprob.spaces import Space


def filter_periodic(x: Tensor, transfer: Tensor, shape: tuple[int, ...]) -> Tensor:
    """F^{-1} diag(transfer) F x over the last axes.

    Args:
        x: Real, `(*batch, *shape)`.
        transfer: Half spectrum as of `torch.fft.rfftn`, `(*shape[:-1], shape[-1] // 2 + 1)`.
        shape: Sizes of the transformed axes.
    """
    if x.numel() == 0:
        return x * 1  # an empty batch, which the FFT refuses
    axes = tuple(range(-len(shape), 0))
    y: Tensor = torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * transfer, s=shape, dim=axes)
    return y


def spectrum_weights(shape: tuple[int, ...]) -> Tensor:
    """How often each entry of the half spectrum stands in the full one, `(shape[-1] // 2 + 1,)`: 1 or 2."""
    n = shape[-1]
    weights = torch.full((n // 2 + 1,), 2.0, dtype=torch.float64)
    weights[0] = 1.0
    if n % 2 == 0:
        weights[-1] = 1.0
    return weights


class Convolution(LinearMap):
    """Y_i = sum_j k_{i-j} x_j with indices modulo the grid: a circulant matrix.

    Costs two FFTs. As `root` of `GaussianNoise` it makes stationary correlated noise, see `square_root`.

    Args:
        space: Grid of x and y, 1 to 3 axes.
        kernel: k `(*space.shape)` with its origin at index 0; `torch.fft.ifftshift` moves it there.

    Raises:
        ShapeError: If the kernel has another shape.
    """

    transfer: Tensor

    def __init__(self, space: Space, kernel: Tensor) -> None:
        super().__init__(space, space)
        if tuple(kernel.shape) != space.shape:
            message = f"`kernel` should be {space.shape}, got {tuple(kernel.shape)}; pad it with zeros."
            raise ShapeError(message)
        self.register_buffer("transfer", torch.fft.rfftn(kernel))

    @classmethod
    def square_root(cls, space: Space, covariance: Tensor) -> Self:
        """The symmetric root C of a circulant covariance C C^T.

        Args:
            space: Grid.
            covariance: First column of the covariance, `(*space.shape)`, even about the origin.

        Raises:
            ConfigError: If it is not even, or its spectrum is not positive.
        """
        spectrum = torch.fft.fftn(covariance.to(torch.float64))
        scale = float(spectrum.abs().max())
        if not float(spectrum.imag.abs().max()) <= 1e-12 * scale or not float(spectrum.real.min()) > 0:
            message = "a stationary covariance should be even with a positive spectrum; add a nugget at the origin."
            raise ConfigError(message)
        return cls(space, torch.fft.ifftn(spectrum.real.sqrt()).real.to(covariance.dtype))

    def _apply_batched(self, m: Any) -> Any:
        return filter_periodic(m, self._spectrum(m), self.domain.shape)

    def _adjoint_batched(self, y: Any) -> Any:
        return filter_periodic(y, self._spectrum(y).conj(), self.domain.shape)

    def gram(self, weight: LinearMap | None = None) -> LinearMap:
        """`A^T W A`; without W again a convolution, with the spectrum |k|^2."""
        if weight is not None:
            return super().gram(weight)
        square = torch.fft.irfftn(self.transfer.abs().square(), s=self.domain.shape)
        return Convolution(self.domain, square)

    def solve(self, y: Tensor) -> Tensor:
        """Division by the spectrum.

        Raises:
            UnsupportedProblemError: If the spectrum has a zero.
        """
        self._refuse_singular()
        self.codomain.batch_shape(y)
        return filter_periodic(y, 1 / self._spectrum(y), self.domain.shape)

    def log_abs_det(self) -> Tensor:
        """Sum of `log |spectrum|`.

        Raises:
            UnsupportedProblemError: If the spectrum has a zero.
        """
        self._refuse_singular()
        weights = spectrum_weights(self.domain.shape).to(self.transfer.device)
        return (weights * self.transfer.abs().log()).sum()

    def _spectrum(self, x: Tensor) -> Tensor:
        """The spectrum in the complex type of x."""
        return self.transfer.to(torch.promote_types(x.dtype, torch.complex32))

    def _refuse_singular(self) -> None:
        size = self.transfer.abs()
        if float(size.min()) <= 1e-14 * float(size.max()):
            message = "this convolution loses some frequencies entirely and has no inverse; use a regularised solver."
            raise UnsupportedProblemError(message)
