"""The posterior in whitened coordinates, where the prior is standard normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sciprob.operators.linear import FunctionMap, LinearMap
from sciprob.problems.problem import Problem
from sciprob.spaces import Space


@dataclass(frozen=True)
class LocalModel:
    """The posterior around one point xi.

    Attributes:
        clean: G(m(xi)), `(*codomain.shape)`.
        objective: -log p(y | m(xi)) + |xi|^2 / 2.
        gradient: Its gradient, `(*white.shape)`.
        data_map: B = W^{1/2} J L from white space to white data; the Gauss-Newton Hessian is I + B^T B.
    """

    clean: Tensor
    objective: float
    gradient: Tensor
    data_map: LinearMap

    def hessian(self, v: Tensor) -> Tensor:
        """(I + B^T B) v for `v (k, *white.shape)`."""
        product: Tensor = v + self.data_map.T(self.data_map(v))
        return product


class WhitenedTarget:
    """-log p(y | m(xi)) + |xi|^2 / 2 with m = whitening(xi).

    Args:
        problem: A problem with data and a whitened prior.
        level: Variance factor of Gaussian noise of unknown level to condition on; None leaves the
            noise model as it is (with its level integrated out).
    """

    def __init__(self, problem: Problem, level: float | None = None) -> None:
        self.data = problem.observed
        self.whitening = problem.prior.whitening
        self.operator = problem.operator @ self.whitening
        noise: Any = problem.likelihood.noise
        self.noise: Any = noise if level is None else noise.at_level(level)
        self.white: Space = self.whitening.domain

    @property
    def origin(self) -> Tensor:
        """Xi of the prior's centre, zero, with the dtype and device of the data."""
        return self.data.new_zeros(self.white.shape)

    @torch.no_grad()
    def negative_log_likelihood(self, xi: Tensor) -> Tensor:
        """-log p(y | m(xi)), `(*batch,)`."""
        value: Tensor = -self.noise.log_prob(self.operator(xi), self.data)
        return value

    def objective(self, xi: Tensor) -> Tensor:
        """-log p(y | m(xi)) + |xi|^2 / 2, `(*batch,)`."""
        square = xi.square().reshape(*self.white.batch_shape(xi), -1).sum(-1)
        return self.negative_log_likelihood(xi) + square / 2

    @torch.no_grad()
    def linearise(self, xi: Tensor) -> LocalModel:
        """Value, gradient and data map at one point `(*white.shape)`; one forward and one adjoint solve."""
        clean, jacobian = self.operator.linearise(xi)
        clean = clean.detach()
        score = self.noise.score(clean, self.data)
        gradient = (xi - jacobian.T(score)).detach()
        objective = float(xi.square().sum() / 2 - self.noise.log_prob(clean, self.data))
        return LocalModel(clean, objective, gradient, self._whitened(jacobian, clean))

    def residual(self, clean: Tensor) -> Tensor:
        """W^{1/2} (y - f), shaped as white data."""
        value: Tensor = self.noise.whiten(clean, self.data - clean)
        return value

    def _whitened(self, jacobian: LinearMap, clean: Tensor) -> LinearMap:
        codomain = self.operator.codomain
        white = Space(tuple(self.noise.whiten(clean, torch.zeros_like(clean)).shape), name="white_data")
        weight = FunctionMap(
            codomain,
            white,
            lambda v: self.noise.whiten(clean, v),
            lambda v: self.noise.whiten_adjoint(clean, v),
        )
        product = weight @ jacobian
        assert isinstance(product, LinearMap)
        return product
