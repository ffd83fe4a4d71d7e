r"""The Matern correlation function, in free space and on a torus.

rho(r) = 2^{1-nu} / Gamma(nu) s^nu K_nu(s) with s = sqrt(2 nu) r / length: the convention of
Rasmussen and Williams (2006), eq. (4.14), in which `length` is comparable for all smoothness nu
and kappa = sqrt(2 nu) / length in the equation (kappa^2 - Laplace)^{(nu + d/2)/2} m = white noise
(Lindgren, Rue, Lindstroem, 2011). At r = length it is between 0.37 (nu = 1/2) and 0.61 (nu -> infinity).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from sciprob.errors import ConfigError

_LARGEST_SUM = 2**29  # kernel evaluations; about ten seconds
_NEGLIGIBLE = 1e-18


def matern_correlation(r: Tensor, length: float, smoothness: float) -> Tensor:
    """rho(r), float64: elementary for nu + 1/2 whole, by K_0 and K_1 for nu whole, otherwise by scipy on the host.

    Args:
        r: Distances >= 0, any shape.
        length: Correlation length in the unit of r.
        smoothness: nu; draws have nu - epsilon derivatives.
    """
    s = math.sqrt(2 * smoothness) * r.to(torch.float64) / length
    p = round(smoothness - 0.5)
    if p == smoothness - 0.5 and p <= 20:
        return _half_integer(s, p)
    if smoothness == round(smoothness) and smoothness <= 20:
        return _integer(s, round(smoothness))
    from scipy.special import gammaln, kve

    with_logs = (1 - smoothness) * math.log(2) - gammaln(smoothness) + smoothness * s.log() - s
    bessel = torch.as_tensor(kve(smoothness, s.cpu().numpy()), dtype=torch.float64).to(r.device)
    values = (with_logs + bessel.log()).exp()
    return torch.where((s == 0) | torch.isinf(bessel), torch.ones_like(s), values)


def _half_integer(s: Tensor, p: int) -> Tensor:
    """Exp(-s) times a polynomial of degree p, by Horner's rule."""
    scale = math.factorial(p) / math.factorial(2 * p)
    total = torch.zeros_like(s)
    for i in range(p + 1):  # coefficient of (2 s)^{p - i}, highest power first
        total = total * (2 * s) + scale * math.factorial(p + i) / (math.factorial(i) * math.factorial(p - i))
    return total * torch.exp(-s)


def _integer(s: Tensor, n: int) -> Tensor:
    """By f_{k+1} = 2 k f_k + s^2 f_{k-1} for f_k = s^k K_k(s) exp(s); all terms are positive."""
    positive = s.clamp_min(1e-150)
    previous = torch.special.scaled_modified_bessel_k0(positive)
    current = positive * torch.special.scaled_modified_bessel_k1(positive)
    for k in range(1, n):
        previous, current = current, 2 * k * current + positive.square() * previous
    values: Tensor = current * torch.exp(-s) / (2 ** (n - 1) * math.factorial(n - 1))
    return values


def torus_correlation(shape: tuple[int, ...], spacing: tuple[float, ...], length: float, smoothness: float) -> Tensor:
    """Sum of rho over all periodic images, at the offsets of a periodic grid `(*shape)`, float64.

    The result is a covariance on the torus for every length (Poisson summation: its Fourier
    coefficients are those of the Matern spectral density), to about 1e-17 per entry.

    Raises:
        ConfigError: If the length is so long that the sum over images is out of reach.
    """
    half = [torch.arange(n // 2 + 1, dtype=torch.float64) * h for n, h in zip(shape, spacing, strict=True)]
    period = [n * h for n, h in zip(shape, spacing, strict=True)]
    reach = _reach(length, smoothness)
    images = [range(-math.ceil(reach / P), math.ceil(reach / P) + 1) for P in period]
    if math.prod(len(r) for r in images) * math.prod(len(x) for x in half) > _LARGEST_SUM:
        message = (
            f"length {length:g} is too long for a periodic domain of size {min(period):g}: the field would be nearly "
            "constant; shorten it, or subtract the mean and use a shorter one."
        )
        raise ConfigError(message)
    quarter = torch.zeros([len(x) for x in half], dtype=torch.float64)
    for image in itertools.product(*images):
        shifted = [(x + i * P).square() for x, i, P in zip(half, image, period, strict=True)]
        r = outer_sum(shifted).sqrt()
        if float(r.min()) <= reach:
            quarter += matern_correlation(r, length, smoothness)
    return unfold(quarter, shape)


def free_correlation(shape: tuple[int, ...], spacing: tuple[float, ...], length: float, smoothness: float) -> Tensor:
    """Rho at the shortest offset around a periodic grid `(*shape)`: the first column of a circulant embedding."""
    squares = [
        (torch.arange(n // 2 + 1, dtype=torch.float64) * h).square() for n, h in zip(shape, spacing, strict=True)
    ]
    return unfold(matern_correlation(outer_sum(squares).sqrt(), length, smoothness), shape)


def unfold(quarter: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values at all offsets of a periodic grid from those up to half a period, even along every axis."""
    for axis, n in enumerate(shape):
        index = torch.arange(n)
        quarter = quarter.index_select(axis, torch.minimum(index, n - index))
    return quarter


def outer_sum(parts: list[Tensor]) -> Tensor:
    """Sum of one vector per axis."""
    d = len(parts)
    total = torch.zeros([1] * d, dtype=torch.float64)
    for axis, part in enumerate(parts):
        total = total + part.reshape([-1 if i == axis else 1 for i in range(d)])
    return total


def _reach(length: float, smoothness: float) -> float:
    """A distance beyond which rho is negligible."""
    reach = length
    while float(matern_correlation(torch.tensor(reach), length, smoothness)) > _NEGLIGIBLE:
        reach *= 1.25
    return reach
