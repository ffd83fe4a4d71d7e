"""Gaussian priors given by the eigenvectors of their covariance."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.operators.kronecker import mode_products
from sciprob.operators.linear import LinearMap
from sciprob.priors.base import GaussianPrior
from sciprob.priors.diffusion.spectrum import Spectrum, cosine_basis
from sciprob.spaces import Space


class CosineSpectrum(Spectrum):
    """Q = products of cosines along the axes (DCT-II), those of low frequency mixed by a dense rotation.

    Such a C is diagonal at high frequencies, as that of a stationary field with zero normal derivative, and any
    covariance at low ones, which know where in the image a field varies.

    Args:
        variances: Variances of the cosine modes, `(*shape)`.
        low: Covariance of the modes with all frequencies below b, `(b^d, b^d)`, b^d in the order of the axes; it
            replaces their variances. None for a diagonal C.

    Raises:
        ShapeError: If `low` is not square, or of no number of modes that fits.
    """

    vectors: Tensor

    def __init__(self, variances: Tensor, low: Tensor | None = None) -> None:
        shape = tuple(variances.shape)
        values, vectors = variances.to(torch.float64).clone(), torch.empty(0)
        block = 0 if low is None else round(len(low) ** (1 / len(shape)))
        if low is not None:
            if tuple(low.shape) != (block ** len(shape),) * 2 or block > min(shape):
                message = (
                    f"`low` should be a square of b^{len(shape)} modes with b up to {min(shape)}, "
                    f"got {tuple(low.shape)}."
                )
                raise ShapeError(message)
            eigenvalues, vectors = torch.linalg.eigh(low.to(torch.float64))
            corner = tuple(slice(block) for _ in shape)
            values[corner] = eigenvalues.reshape(values[corner].shape)
        super().__init__(shape, values, torch.ones((), dtype=torch.float64))
        self.block = block
        for axis, n in enumerate(shape):
            self.register_buffer(f"factor_{axis}", cosine_basis(n))
        self.register_buffer("vectors", vectors)

    def apply_function(self, values: Tensor, null: Tensor, x: Tensor) -> Tensor:
        """Q f(c) Q^T x; every direction is in Q."""
        factors = [getattr(self, f"factor_{axis}").to(x.dtype) for axis in range(len(self.shape))]
        modes = self._rotate(mode_products(x, [factor.mT for factor in factors]), self.vectors.to(x.dtype))
        modes = self._rotate(values.to(x.dtype) * modes, self.vectors.to(x.dtype).mT)
        result: Tensor = mode_products(modes, factors)
        return result

    def _rotate(self, modes: Tensor, vectors: Tensor) -> Tensor:
        """Low modes times `vectors`."""
        if not self.block:
            return modes
        index = (slice(None), *(slice(self.block) for _ in self.shape))
        rotated = modes.clone()
        low = modes[index]
        rotated[index] = (low.flatten(1) @ vectors).reshape(low.shape)
        return rotated


class SpectralRoot(LinearMap):
    """L = C^{1/2}, symmetric, by the spectrum of C."""

    def __init__(self, space: Space, spectrum: Spectrum) -> None:
        super().__init__(space, space)
        self.spectrum = spectrum

    def _apply_batched(self, m: Any) -> Any:
        return self.spectrum.apply_function(self.spectrum.eigenvalues.sqrt()[None], m.new_zeros(()), m)

    def _adjoint_batched(self, y: Any) -> Any:
        return self._apply_batched(y)

    def solve(self, y: Tensor) -> Tensor:
        """C^{-1/2} y, infinite where an eigenvalue is zero."""
        values = self.spectrum.eigenvalues.rsqrt()[None]
        null = torch.tensor(math.inf if self.spectrum.nullity else 0.0, dtype=y.dtype, device=y.device)
        return self.spectrum.apply_function(values, null, self.codomain.merge(y)).reshape(y.shape)


class SpectralPrior(GaussianPrior):
    """N(mean, C) with C known by its eigenvectors, so that functions of C cost one transform.

    Args:
        space: Space of m.
        mean: `(*space.shape)`.
        spectrum: C.

    Raises:
        ShapeError: If the spectrum is of another shape.
    """

    def __init__(self, space: Space, mean: Tensor, spectrum: Spectrum) -> None:
        if spectrum.shape != space.shape:
            message = f"the spectrum should be of the space's shape {space.shape}, got {spectrum.shape}."
            raise ShapeError(message)
        super().__init__(mean, SpectralRoot(space, spectrum))
        self.spectrum = spectrum
