"""The Korteweg-de Vries equation on spectral grids."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.engines.spectral.equations.kuramoto_sivashinsky import require_circle
from sciprob.engines.spectral.equations.multipliers import Multipliers, imaginary, real
from sciprob.spaces import Space


class KortewegDeVriesSpectral(SpectralEquation):
    """u_t + a u u_x + b u_xxx = nu u_xx + f on a periodic interval: solitons (nu = f = 0).

    The linear part is integrated exactly, so that dispersion does not limit the step. Mass and, for
    nu = f = 0, the integral of u^2 are conserved up to the error of the time stepping. One soliton
    of speed c is (3 c / a) sech^2(sqrt(c / b) (x - c t) / 2).

    Args:
        basis: Periodic with one axis.
        convection: a.
        dispersion: b.
        viscosity: nu >= 0.
        forcing: f `(*grid.shape)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial`, `convection`, `dispersion`, `viscosity` (scalars), `forcing` (grid).

    Raises:
        UnsupportedProblemError: For other bases.
        DataError: On use, for negative viscosities.

    Source: Zabusky and Kruskal, Phys. Rev. Lett. 15 (1965).
    """

    def __init__(
        self,
        basis: SpectralBasis,
        *,
        convection: float = 6.0,
        dispersion: float = 1.0,
        viscosity: float = 0.0,
        forcing: Tensor | None = None,
    ) -> None:
        require_circle(basis, "Korteweg-de Vries")
        scalars = {"convection": convection, "dispersion": dispersion, "viscosity": viscosity}
        field = torch.zeros(basis.grid.shape, dtype=torch.float64) if forcing is None else forcing
        super().__init__(
            basis,
            parameters={**{name: Space((), name=name) for name in scalars}, "forcing": basis.grid},
            defaults={**scalars, "forcing": field},
        )
        wavenumber = basis.wavenumber(basis.grid.dims[0])
        self._multipliers = Multipliers(
            mask=real(basis.dealias()), flux=imaginary(-0.5 * basis.dealias() * wavenumber), cube=wavenumber**3
        )

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-nu k^2 + i b k^3."""
        damping = self.broadcast(p["viscosity"]) * self.basis.laplacian(p["viscosity"])
        dispersion = self.broadcast(p["dispersion"]) * self._multipliers("cube", p["dispersion"])
        return torch.complex(*torch.broadcast_tensors(damping, dispersion))

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients, dealiased."""
        forcing = self.basis.to_spectral(p["forcing"])
        return dict(p) | {"forcing": forcing * self._multipliers("mask", forcing)}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-a (u^2 / 2)_x + f, dealiased."""
        u = self.basis.to_grid(u_hat * self._multipliers("mask", u_hat))
        squared = self.broadcast(p["convection"]) * u.square()
        return torch.addcmul(p["forcing"], self.basis.to_spectral(squared), self._multipliers("flux", u_hat))

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative viscosities."""
        refuse_negative(p["viscosity"], "viscosity")
