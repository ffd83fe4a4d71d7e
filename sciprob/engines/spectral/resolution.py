"""Whether a grid resolves a solution: the tail of its spectrum."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.errors import SciprobWarning

_ENERGY = 1e-6  # of the tail: amplitudes of one part in a thousand


def tail_energy(basis: SpectralBasis, u: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of the energy without the mean in the middle and in the outermost fifth of the dealiased modes.

    The fifths are those of max_i |k_i| / K_i, with K_i the largest dealiased wavenumber of axis i.

    Args:
        basis: Basis of the grid.
        u: Fields, `(*lead, *grid.shape)`.

    Returns:
        Shares in (0.4, 0.6] and (0.8, 1], each `(*lead,)`, zero for constant fields.
    """
    u_hat = basis.to_spectral(u)
    energy = u_hat.real.square() + u_hat.imag.square()
    keep, share = basis.dealias(), torch.zeros(basis.spectral_shape, dtype=torch.float64)
    for dim in basis.grid.dims:
        k = basis.wavenumber(dim).abs()
        largest = (k * keep).max()
        share = torch.maximum(share, k / torch.where(largest > 0, largest, 1.0))
    axes = tuple(range(-len(basis.grid.shape), 0))
    inside = energy * (keep * (share > 0)).to(energy)
    total = inside.sum(axes)
    total = torch.where(total > 0, total, 1.0)

    def band(low: float, high: float) -> Tensor:
        weight = ((share > low) & (share <= high + 1e-9)).to(energy)
        return (inside * weight).sum(axes) / total

    return band(0.4, 0.6), band(0.8, 1.0)


def warn_if_coarse(basis: SpectralBasis, u: Tensor) -> None:
    """Warn, with a size that would do, if the last fifth of the modes holds more than a millionth of the energy.

    The size continues the decay of the spectrum from its middle to its end, up to four times the
    present one; far from resolved, the spectrum itself is wrong, and the next run may ask for more.

    Warns:
        SciprobWarning: If any field of `u (*lead, *grid.shape)` is not resolved.
    """
    middle, tail = (float(x.max()) for x in tail_energy(basis, u))
    if tail <= _ENERGY:
        return
    decay = math.log(middle / tail) / 0.4 if middle > tail else 0.0  # per unit of K
    factor = 1 + math.log(tail / _ENERGY) / decay if decay > 0 else 4.0
    factor = min(max(factor, 1.25), 4.0)
    size = tuple(2 * math.ceil(n * factor / 2) for n in basis.grid.shape)
    message = (
        f"the last fifth of the modes of a grid {basis.grid.shape} holds {tail:.1e} of the energy, more than "
        f"{_ENERGY:.0e}: the solution is not resolved; use at least {size} points, or more diffusion."
    )
    warnings.warn(message, SciprobWarning, stacklevel=3)
