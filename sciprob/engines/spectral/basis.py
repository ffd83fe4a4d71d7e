"""Fourier, sine and cosine bases of uniform grids."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.spaces import GridSpace

BOUNDARIES = ("periodic", "dirichlet", "neumann")


class SpectralBasis:
    """Trigonometric basis of a grid in 1 to 3 dimensions, with diagonal derivatives.

    A bounded axis is one half of a periodic axis of twice the length, on which fields are odd
    (`"dirichlet"`: zero on the boundary) or even (`"neumann"`: zero normal derivative) about the
    bounds: fields are extended, then transformed by the real FFT. All lengths, even and odd, are
    allowed; dtype and device follow the argument. Leading axes are batch axes.

    Args:
        grid: Centring `"periodic"` if all axes are periodic, else `"cell"`.
        boundary: One of `"periodic"`, `"dirichlet"`, `"neumann"`, or one per tensor axis of `grid`.

    Attributes:
        spectral_shape: Shape of the coefficients of one field.

    Raises:
        UnsupportedProblemError: If an axis is bounded and the grid is not cell-centred, or all are periodic and
            it is neither periodic nor cell-centred.
    """

    def __init__(self, grid: GridSpace, boundary: str | tuple[str, ...] = "periodic") -> None:
        self.grid = grid
        self.boundary = (boundary,) * len(grid.shape) if isinstance(boundary, str) else tuple(boundary)
        if len(self.boundary) != len(grid.shape) or any(b not in BOUNDARIES for b in self.boundary):
            message = f"`boundary` should be one of {BOUNDARIES}, or one per axis of {grid.dims}, got {boundary!r}."
            raise ShapeError(message)
        if grid.centring == "node" or (grid.centring == "periodic" and self.bounded):
            wanted = "cell" if self.bounded else "periodic"
            message = f"a {'/'.join(self.boundary)} basis needs a grid with centring {wanted!r}, got {grid.centring!r}."
            raise UnsupportedProblemError(message)
        self.extended_shape = tuple(
            n if b == "periodic" else 2 * n for n, b in zip(grid.shape, self.boundary, strict=True)
        )
        self.spectral_shape = (*self.extended_shape[:-1], self.extended_shape[-1] // 2 + 1)
        self._axes = tuple(range(-len(grid.shape), 0))
        self._cache: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    @property
    def bounded(self) -> bool:
        """Whether any axis is bounded."""
        return any(b != "periodic" for b in self.boundary)

    def to_spectral(self, u: Tensor, flipped: Collection[str] = ()) -> Tensor:
        """Coefficients of grid values: `(*lead, *grid.shape)` real -> `(*lead, *spectral_shape)` complex.

        Args:
            u: Values on the grid.
            flipped: Bounded axes along which `u` has the other parity, such as the square of an odd field.
        """
        for i, axis in enumerate(self._axes):
            if self.boundary[i] != "periodic":
                odd = (self.boundary[i] == "dirichlet") != (self.grid.dims[i] in flipped)
                image = u.flip(axis)
                u = torch.cat([u, -image if odd else image], dim=axis)
        if u.numel() == 0:  # FFT libraries refuse empty batches
            return u.new_zeros(*u.shape[: -len(self._axes)], *self.spectral_shape, dtype=u.dtype.to_complex())
        u_hat: Tensor = torch.fft.rfftn(u, dim=self._axes)
        return u_hat

    def to_grid(self, u_hat: Tensor) -> Tensor:
        """Grid values of coefficients, the inverse of `to_spectral`."""
        if u_hat.numel() == 0:
            return u_hat.real.new_zeros(*u_hat.shape[: -len(self._axes)], *self.grid.shape)
        u: Tensor = torch.fft.irfftn(u_hat, s=self.extended_shape, dim=self._axes)
        for i, axis in enumerate(self._axes):
            if self.boundary[i] != "periodic":
                u = u.narrow(axis, 0, self.grid.shape[i])
        return u

    def wavenumber(self, dim: str, like: Tensor | None = None) -> Tensor:
        """Angular wavenumber k of an axis, real, broadcastable over `spectral_shape`; d/dx has the symbol i k.

        The Nyquist entry of an even length is zero: an odd derivative of that mode vanishes on the grid.
        dtype and device are those of `like` (float64 on the CPU without it).
        """

        def build() -> Tensor:
            i = self._axis(dim)
            k, n = self._index(i), self.extended_shape[i]
            scale = 2 * math.pi / (self.grid.spacing[i] * n)
            return scale * torch.where(2 * k.abs() == n, 0.0, k)

        return self._cached(f"wavenumber {dim}", like, build)

    def laplacian(self, like: Tensor | None = None) -> Tensor:
        """Symbol of the Laplacian, -|k|^2 <= 0 with the Nyquist entries, `(*spectral_shape)`; `like` as above."""

        def build() -> Tensor:
            one = torch.ones(self.spectral_shape, dtype=torch.float64)
            return one * sum(self._even_symbol(dim, 2, one) for dim in self.grid.dims)

        return self._cached("laplacian", like, build)

    def dealias(self, like: Tensor | None = None) -> Tensor:
        """Mask of the 2/3 rule, 0 or 1, `(*spectral_shape)`; `like` as above.

        The product of two fields within the mask is exact within the mask.
        """

        def build() -> Tensor:
            keep = torch.ones(self.spectral_shape, dtype=torch.bool)
            for i, n in enumerate(self.extended_shape):
                keep = keep & (self._index(i).abs() <= (n - 1) // 3)
            return keep.double()

        return self._cached("dealias", like, build)

    def derivative(self, u_hat: Tensor, dim: str, order: int = 1) -> Tensor:
        """Coefficients of the `order`-th derivative along `dim`.

        Along a bounded axis an odd order changes the parity: transform back by `to_grid` only.
        """
        if order % 2 == 0:
            return u_hat * self._even_symbol(dim, order, u_hat)
        symbol = self.wavenumber(dim, u_hat) ** order * (-1.0) ** (order // 2)
        return u_hat * torch.complex(torch.zeros_like(symbol), symbol)

    def values_of_derivative(self, u_hat: Tensor, derivative: str) -> Tensor:
        """Grid values of a derivative named by its axes: `"x"`, `"xx"`, `"xy"`, `"xxxx"`; `""` is the value."""
        for dim in sorted(set(derivative)):
            u_hat = self.derivative(u_hat, dim, derivative.count(dim))
        return self.to_grid(u_hat)

    def _even_symbol(self, dim: str, order: int, like: Tensor) -> Tensor:
        """(i k)^order for even orders, which keep the Nyquist mode."""

        def build() -> Tensor:
            i = self._axis(dim)
            scale = 2 * math.pi / (self.grid.spacing[i] * self.extended_shape[i])
            return (-1.0) ** (order // 2) * (scale * self._index(i)) ** order

        return self._cached(f"even {dim} {order}", like, build)

    def _axis(self, dim: str) -> int:
        if dim not in self.grid.dims:
            message = f"the grid has no axis {dim!r}, its axes are {self.grid.dims}."
            raise ShapeError(message)
        return self.grid.dims.index(dim)

    def _index(self, i: int) -> Tensor:
        """Signed mode numbers of axis `i`, shaped to broadcast over `spectral_shape`, float64."""
        n, d = self.extended_shape[i], len(self.extended_shape)
        frequencies = torch.fft.rfftfreq if i == d - 1 else torch.fft.fftfreq
        k: Tensor = frequencies(n, 1 / n, dtype=torch.float64).round()
        return k.reshape([-1 if j == i else 1 for j in range(d)])

    def _cached(self, name: str, like: Tensor | None, build: Callable[[], Tensor]) -> Tensor:
        """A real tensor by name in the precision and on the device of `like`."""
        dtype = torch.float64 if like is None else torch.empty(0, dtype=like.dtype).real.dtype
        device = torch.device("cpu") if like is None else like.device
        key = (name, dtype, device)
        if key not in self._cache:
            with torch.inference_mode(False):  # kept for later calls, which may record derivatives
                self._cache[key] = build().to(dtype=dtype, device=device)
        return self._cache[key]
