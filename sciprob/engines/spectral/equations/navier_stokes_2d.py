"""Plane incompressible Navier-Stokes equations in vorticity form on periodic grids."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.engines.spectral.equations.multipliers import Multipliers, imaginary, real
from sciprob.errors import ConfigError, UnsupportedProblemError
from sciprob.spaces import Space


class NavierStokes2DSpectral(SpectralEquation):
    r"""omega_t + u . grad omega = nu Laplace omega - alpha omega + g, with div u = 0 and omega = v_x - u_y.

    The velocity is u = (psi_y, -psi_x) with -Laplace psi = omega, of mean zero. The convection is
    -(d_xx - d_yy)(u v) - d_xy (v^2 - u^2), which needs four real FFTs per evaluation, and is
    dealiased by the 2/3 rule: without viscosity, drag and forcing the semi-discrete flow
    conserves energy and enstrophy exactly. The mean of omega, zero for a periodic velocity, does not
    move the flow.

    Args:
        basis: Periodic, with the axes x and y in either order.
        viscosity: nu >= 0.
        drag: alpha >= 0 (Ekman friction).
        forcing: g, curl of the body force, `(*grid.shape)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial` (vorticity), `viscosity`, `drag` (scalars), `forcing` (grid).

    Raises:
        UnsupportedProblemError: For other bases.
        DataError: On use, for negative viscosity or drag.

    Source: Basdevant, J. Comput. Phys. 50 (1983), for the four transforms; Kolmogorov flow: Meshalkin and
    Sinai, J. Appl. Math. Mech. 25 (1961).
    """

    def __init__(
        self, basis: SpectralBasis, *, viscosity: float = 1e-3, drag: float = 0.0, forcing: Tensor | None = None
    ) -> None:
        require_torus(basis, ("x", "y"))
        grid = basis.grid
        super().__init__(
            basis,
            parameters={
                "viscosity": Space((), name="viscosity"),
                "drag": Space((), name="drag"),
                "forcing": grid,
            },
            defaults={
                "viscosity": viscosity,
                "drag": drag,
                "forcing": torch.zeros(grid.shape, dtype=torch.float64) if forcing is None else forcing,
            },
        )
        kx, ky, mask = basis.wavenumber("x"), basis.wavenumber("y"), basis.dealias()
        square = -basis.laplacian()
        inverse = torch.where(square > 0, 1 / square.clamp_min(1e-300), 0.0)
        self._multipliers = Multipliers(
            velocity=imaginary(torch.stack([ky * inverse, -kx * inverse]) * mask),
            shear=real((kx.square() - ky.square()) * mask),
            normal=real(kx * ky * mask),
            mask=real(mask),
        )

    @classmethod
    def kolmogorov(
        cls,
        basis: SpectralBasis,
        *,
        viscosity: float = 1e-3,
        drag: float = 0.0,
        wavenumber: int = 4,
        amplitude: float = 1.0,
    ) -> Self:
        """Flow driven by the body force (amplitude sin(k y), 0), with `wavenumber` periods over the axis y.

        Its laminar solution is omega = g / (nu k^2 + alpha), g = -amplitude k cos(k y).

        Raises:
            ConfigError: If the wavenumber is not a positive integer that the grid resolves.
        """
        grid = basis.grid
        axis = grid.dims.index("y")
        n, length = grid.shape[axis], grid.upper[axis] - grid.lower[axis]
        if not 0 < wavenumber <= (n - 1) // 3 or wavenumber != int(wavenumber):
            message = f"`wavenumber` should be an integer from 1 to {(n - 1) // 3}, the grid's limit, got {wavenumber}."
            raise ConfigError(message)
        k = 2 * math.pi * wavenumber / length
        profile = -amplitude * k * torch.cos(k * grid.axis(axis))
        forcing = profile.reshape([-1 if i == axis else 1 for i in range(2)]).expand(grid.shape).clone()
        return cls(basis, viscosity=viscosity, drag=drag, forcing=forcing)

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-nu |k|^2 - alpha, real."""
        return self.broadcast(p["viscosity"]) * self.basis.laplacian(p["viscosity"]) - self.broadcast(p["drag"])

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients, dealiased."""
        forcing = self.basis.to_spectral(p["forcing"])
        return dict(p) | {"forcing": forcing * self._multipliers("mask", forcing)}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-u . grad omega + g, dealiased."""
        u, v = self.velocity(u_hat).unbind(-3)
        shear = self.basis.to_spectral(u * v)
        normal = self.basis.to_spectral(torch.addcmul(v * v, u, u, value=-1))
        rate = torch.addcmul(p["forcing"], shear, self._multipliers("shear", u_hat))
        return torch.addcmul(rate, normal, self._multipliers("normal", u_hat))

    def velocity(self, vorticity_hat: Tensor) -> Tensor:
        """Velocity (u, v) on the grid, `(*lead, 2, *grid)`, of the dealiased vorticity's coefficients."""
        return self.basis.to_grid(vorticity_hat.unsqueeze(-3) * self._multipliers("velocity", vorticity_hat))

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative viscosity and drag."""
        refuse_negative(p["viscosity"], "viscosity")
        refuse_negative(p["drag"], "drag")


def require_torus(basis: SpectralBasis, axes: tuple[str, ...]) -> None:
    """Refuse everything but periodic axes of the given names.

    Raises:
        UnsupportedProblemError: With the names.
    """
    if tuple(sorted(basis.grid.dims)) != axes or basis.bounded:
        message = f"this flow needs a periodic basis with the axes {axes}, got {basis.grid.dims}, {basis.boundary}."
        raise UnsupportedProblemError(message)
