"""The heat equation on spectral grids."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.spaces import Space


class HeatSpectral(SpectralEquation):
    """u_t = D Laplace u + f, exact in time for any step of an exponential scheme.

    Args:
        basis: Periodic, Dirichlet or Neumann, 1 to 3 axes.
        diffusivity: D >= 0.
        forcing: f `(*grid.shape)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial` and `forcing` (grid; the solution is affine in both), `diffusivity`
    (scalar).

    Raises:
        DataError: On use, for negative diffusivity.
    """

    affine: ClassVar[frozenset[str]] = frozenset({"initial", "forcing"})

    def __init__(self, basis: SpectralBasis, *, diffusivity: float = 1.0, forcing: Tensor | None = None) -> None:
        shape = basis.grid.shape
        super().__init__(
            basis,
            parameters={"diffusivity": Space((), name="diffusivity"), "forcing": basis.grid},
            defaults={
                "diffusivity": diffusivity,
                "forcing": torch.zeros(shape, dtype=torch.float64) if forcing is None else forcing,
            },
        )

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-D |k|^2, real."""
        return self.broadcast(p["diffusivity"]) * self.basis.laplacian(p["diffusivity"])

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients."""
        return {"forcing": self.basis.to_spectral(p["forcing"])}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """F, which exponential schemes integrate exactly."""
        return p["forcing"].expand_as(u_hat)

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative diffusivity."""
        refuse_negative(p["diffusivity"], "diffusivity")
