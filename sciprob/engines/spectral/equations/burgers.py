"""The viscous Burgers equation on spectral grids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.engines.spectral.equations.multipliers import Multipliers, imaginary
from sciprob.errors import UnsupportedProblemError
from sciprob.spaces import Space


class BurgersSpectral(SpectralEquation):
    """u_t + (u^2 / 2)_x = nu u_xx + f on an interval, periodic or with u = 0 at both ends.

    The square is dealiased by the 2/3 rule. Without forcing, u = -2 nu (log phi)_x with
    phi_t = nu phi_xx (Cole and Hopf).

    Args:
        basis: One axis, periodic or Dirichlet.
        viscosity: nu >= 0; about max |u| times the spacing keeps shocks resolved.
        forcing: f `(n,)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial`, `viscosity` (scalar), `forcing` (grid).

    Raises:
        UnsupportedProblemError: For other bases: the equation does not keep a Neumann condition.
        DataError: On use, for negative viscosity.
    """

    optional: ClassVar[tuple[str, ...]] = ("forcing",)

    def __init__(self, basis: SpectralBasis, *, viscosity: float = 1e-2, forcing: Tensor | None = None) -> None:
        grid = basis.grid
        if len(grid.shape) != 1 or basis.boundary[0] == "neumann":
            message = f"this equation needs one axis, periodic or Dirichlet, got {grid.dims}, {basis.boundary}."
            raise UnsupportedProblemError(message)
        super().__init__(
            basis,
            parameters={"viscosity": Space((), name="viscosity"), "forcing": grid},
            defaults={
                "viscosity": viscosity,
                "forcing": torch.zeros(grid.shape, dtype=torch.float64) if forcing is None else forcing,
            },
        )
        mask = basis.dealias()
        self._multipliers = Multipliers(mask=mask, flux=imaginary(-0.5 * basis.wavenumber(grid.dims[0]) * mask))

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-nu k^2, real."""
        return self.broadcast(p["viscosity"]) * self.basis.laplacian(p["viscosity"])

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients."""
        return {"forcing": self.basis.to_spectral(p["forcing"])} if "forcing" in p else {}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-(u^2 / 2)_x + f, dealiased."""
        u = self.basis.to_grid(u_hat * self._multipliers("mask", u_hat))
        square = self.basis.to_spectral(u * u, flipped=self.basis.grid.dims)  # even where u is odd
        convection = square * self._multipliers("flux", u_hat)
        return convection + p["forcing"] if "forcing" in p else convection

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative viscosity."""
        refuse_negative(p["viscosity"], "viscosity")
