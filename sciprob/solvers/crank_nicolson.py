"""Chains that take Crank-Nicolson proposals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.solvers.reference import GaussianReference
from sciprob.solvers.whitened import WhitenedTarget


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
