"""Crank-Nicolson proposals: the Gaussian they leave invariant, and chains that take them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.random import randn
from sciprob.solvers.covariance import scale_along
from sciprob.solvers.whitened import WhitenedTarget


@dataclass(frozen=True)
class GaussianReference:
    """N(c, C) in whitened coordinates, C = (I + V^T diag(lam) V)^{-1}.

    Attributes:
        centre: c `(*white.shape)`.
        vectors: V `(r, *white.shape)`, orthonormal.
        values: lam `(r,)`.
    """

    centre: Tensor
    vectors: Tensor
    values: Tensor

    def propose(self, xi: Tensor, beta: float, generator: torch.Generator) -> Tensor:
        """C + sqrt(1 - beta^2) (xi - c) + beta C^{1/2} z for `xi (n, *white.shape)`: reversible under N(c, C)."""
        z = randn(tuple(xi.shape), xi, generator)
        noise = scale_along(self.vectors, (1 + self.values).rsqrt(), z)
        return self.centre + math.sqrt(1 - beta**2) * (xi - self.centre) + beta * noise

    def overdispersed(self, count: int, factor: float, generator: torch.Generator) -> Tensor:
        """Points `(count, *white.shape)` around c with `factor` times the std of C, nowhere wider than the prior."""
        z = randn((count, *self.centre.shape), self.centre, generator)
        return self.centre + scale_along(self.vectors, (factor * (1 + self.values).rsqrt()).clamp_max(1), z)

    def excess(self, xi: Tensor) -> Tensor:
        """|xi|^2 / 2 - (xi - c)^T C^{-1} (xi - c) / 2, `(n,)`.

        That is -log of prior over reference up to a constant, without the terms |xi|^2 that cancel
        and would grow with the dimension.
        """
        c = self.centre.flatten()
        along = (xi - self.centre).flatten(1) @ self.vectors.flatten(1).T
        return xi.flatten(1) @ c - c @ c / 2 - (self.values * along.square()).sum(1) / 2


class ChainBlock:
    """Several chains side by side, during a block of iterations.

    Args:
        target: The whitened posterior.
        reference: Gaussian that the proposals leave invariant.
        xi: Positions `(chains, *white.shape)`.
        energies: Their -log of posterior over reference `(chains,)`.
        step: beta in (0, 1].
    """

    def __init__(
        self, target: WhitenedTarget, reference: GaussianReference, xi: Tensor, energies: Tensor, step: float
    ) -> None:
        self.target, self.reference = target, reference
        self.xi, self.energies, self.step = xi, energies, step

    def advance(self, generator: torch.Generator) -> float:
        """One proposal for each chain, all in one forward call; mean acceptance probability."""
        proposal = self.reference.propose(self.xi, self.step, generator)
        energies = posterior_over_reference(self.target, self.reference, proposal)
        # From a start where the forward solver fails (infinity) any proposal is taken.
        log_ratio = (self.energies - energies).nan_to_num(nan=0.0, neginf=-math.inf).clamp_max(0)
        u = torch.rand(len(self.xi), generator=generator, device=generator.device, dtype=torch.float64)
        accept = u.log().to(self.xi) < log_ratio
        self.xi = torch.where(accept.reshape(-1, *(1 for _ in self.xi.shape[1:])), proposal, self.xi)
        self.energies = torch.where(accept, energies, self.energies)
        return float(log_ratio.exp().mean())

    def tune(self, rate: float, wanted: float, iteration: int) -> None:
        """Move beta towards the wanted acceptance, by steps that shrink, so that it settles."""
        gain = 2 / (1 + iteration) ** 0.6
        self.step = min(1.0, max(1e-4, self.step * math.exp(gain * (rate - wanted))))

    def misfits(self) -> Tensor:
        """-log likelihood of the current positions, `(chains,)`."""
        return self.energies - self.reference.excess(self.xi)


def posterior_over_reference(target: WhitenedTarget, reference: GaussianReference, xi: Tensor) -> Tensor:
    """-log of posterior over reference up to a constant, `(n,)`; infinite where the forward solver fails."""
    try:
        misfits = target.negative_log_likelihood(xi)
    except ConvergenceError:
        misfits = torch.stack([_alone(target, one) for one in xi])
    return misfits.nan_to_num(nan=math.inf, posinf=math.inf) + reference.excess(xi)


def _alone(target: WhitenedTarget, xi: Tensor) -> Tensor:
    try:
        return target.negative_log_likelihood(xi)
    except ConvergenceError:
        return xi.new_full((), math.inf)
