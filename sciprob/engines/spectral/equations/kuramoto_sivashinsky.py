"""The Kuramoto-Sivashinsky equation on spectral grids."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.multipliers import Multipliers, check_sign, imaginary
from sciprob.errors import SciprobWarning, ShapeError
from sciprob.spaces import GridSpace, Space


class KuramotoSivashinskySpectral(SpectralEquation):
    """u_t + u u_x + a u_xx + b u_xxxx = 0 on a periodic interval: chaos at large scales.

    Modes with k^2 < a / b grow, the others are damped; the quadratic term, in conservative form and
    dealiased, moves energy between them. The mean of u is conserved. Trajectories separate
    exponentially, so that compare them over a few units of time only.

    Args:
        grid: Periodic grid with the one axis x.
        anti_diffusion: a >= 0.
        hyperdiffusion: b > 0.

    Parameters that can be unknown: `initial`, `anti_diffusion`, `hyperdiffusion` (scalars).

    Raises:
        ShapeError: If the grid has more than one axis.
        ConfigError: For coefficients out of range.

    Warns:
        SciprobWarning: If the dealiased grid ends below four times the largest unstable wavenumber sqrt(a / b).

    Source: Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005).
    """

    def __init__(self, grid: GridSpace, *, anti_diffusion: float = 1.0, hyperdiffusion: float = 1.0) -> None:
        refuse_planes(grid, "Kuramoto-Sivashinsky")
        basis = SpectralBasis(grid)
        names = ("anti_diffusion", "hyperdiffusion")
        super().__init__(
            basis,
            parameters={name: Space((), name=name) for name in names},
            defaults=dict(zip(names, (anti_diffusion, hyperdiffusion), strict=True)),
        )
        self._multipliers = Multipliers(
            mask=basis.dealias(), flux=imaginary(-0.5 * basis.dealias() * basis.wavenumber(grid.dims[0]))
        )

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """A k^2 - b k^4, real."""
        laplacian = self.basis.laplacian(p["anti_diffusion"])
        growth, damping = self.broadcast(p["anti_diffusion"]), self.broadcast(p["hyperdiffusion"])
        return -growth * laplacian - damping * laplacian.square()

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-(u^2 / 2)_x, dealiased."""
        u = self.basis.to_grid(u_hat * self._multipliers("mask", u_hat))
        return self.basis.to_spectral(u.square()) * self._multipliers("flux", u_hat)

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse coefficients out of range; warn about a grid that cuts into the active modes."""
        check_sign("anti_diffusion", p["anti_diffusion"], zero=True)
        check_sign("hyperdiffusion", p["hyperdiffusion"], zero=False)
        unstable = float((p["anti_diffusion"] / p["hyperdiffusion"]).detach().max().sqrt())
        highest = 2 / 3 * math.pi / self.basis.grid.spacing[0]
        if highest < 4 * unstable:
            n = math.ceil(self.basis.grid.shape[0] * 4 * unstable / highest)
            message = (
                f"modes up to four times the unstable wavenumber {unstable:.3g} are active, "
                f"and the dealiased grid ends at {highest:.3g}; use at least {n} points."
            )
            warnings.warn(message, SciprobWarning, stacklevel=2)


def refuse_planes(grid: GridSpace, equation: str) -> None:
    """Refuse grids with more than one axis.

    Raises:
        ShapeError: Naming the equation.
    """
    if len(grid.shape) != 1:
        message = f"the {equation} equation lives on a grid with one axis, got the axes {grid.dims}."
        raise ShapeError(message)
