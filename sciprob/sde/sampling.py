r"""Exact samples of fractional noises.

Sources: Davies and Harte, Biometrika 74 (1987); Wood and Chan, J. Comput. Graph. Stat. 3 (1994). The
circulant matrix of fractional Gaussian noise is positive definite for every H and n: Craigmile,
J. Time Ser. Anal. 24 (2003).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.random import randn
from sciprob.sde.covariance import fgn_autocovariance
from sciprob.sde.parameters import Normalisation


def sample_fgn(
    n: int,
    hurst: Tensor | float,
    *,
    generator: torch.Generator,
    shape: tuple[int, ...] = (),
    step: float = 1.0,
    normalisation: Normalisation,
) -> Tensor:
    r"""Fractional Gaussian noise by circulant embedding, O(n log n) for each path.

    The circulant matrix with first row (r_0 .. r_n, r_{n-1} .. r_1) has a symmetric square root, two
    real FFTs, so paths are also differentiable in H for a fixed draw.

    Args:
        n: Number of increments, at least 1.
        hurst: H in (0, 1), `(*batch,)`.
        generator: Source of randomness.
        shape: More samples of each.
        step: Length of the increments.
        normalisation: "unit" or "gamma".

    Returns:
        `(*shape, *batch, n)` in the dtype (float64 for plain numbers) and on the device of `hurst`.

    Raises:
        ConfigError: If H leaves (0, 1), or for an unknown normalisation.
    """
    r = fgn_autocovariance(n + 1, hurst, step=step, normalisation=normalisation)
    row = torch.cat([r, r[..., 1:-1].flip(-1)], dim=-1)
    paths = randn((*shape, *row.shape), r.detach(), generator)
    if paths.numel():  # torch has no FFT of empty batches
        spectrum = torch.fft.rfft(row).real.clamp_min(0)  # negative by rounding only
        paths = torch.fft.irfft(torch.fft.rfft(paths) * spectrum.sqrt(), n=row.shape[-1])
    paths = paths[..., :n]
    return paths.to(hurst.dtype) if isinstance(hurst, Tensor) and hurst.is_floating_point() else paths


def sample_fbm(
    n: int,
    hurst: Tensor | float,
    *,
    generator: torch.Generator,
    shape: tuple[int, ...] = (),
    step: float = 1.0,
    normalisation: Normalisation,
) -> Tensor:
    """Fractional Brownian motion at 0, step, ..., n step: `(*shape, *batch, n + 1)`; see `sample_fgn`."""
    increments = sample_fgn(n, hurst, generator=generator, shape=shape, step=step, normalisation=normalisation)
    return torch.nn.functional.pad(increments.cumsum(-1), (1, 0))


def sample_gaussian(covariance: Tensor, *, generator: torch.Generator, shape: tuple[int, ...] = ()) -> Tensor:
    """Centred Gaussian vectors with any covariance `(*batch, n, n)` by Cholesky: `(*shape, *batch, n)`, O(n^3).

    Raises:
        ConvergenceError: If the covariance is not positive semi-definite.
    """
    root = gaussian_root(covariance)
    white = randn((*shape, *root.shape[:-1]), covariance.detach(), generator)
    paths: Tensor = (root @ white.unsqueeze(-1)).squeeze(-1)
    return paths


def gaussian_root(covariance: Tensor) -> Tensor:
    """L with L L^T = covariance `(*batch, n, n)`, by Cholesky.

    Entries of zero variance (a path at its start) are zero. Others get a jitter of 1e-14 of their
    variance, which rounding of nearly coincident times needs.

    Raises:
        ConvergenceError: If the covariance is not positive semi-definite.
    """
    deviation = covariance.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()
    safe = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    correlation = covariance / (safe.unsqueeze(-1) * safe.unsqueeze(-2))
    fixed = torch.where(deviation > 0, torch.full_like(deviation, 1e-14), torch.ones_like(deviation))
    factor, info = torch.linalg.cholesky_ex(correlation + torch.diag_embed(fixed))
    if bool((info != 0).any()):
        sample = int(info.flatten().nonzero()[0])
        message = (
            f"a covariance should be positive semi-definite, got one of {math.prod(info.shape)} that is not "
            f"(number {sample}); check its times and Hurst indices."
        )
        raise ConvergenceError(message, sample=sample)
    root: Tensor = factor * deviation.unsqueeze(-1)
    return root
