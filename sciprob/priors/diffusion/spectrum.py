"""Functions of a covariance whose eigenvectors are known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciprob.errors import ShapeError
from sciprob.operators.fourier import filter_periodic, spectrum_weights
from sciprob.operators.kronecker import mode_products


class Spectrum(nn.Module):
    """A symmetric matrix C = Q diag(c) Q^T on tensors `(*shape)`; directions outside of Q have eigenvalue 0.

    Args:
        shape: Shape of the vectors C acts on.
        eigenvalues: c, of any shape.
        multiplicity: How often each entry of c is an eigenvalue, broadcasting to its shape.
    """

    eigenvalues: Tensor
    multiplicity: Tensor

    def __init__(self, shape: tuple[int, ...], eigenvalues: Tensor, multiplicity: Tensor) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("eigenvalues", eigenvalues.to(torch.float64).clamp_min(0))
        self.register_buffer("multiplicity", multiplicity.to(torch.float64).expand(eigenvalues.shape).clone())

    @property
    def nullity(self) -> float:
        """Number of eigenvalues 0 outside of Q."""
        return math.prod(self.shape) - float(self.multiplicity.sum())

    def apply_function(self, values: Tensor, null: Tensor, x: Tensor) -> Tensor:
        """f(C) x, `(B, *shape)`.

        Args:
            values: f(c), `(B or 1, *eigenvalues.shape)`.
            null: f(0), broadcasting to `x`.
            x: `(B, *shape)`.
        """
        raise NotImplementedError


class KroneckerSpectrum(Spectrum):
    """Q = Q_1 x ... x Q_d with orthonormal columns, one factor per axis; one factor is the dense case.

    Args:
        factors: Q_j `(n_j, r_j)`, r_j <= n_j.
        eigenvalues: `(r_1, ..., r_d)`.
        shape: Shape of the vectors, of prod n_j entries; default `(n_1, ..., n_d)`.

    Raises:
        ShapeError: If eigenvalues or shape do not fit the factors.
    """

    def __init__(self, factors: Sequence[Tensor], eigenvalues: Tensor, shape: tuple[int, ...] | None = None) -> None:
        rows = tuple(len(factor) for factor in factors)
        columns = tuple(factor.shape[1] for factor in factors)
        shape = rows if shape is None else tuple(shape)
        if tuple(eigenvalues.shape) != columns or math.prod(shape) != math.prod(rows):
            message = (
                f"factors of {rows} rows and {columns} columns need eigenvalues and vectors of these shapes, "
                f"got {tuple(eigenvalues.shape)} and {shape}."
            )
            raise ShapeError(message)
        super().__init__(shape, eigenvalues, torch.ones_like(eigenvalues))
        self.rows, self.axes = rows, len(factors)
        for axis, factor in enumerate(factors):
            self.register_buffer(f"factor_{axis}", factor.to(torch.float64))

    def apply_function(self, values: Tensor, null: Tensor, x: Tensor) -> Tensor:
        """Q (f(c) - f(0)) Q^T x + f(0) x."""
        factors = [getattr(self, f"factor_{axis}").to(x.dtype) for axis in range(self.axes)]
        modes = mode_products(x.reshape(-1, *self.rows), [factor.mT for factor in factors])
        offset = null.reshape(-1, *(1 for _ in factors))
        inside = mode_products((values - offset).to(x.dtype) * modes, factors).reshape(x.shape)
        return inside + null.to(x.dtype) * x


class FourierSpectrum(Spectrum):
    """Q = the Fourier modes of a periodic grid: C is a circular convolution.

    Args:
        shape: Grid.
        eigenvalues: Half spectrum as of `torch.fft.rfftn`, `(*shape[:-1], shape[-1] // 2 + 1)`, real.
    """

    def __init__(self, shape: tuple[int, ...], eigenvalues: Tensor) -> None:
        super().__init__(shape, eigenvalues, spectrum_weights(tuple(shape)).to(eigenvalues.device))

    def apply_function(self, values: Tensor, null: Tensor, x: Tensor) -> Tensor:
        """F^{-1} f(c) F x; every direction is in Q."""
        return filter_periodic(x, values.to(x.dtype), self.shape)


def cosine_basis(n: int, device: torch.device | None = None) -> Tensor:
    """Orthonormal DCT-II vectors as columns, `(n, n)`, float64: eigenvectors of fields with zero normal derivative."""
    points = torch.arange(n, dtype=torch.float64, device=device) + 0.5
    waves = torch.arange(n, dtype=torch.float64, device=device)
    basis = torch.cos(torch.pi / n * points[:, None] * waves) * math.sqrt(2 / n)
    basis[:, 0] /= math.sqrt(2)
    return basis
