"""Incompressible Navier-Stokes equations in velocity form on periodic boxes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.engines.spectral.equations.multipliers import Multipliers, imaginary, real
from sciprob.engines.spectral.equations.navier_stokes_2d import require_torus
from sciprob.spaces import Space

AXES = ("x", "y", "z")


class NavierStokes3DSpectral(SpectralEquation):
    r"""u_t + div(u u) + grad p = nu Laplace u - alpha u + f, div u = 0, on a periodic box; the pressure is eliminated.

    Leray's projection P = 1 - k k^T / |k|^2 removes the pressure. Of the six stresses u_i u_j five are
    transformed, since u_z^2 on the diagonal is a pressure: eight real FFTs per evaluation. Dealiased by
    the 2/3 rule, so that the semi-discrete flow conserves energy without viscosity, drag and
    forcing. The initial velocity must be free of divergence (`project` makes it so): its
    divergence is not advected but decays.

    Args:
        basis: Periodic, with the axes x, y and z in any order.
        viscosity: nu >= 0.
        drag: alpha >= 0.
        forcing: f `(3, *grid.shape)`, constant in time; its gradient part does nothing. Zero if absent.

    State: velocity `(3, *grid.shape)`, components along x, y, z.
    Parameters that can be unknown: `initial`, `viscosity`, `drag` (scalars), `forcing` (`(3, *grid)`).

    Raises:
        UnsupportedProblemError: For other bases.
        DataError: On use, for negative viscosity or drag.

    Source: Canuto, Hussaini, Quarteroni and Zang, Spectral Methods (2007), section 3.3.
    """

    def __init__(
        self, basis: SpectralBasis, *, viscosity: float = 1e-2, drag: float = 0.0, forcing: Tensor | None = None
    ) -> None:
        require_torus(basis, AXES)
        grid = basis.grid
        dims = ("component", *grid.dims)
        state = Space((3, *grid.shape), name="velocity", dims=dims, coords=grid.coords)
        force = Space(state.shape, name="forcing", dims=dims, coords=grid.coords)
        super().__init__(
            basis,
            state=state,
            parameters={
                "viscosity": Space((), name="viscosity"),
                "drag": Space((), name="drag"),
                "forcing": force,
            },
            defaults={
                "viscosity": viscosity,
                "drag": drag,
                "forcing": torch.zeros(state.shape, dtype=torch.float64) if forcing is None else forcing,
            },
        )
        mask = basis.dealias()
        k = torch.stack([basis.wavenumber(axis).expand(basis.spectral_shape) for axis in AXES])
        square = k.square().sum(0)
        direction = k * torch.where(square > 0, 1 / square.clamp_min(1e-300).sqrt(), 0.0)
        self._multipliers = Multipliers(mask=real(mask), direction=real(direction), gradient=imaginary(k * mask))

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-nu |k|^2 - alpha, real."""
        return self.broadcast(p["viscosity"]) * self.basis.laplacian(p["viscosity"]) - self.broadcast(p["drag"])

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients, dealiased."""
        forcing = self.basis.to_spectral(p["forcing"])
        return dict(p) | {"forcing": forcing * self._multipliers("mask", forcing)}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """P (f - div(u u)), dealiased."""
        mask = self._multipliers("mask", u_hat)
        u, v, w = self.basis.to_grid(u_hat * mask).unbind(1)
        stresses = torch.stack([(u - w) * (u + w), (v - w) * (v + w), u * v, u * w, v * w], dim=1)
        xx, yy, xy, xz, yz = self.basis.to_spectral(stresses).unbind(1)
        dx, dy, dz = self._multipliers("gradient", u_hat).unbind(0)
        divergence = torch.stack([dx * xx + dy * xy + dz * xz, dx * xy + dy * yy + dz * yz, dx * xz + dy * yz], dim=1)
        return self.project_hat(p["forcing"] - divergence)

    def project_hat(self, u_hat: Tensor) -> Tensor:
        """Divergence-free part of coefficients `(*lead, 3, *spectral_shape)`; the mean stays."""
        direction = self._multipliers("direction", u_hat)
        along = (u_hat * direction).sum(-4, keepdim=True)
        return u_hat - along * direction

    def project(self, u: Tensor) -> Tensor:
        """Divergence-free part of a velocity `(*lead, 3, *grid)`, its nearest in the mean square.

        The Nyquist modes of even lengths, which have no first derivative on the grid, count as free of divergence.
        """
        return self.basis.to_grid(self.project_hat(self.basis.to_spectral(u)))

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative viscosity and drag."""
        refuse_negative(p["viscosity"], "viscosity")
        refuse_negative(p["drag"], "drag")
