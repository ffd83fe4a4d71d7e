"""Unconstrained coordinates with a density, for samplers that follow gradients."""

from __future__ import annotations

import abc
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.priors.distribution import DistributionPrior
from sciprob.problems.problem import Problem
from sciprob.random import randn
from sciprob.solvers.reference import GaussianReference


class Coordinates(abc.ABC):
    """A map from unconstrained variables to the unknown, and -log of the posterior density in them."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.data = problem.observed

    @classmethod
    def of(cls, problem: Problem, reference: GaussianReference | None = None) -> Coordinates:
        """Whitened coordinates where the prior has them, else those of the support of its distribution.

        Args:
            problem: A problem with data.
            reference: Gaussian that becomes standard normal in the whitened coordinates; default the prior.

        Raises:
            UnsupportedProblemError: If the prior has neither.
        """
        if Capability.WHITENED_PRIOR in problem.prior.capabilities:
            return WhitenedCoordinates(problem, reference)
        if isinstance(problem.prior, DistributionPrior):
            return SupportCoordinates(problem)
        kind = type(problem.prior).__name__
        message = f"`nuts` needs a whitened prior or a `DistributionPrior`, got {kind}; declare its `whitening`."
        raise UnsupportedProblemError(message)

    @abc.abstractmethod
    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws of the prior in these coordinates, `(count, *event)`."""

    @abc.abstractmethod
    def potential(self, x: Tensor) -> Tensor:
        """-log posterior density at one point `(*event)`, up to a constant."""

    @abc.abstractmethod
    def parameter(self, x: Tensor) -> Tensor:
        """The unknown m `(n, *space.shape)` at `x (n, *event)`."""


class WhitenedCoordinates(Coordinates):
    """z with m = whitening(xi) and xi = z, or xi = c + C^{1/2} z for a reference N(c, C)."""

    def __init__(self, problem: Problem, reference: GaussianReference | None) -> None:
        super().__init__(problem)
        self.whitening = problem.prior.whitening
        self.reference = reference

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """Standard normal draws."""
        return randn((count, *self.whitening.domain.shape), self.data, generator)

    def potential(self, x: Tensor) -> Tensor:
        """-log p(y | m(xi)) + |xi|^2 / 2."""
        xi = self._xi(x[None])[0]
        return xi.square().sum() / 2 - self.problem.likelihood.log_prob(self.whitening(xi), self.data)

    def parameter(self, x: Tensor) -> Tensor:
        """The prior's whitening."""
        m: Tensor = self.whitening(self._xi(x))
        return m.detach()

    def _xi(self, z: Tensor) -> Tensor:
        return z if self.reference is None else self.reference.at(z)


class SupportCoordinates(Coordinates):
    """Real variables that a smooth bijection maps onto the support of the prior's distribution."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        assert isinstance(problem.prior, DistributionPrior)
        self.bijection: Any = problem.prior.bijection

    def start(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws of the prior, mapped back."""
        draws: Tensor = self.bijection.inv(self.problem.prior.sample((count,), generator=generator))
        return draws.to(self.data).clone()

    def potential(self, x: Tensor) -> Tensor:
        """-log p(y | m) - log p(m) - log |dm / dx|."""
        m = self.bijection(x)
        volume = self.bijection.log_abs_det_jacobian(x, m).sum()
        density: Tensor = self.problem.likelihood.log_prob(m, self.data) + self.problem.prior.log_prob(m) + volume
        return -density

    def parameter(self, x: Tensor) -> Tensor:
        """The bijection."""
        m: Tensor = self.bijection(x)
        return m.detach()
