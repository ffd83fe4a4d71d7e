"""The Kuramoto-Sivashinsky equation on spectral grids."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.engines.spectral.equations.multipliers import Multipliers, imaginary, real
from sciprob.errors import DataError, SciprobWarning, UnsupportedProblemError
from sciprob.spaces import Space


class KuramotoSivashinskySpectral(SpectralEquation):
    """u_t + u u_x + a u_xx + b u_xxxx = f on a periodic interval: chaos at large scales.

    Modes with k^2 < a / b grow, the others are damped; the quadratic term, in conservative form and
    dealiased, moves energy between them. The mean of u is conserved for f = 0. Trajectories separate
    exponentially, so that compare them over a few units of time only.

    Args:
        basis: Periodic with one axis.
        anti_diffusion: a >= 0.
        hyperdiffusion: b > 0.
        forcing: f `(*grid.shape)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial`, `anti_diffusion`, `hyperdiffusion` (scalars), `forcing` (grid).

    Raises:
        UnsupportedProblemError: For other bases.
        DataError: On use, for negative coefficients and b = 0, which is ill-posed.

    Warns:
        SciprobWarning: If the dealiased grid ends below 2.5 times the largest unstable wavenumber sqrt(a / b).

    Source: Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005).
    """

    def __init__(
        self,
        basis: SpectralBasis,
        *,
        anti_diffusion: float = 1.0,
        hyperdiffusion: float = 1.0,
        forcing: Tensor | None = None,
    ) -> None:
        require_circle(basis, "Kuramoto-Sivashinsky")
        scalars = {"anti_diffusion": anti_diffusion, "hyperdiffusion": hyperdiffusion}
        field = torch.zeros(basis.grid.shape, dtype=torch.float64) if forcing is None else forcing
        super().__init__(
            basis,
            parameters={**{name: Space((), name=name) for name in scalars}, "forcing": basis.grid},
            defaults={**scalars, "forcing": field},
        )
        self._multipliers = Multipliers(
            mask=real(basis.dealias()), flux=imaginary(-0.5 * basis.dealias() * basis.wavenumber(basis.grid.dims[0]))
        )

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """A k^2 - b k^4, real."""
        laplacian = self.basis.laplacian(p["anti_diffusion"])
        growth, damping = self.broadcast(p["anti_diffusion"]), self.broadcast(p["hyperdiffusion"])
        return -growth * laplacian - damping * laplacian.square()

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients, dealiased."""
        forcing = self.basis.to_spectral(p["forcing"])
        return dict(p) | {"forcing": forcing * self._multipliers("mask", forcing)}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-(u^2 / 2)_x + f, dealiased."""
        u = self.basis.to_grid(u_hat * self._multipliers("mask", u_hat))
        return torch.addcmul(p["forcing"], self.basis.to_spectral(u.square()), self._multipliers("flux", u_hat))

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse coefficients out of range; warn about a grid that cuts into the active modes."""
        refuse_negative(p["anti_diffusion"], "anti_diffusion")
        refuse_negative(p["hyperdiffusion"], "hyperdiffusion")
        if bool((p["hyperdiffusion"] == 0).any()):
            message = "`hyperdiffusion` should be positive, got 0, with which short waves grow without bound."
            raise DataError(message)
        unstable = float((p["anti_diffusion"] / p["hyperdiffusion"]).detach().max().sqrt())
        highest = 2 / 3 * math.pi / self.basis.grid.spacing[0]
        if highest < 2.5 * unstable:
            n = math.ceil(self.basis.grid.shape[0] * 2.5 * unstable / highest)
            message = (
                f"modes up to 2.5 times the unstable wavenumber {unstable:.3g} are active, "
                f"and the dealiased grid ends at {highest:.3g}; use at least {n} points."
            )
            warnings.warn(message, SciprobWarning, stacklevel=2)


def require_circle(basis: SpectralBasis, equation: str) -> None:
    """Refuse everything but one periodic axis.

    Raises:
        UnsupportedProblemError: Naming the equation.
    """
    if basis.boundary != ("periodic",):
        message = f"the {equation} equation needs a basis with one periodic axis, got {basis.boundary}."
        raise UnsupportedProblemError(message)
