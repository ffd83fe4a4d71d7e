"""Advection and diffusion with a constant velocity on periodic grids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.errors import UnsupportedProblemError
from sciprob.spaces import Space


class AdvectionSpectral(SpectralEquation):
    """u_t + c . grad u = D Laplace u + f, exact in time for any step of an exponential scheme.

    For f = 0: u(x, t) = exp(D t Laplace) u_0(x - c t). The Nyquist mode of an even axis does not move.

    Args:
        basis: Periodic, 1 to 3 axes.
        velocity: c, one number per axis in the order x, y, z.
        diffusivity: D >= 0.
        forcing: f `(*grid.shape)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial` and `forcing` (grid; the solution is affine in both), `velocity`
    `(d,)`, `diffusivity` (scalar).

    Raises:
        UnsupportedProblemError: For bounded axes, through which the field would leave.
        DataError: On use, for negative diffusivity.
    """

    affine: ClassVar[frozenset[str]] = frozenset({"initial", "forcing"})

    def __init__(
        self,
        basis: SpectralBasis,
        *,
        velocity: Sequence[float] = (1.0,),
        diffusivity: float = 0.0,
        forcing: Tensor | None = None,
    ) -> None:
        grid = basis.grid
        if basis.bounded:
            message = f"advection with a constant velocity needs periodic axes, got {basis.boundary}."
            raise UnsupportedProblemError(message)
        super().__init__(
            basis,
            parameters={
                "velocity": Space((len(grid.shape),), name="velocity", dims=("component",)),
                "diffusivity": Space((), name="diffusivity"),
                "forcing": grid,
            },
            defaults={
                "velocity": torch.tensor(tuple(velocity), dtype=torch.float64),
                "diffusivity": diffusivity,
                "forcing": torch.zeros(grid.shape, dtype=torch.float64) if forcing is None else forcing,
            },
        )

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-i c . k - D |k|^2."""
        speeds = zip(sorted(self.basis.grid.dims), p["velocity"].unbind(-1), strict=True)
        k = [self.broadcast(c) * self.basis.wavenumber(dim, c) for dim, c in speeds]
        diffusion = self.broadcast(p["diffusivity"]) * self.basis.laplacian(p["diffusivity"])
        return diffusion - 1j * torch.stack(torch.broadcast_tensors(*k)).sum(0)

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients."""
        return {"forcing": self.basis.to_spectral(p["forcing"])}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """F, which exponential schemes integrate exactly."""
        return p["forcing"].expand_as(u_hat)

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative diffusivity."""
        refuse_negative(p["diffusivity"], "diffusivity")
