"""The Allen-Cahn equation on spectral grids."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.engines.spectral.equations.multipliers import Multipliers, polynomial_mask, real
from sciprob.errors import SciprobWarning
from sciprob.spaces import Space


class AllenCahnSpectral(SpectralEquation):
    r"""u_t = D Laplace u + r (u - u^3) + f: phases u = -1 and 1 parted by layers of width sqrt(2 D / r).

    The cube is free of aliases (1/2 rule), and odd, so that all three boundaries have spectral accuracy
    (for f that satisfies the boundary condition). The energy, the integral of
    D |grad u|^2 / 2 + r (1 - u^2)^2 / 4, never grows for f = 0.

    Args:
        basis: Periodic, Dirichlet or Neumann, 1 to 3 axes.
        diffusivity: D >= 0.
        reaction: r >= 0.
        forcing: f `(*grid.shape)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial`, `diffusivity`, `reaction` (scalars), `forcing` (grid).

    Raises:
        DataError: On use, for negative coefficients.

    Warns:
        SciprobWarning: If the grid has fewer than two points per sqrt(D / r); the message says how many it needs.

    Source: Allen and Cahn, Acta Metallurgica 27 (1979).
    """

    def __init__(
        self,
        basis: SpectralBasis,
        *,
        diffusivity: float = 1e-2,
        reaction: float = 1.0,
        forcing: Tensor | None = None,
    ) -> None:
        grid = basis.grid
        super().__init__(
            basis,
            parameters={
                "diffusivity": Space((), name="diffusivity"),
                "reaction": Space((), name="reaction"),
                "forcing": grid,
            },
            defaults={
                "diffusivity": diffusivity,
                "reaction": reaction,
                "forcing": torch.zeros(grid.shape, dtype=torch.float64) if forcing is None else forcing,
            },
        )
        self._multipliers = Multipliers(mask=real(polynomial_mask(basis, 3)))

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """R - D |k|^2, real."""
        return self.broadcast(p["reaction"]) + self.broadcast(p["diffusivity"]) * self.basis.laplacian(p["reaction"])

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients, dealiased."""
        forcing = self.basis.to_spectral(p["forcing"])
        return dict(p) | {"forcing": forcing * self._multipliers("mask", forcing)}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-r u^3 + f, dealiased."""
        mask = self._multipliers("mask", u_hat)
        u = self.basis.to_grid(u_hat * mask)
        reaction = self.broadcast(p["reaction"]) * mask
        return torch.addcmul(p["forcing"], self.basis.to_spectral(u.square() * u), reaction, value=-1)

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse coefficients out of range; warn about layers that the grid does not resolve."""
        refuse_negative(p["diffusivity"], "diffusivity")
        refuse_negative(p["reaction"], "reaction")
        thinnest = float((p["diffusivity"] / p["reaction"]).detach().min().sqrt())
        coarsest = max(self.basis.grid.spacing)
        if 2 * coarsest > thinnest > 0:
            sizes = tuple(
                math.ceil(2 * (b - a) / thinnest)
                for a, b in zip(self.basis.grid.lower, self.basis.grid.upper, strict=True)
            )
            message = (
                f"layers of width sqrt(D / r) = {thinnest:.3g} need two grid points each, "
                f"got a spacing of {coarsest:.3g}; use a grid of at least {sizes}."
            )
            warnings.warn(message, SciprobWarning, stacklevel=2)
