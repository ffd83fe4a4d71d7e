"""Likelihoods: a forward operator and a noise model."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sciprob.operators.base import Capability, ForwardOperator


@runtime_checkable
class NoiseModel(Protocol):
    """Distribution of the data around clean values f; an `nn.Module` on `codomain`-shaped events.

    Shapes: `clean` and `y` are `(*batch, *event)` and broadcast; densities are `(*batch,)`.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the noise offers to solvers, `GAUSSIAN_NOISE` or nothing."""
        ...

    def check(self, y: Tensor) -> None:
        """Raise `DataError` if y cannot be data of this noise."""
        ...

    def log_prob(self, clean: Tensor, y: Tensor) -> Tensor:
        """Log p(y | f), normalised."""
        ...

    def score(self, clean: Tensor, y: Tensor) -> Tensor:
        """Derivative of log p(y | f) with respect to f, shaped as f."""
        ...

    def whiten(self, clean: Tensor, v: Tensor) -> Tensor:
        """W^{1/2} v, with the Fisher information W = (W^{1/2})^T W^{1/2} of the noise at f."""
        ...

    def whiten_adjoint(self, clean: Tensor, v: Tensor) -> Tensor:
        """(W^{1/2})^T v."""
        ...

    def sample(self, clean: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw data."""
        ...


class Likelihood(nn.Module):
    """p(y | m): deterministic operator G and noise model around G(m).

    Args:
        operator: m -> clean data.
        noise: A `NoiseModel` module.
    """

    def __init__(self, operator: ForwardOperator, noise: Any) -> None:
        super().__init__()
        self.operator = operator
        self.noise = noise

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Those of the operator and of the noise."""
        offers: frozenset[Capability] = self.operator.capabilities | self.noise.capabilities
        return offers

    def log_prob(self, m: Tensor, y: Tensor) -> Tensor:
        """Log p(y | m), `(*batch,)`."""
        log_density: Tensor = self.noise.log_prob(self.operator(m), y)
        return log_density

    def sample(self, m: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw data for m, `(*batch, *codomain.shape)`."""
        draw: Tensor = self.noise.sample(self.operator(m), generator=generator)
        return draw

    def score(self, m: Tensor, y: Tensor) -> Tensor:
        """Derivative of log p(y | m) with respect to m, by one forward and one adjoint action, shaped as m."""
        with torch.enable_grad():
            m = m.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_prob(m, y).sum(), m)
        return gradient
