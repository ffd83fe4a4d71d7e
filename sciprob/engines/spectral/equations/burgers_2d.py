"""The vector Burgers equation in the plane on periodic grids."""

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


class Burgers2DSpectral(SpectralEquation):
    """u_t + (u . grad) u = nu Laplace u + f for u = (u, v) in the plane, periodic.

    The convection is grad |u|^2 / 2 + omega (-v, u) with omega = v_x - u_y: six real FFTs per
    evaluation, dealiased by the 2/3 rule. Gradients u = -2 nu grad log phi with
    phi_t = nu Laplace phi solve it (Cole and Hopf).

    Args:
        basis: Periodic, with the axes x and y in either order.
        viscosity: nu >= 0.
        forcing: f `(2, *grid.shape)`, constant in time; zero if absent.

    Parameters that can be unknown: `initial`, `forcing` (both `(2, *grid.shape)`, components x, y),
    `viscosity` (scalar).

    Raises:
        UnsupportedProblemError: For other bases: walls where both components vanish leave kinks in odd extensions.
        DataError: On use, for negative viscosity.
    """

    optional: ClassVar[tuple[str, ...]] = ("forcing",)

    def __init__(self, basis: SpectralBasis, *, viscosity: float = 1e-2, forcing: Tensor | None = None) -> None:
        grid = basis.grid
        if tuple(sorted(grid.dims)) != ("x", "y") or basis.bounded:
            message = f"this equation needs a periodic basis with the axes x and y, got {grid.dims}, {basis.boundary}."
            raise UnsupportedProblemError(message)
        shape = (2, *grid.shape)
        state = Space(shape, name=grid.name, dims=("component", *grid.dims), unit=grid.unit, coords=grid.coords)
        super().__init__(
            basis,
            state=state,
            parameters={
                "viscosity": Space((), name="viscosity"),
                "forcing": Space(shape, name="forcing", dims=state.dims, coords=grid.coords),
            },
            defaults={
                "viscosity": viscosity,
                "forcing": torch.zeros(shape, dtype=torch.float64) if forcing is None else forcing,
            },
        )
        mask = basis.dealias()
        kx, ky = basis.wavenumber("x") * mask, basis.wavenumber("y") * mask
        self._multipliers = Multipliers(
            mask=mask,
            curl=imaginary(torch.stack([-ky, kx])),
            head=imaginary(-0.5 * torch.stack([kx, ky])),
        )

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-nu |k|^2, real, the same for both components."""
        return self.broadcast(p["viscosity"]) * self.basis.laplacian(p["viscosity"])

    def prepare(self, p: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The forcing in coefficients."""
        return {"forcing": self.basis.to_spectral(p["forcing"])} if "forcing" in p else {}

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """-(u . grad) u + f, dealiased."""
        mask = self._multipliers("mask", u_hat)
        vorticity = (u_hat * self._multipliers("curl", u_hat)).sum(-3, keepdim=True)
        u, v, omega = self.basis.to_grid(torch.cat([u_hat * mask, vorticity], dim=-3)).unbind(-3)
        products = self.basis.to_spectral(torch.stack([u * u + v * v, omega * v, -omega * u], dim=-3))
        head, rotation = products.split((1, 2), dim=-3)
        convection: Tensor = head * self._multipliers("head", u_hat) + rotation * mask
        return convection + p["forcing"] if "forcing" in p else convection

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative viscosity."""
        refuse_negative(p["viscosity"], "viscosity")
