"""Viscous Burgers equation on a spectral basis."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.errors import UnsupportedProblemError
from sciprob.spaces import Space


class BurgersSpectral(SpectralEquation):
    """u_t + (u^2 / 2)_x = nu u_xx + f on an interval, periodic or with u = 0 at both ends.

    Parameters: `viscosity` (scalar, nu >= 0), `forcing` (a field on the grid, constant in time).

    Args:
        basis: One-dimensional, periodic or Dirichlet.
        viscosity: Default of nu.
        forcing: Default of f on the grid; None is zero.

    Raises:
        UnsupportedProblemError: For other bases: the equation does not keep a Neumann condition.
    """

    def __init__(self, basis: SpectralBasis, viscosity: float = 0.01, forcing: Tensor | None = None) -> None:
        grid = basis.grid
        if len(grid.shape) != 1 or basis.boundary[0] == "neumann":
            message = f"Burgers on an interval is periodic or Dirichlet in one dimension, got {basis.boundary}."
            raise UnsupportedProblemError(message)
        super().__init__(
            basis,
            parameters={"viscosity": Space((), name="viscosity"), "forcing": grid},
            defaults={"viscosity": viscosity, "forcing": torch.zeros(grid.shape) if forcing is None else forcing},
        )

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-nu k^2."""
        return self.broadcast(p["viscosity"]) * self.basis.laplacian(p["viscosity"])

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients."""
        return {"forcing": self.basis.to_spectral(p["forcing"])}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-(u^2 / 2)_x + f, with the 2/3 rule."""
        mask = self.basis.dealias(u_hat)
        dim = self.basis.grid.dims[0]
        u = self.basis.to_grid(u_hat * mask)
        square = self.basis.to_spectral(u * u, flipped=(dim,))
        return self.basis.derivative(square, dim) * (-0.5 * mask) + p["forcing"]

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """The viscosity should not be negative."""
        refuse_negative(p["viscosity"], "viscosity")
