"""Reaction-diffusion equations on spectral grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sciprob.engines.spectral.basis import SpectralBasis
from sciprob.engines.spectral.equation import SpectralEquation
from sciprob.engines.spectral.equations.checks import refuse_negative
from sciprob.engines.spectral.equations.multipliers import Multipliers, polynomial_mask, real
from sciprob.spaces import Space

Reaction = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


class ReactionDiffusionSpectral(SpectralEquation):
    r"""u_t = D Laplace u + R(u; p), one or several species, each with its own diffusivity.

    The reaction is evaluated on the grid. A polynomial R of the stated degree is free of aliases:
    it sees the modes below 2/(degree + 1) of the Nyquist wavenumber. With Neumann and periodic axes the
    accuracy is spectral; with Dirichlet axes it is so for odd R (as u - u^3) and algebraic otherwise,
    since the odd extension of R(u) is not smooth.

    Args:
        basis: Periodic, Neumann or Dirichlet, 1 to 3 axes.
        reaction: R, a function of `u (B, [species], *grid)` and the parameters, each shaped to broadcast
            against one species `(B or 1, [1 or *grid])`; returns the shape of u.
        rates: Default value of every parameter of the reaction: a number, or a field `(*grid.shape)`.
        diffusivity: D, one number for one species, else one per species.
        species: Names of the species; the state is `(species, *grid)` if there are any.
        degree: Degree of R as a polynomial in u, for dealiasing.

    Parameters that can be unknown: `initial`, `diffusivity` (scalar, or one per species) and the rates.

    Raises:
        DataError: On use, for negative diffusivities.
    """

    def __init__(
        self,
        basis: SpectralBasis,
        reaction: Reaction,
        rates: Mapping[str, float | Tensor],
        *,
        diffusivity: float | tuple[float, ...],
        species: tuple[str, ...] = (),
        degree: int = 2,
    ) -> None:
        grid = basis.grid
        values = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in rates.items()}
        spaces = {
            name: Space((), name=name) if value.ndim == 0 else Space(grid.shape, name=name, dims=grid.dims)
            for name, value in values.items()
        }
        state = Space((len(species), *grid.shape), name=grid.name, dims=("species", *grid.dims), coords=grid.coords)
        super().__init__(
            basis,
            state=state if species else None,
            parameters={"diffusivity": Space((len(species),) if species else (), name="diffusivity"), **spaces},
            defaults={"diffusivity": torch.as_tensor(diffusivity, dtype=torch.float64), **values},
        )
        self.reaction, self.species = reaction, species
        self._multipliers = Multipliers(mask=real(polynomial_mask(basis, degree)))

    def symbol(self, p: Mapping[str, Tensor]) -> Tensor:
        """-D |k|^2, real."""
        d = p["diffusivity"]
        return d.reshape(*d.shape, *(1,) * len(self.basis.grid.shape)) * self.basis.laplacian(d)

    def nonlinear(self, u_hat: Tensor, t: float, p: Mapping[str, Tensor]) -> Tensor:
        """R(u), dealiased."""
        mask = self._multipliers("mask", u_hat)
        u = self.basis.to_grid(u_hat * mask)
        d = len(self.basis.grid.shape)
        rates = {
            name: value.reshape(-1, *(value.shape[1:] or (1,) * d))
            for name, value in p.items()
            if name != "diffusivity"
        }
        return self.basis.to_spectral(self.reaction(u, rates)) * mask

    def check(self, p: Mapping[str, Tensor], step: float) -> None:
        """Refuse negative diffusivities."""
        d = p["diffusivity"]
        refuse_negative(d if d.ndim == 1 else d.amin(1), "diffusivity")


class FisherKPPSpectral(ReactionDiffusionSpectral):
    """Fisher's equation u_t = D Laplace u + r u (1 - u): fronts that invade at the speed 2 sqrt(D r) or faster.

    Args:
        basis: Periodic, Neumann or (with algebraic accuracy) Dirichlet.
        diffusivity: D >= 0.
        growth: r, a number or a field `(*grid.shape)`.

    Source: Fisher, Annals of Eugenics 7 (1937); Ablowitz and Zeppetella, Bull. Math. Biol. 41 (1979) for
    an exact front.
    """

    def __init__(
        self,
        basis: SpectralBasis,
        *,
        diffusivity: float = 1.0,
        growth: float | Tensor = 1.0,
    ) -> None:
        super().__init__(basis, _logistic, {"growth": growth}, diffusivity=diffusivity, degree=2)


class GrayScottSpectral(ReactionDiffusionSpectral):
    """Gray and Scott's autocatalysis: u_t = D_u Laplace u - u v^2 + F (1 - u), v_t = D_v Laplace v + u v^2 - (F + k) v.

    Args:
        basis: Periodic or Neumann.
        diffusivity: D_u, D_v.
        feed: F, a number or a field.
        kill: k, a number or a field.

    Source: Pearson, Science 261 (1993).
    """

    def __init__(
        self,
        basis: SpectralBasis,
        *,
        diffusivity: tuple[float, float] = (2e-5, 1e-5),
        feed: float | Tensor = 0.04,
        kill: float | Tensor = 0.06,
    ) -> None:
        super().__init__(
            basis,
            _gray_scott,
            {"feed": feed, "kill": kill},
            diffusivity=diffusivity,
            species=("u", "v"),
            degree=3,
        )


def _logistic(u: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    return p["growth"] * u * (1 - u)


def _gray_scott(state: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    u, v = state.unbind(1)
    conversion = u * v.square()
    return torch.stack([p["feed"] * (1 - u) - conversion, conversion - (p["feed"] + p["kill"]) * v], dim=1)
