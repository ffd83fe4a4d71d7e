"""The posterior of an equation's parameters from noisy values of its solution, in whitened coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sciprob.problems.family import ParameterBox
from sciprob.solvers.rgnp.low_rank import LowRankGaussian

_AT_ONCE = 1 << 16  # values of fields that are asked for at once
_LINEARISED_AT_ONCE = 1 << 14
_EDGE = 1e-9


class FieldLaw(Protocol):
    """What a surrogate believes of the field at the data's points, for parameters `z (b, dz)`."""

    def mean(self, z: Tensor) -> Tensor:
        """Mean `(b, n)`, twice differentiable in z."""
        ...

    def __call__(self, z: Tensor) -> LowRankGaussian:
        """Mean and covariance, over n numbers; its own diagonal may be zero."""
        ...


@dataclass(frozen=True)
class FieldPosterior:
    r"""p(xi | y) of z = lower + (upper - lower) Phi(xi): xi ~ N(0, I) is z uniform in its box.

    y = u(z) + noise, u(z) ~ N(mean(z), cov(z)) as the surrogate believes. So its doubt counts as noise, that
    changes with z, and is shared between points.

    Args:
        box: Of z.
        law: Of the field at the data's points.
        data: y `(n,)`.
        noise: Standard deviations `(n,)`, > 0.
    """

    box: ParameterBox
    law: FieldLaw
    data: Tensor
    noise: Tensor

    def parameters(self, xi: Tensor) -> Tensor:
        """The z of xi, `(*batch, dz)`."""
        lower, upper = self.box.ends(xi)
        z: Tensor = lower + (upper - lower) * torch.special.ndtr(xi)
        return z

    def whiten(self, z: Tensor) -> Tensor:
        """The inverse of `parameters`; z at or beyond an end of the box goes to a point just inside."""
        lower, upper = self.box.ends(z)
        whitened: Tensor = torch.special.ndtri(((z - lower) / (upper - lower)).clamp(_EDGE, 1 - _EDGE))
        return whitened

    def log_likelihood(self, xi: Tensor) -> Tensor:
        """Log N(y; mean, cov + noise^2) `(b,)` of xi `(b, dz)`; -inf where the surrogate fails."""
        step = max(1, _AT_ONCE // len(self.data))
        with torch.no_grad():
            parts = [self._observed(part).log_prob(self.data) for part in xi.split(step)]
        return torch.cat([xi.new_zeros(0), *parts]).nan_to_num(nan=-torch.inf, neginf=-torch.inf)

    def log_density(self, xi: Tensor) -> Tensor:
        """Log likelihood - |xi|^2 / 2, `(b,)`."""
        return self.log_likelihood(xi) - 0.5 * xi.square().sum(-1)

    def linearise(self, xi: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient `(b, dz)` and Gauss-Newton Hessian `(b, dz, dz)` of -log density, the covariance held fixed."""
        step = max(1, _LINEARISED_AT_ONCE // len(self.data))
        parts = [self._linearise(part) for part in xi.split(step)]
        d = xi.shape[-1]
        gradients = torch.cat([xi.new_zeros(0, d), *(gradient for gradient, _ in parts)])
        return gradients, torch.cat([xi.new_zeros(0, d, d), *(hessian for _, hessian in parts)])

    def misfit(self, xi: Tensor) -> Tensor:
        """Squared distance of the data from their law per datum `(b,)`: about one, if it can explain them."""
        with torch.no_grad():
            observed = self._observed(xi)
            deviation = self.data - observed.mean
            return (deviation * observed.solve(deviation)).mean(-1)

    def _linearise(self, xi: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            observed = self._observed(xi)
        columns = self._derivatives(xi)
        jacobian = torch.stack(columns, dim=-2)  # (b, dz, n)
        weighted = torch.stack([observed.solve(column) for column in columns], dim=-2)
        misfit = (self.data - observed.mean).unsqueeze(-1)
        gradient = xi - (weighted @ misfit)[..., 0]
        return gradient, torch.eye(xi.shape[-1]).to(xi) + weighted @ jacobian.mT

    def _derivatives(self, xi: Tensor) -> list[Tensor]:
        """Derivatives of the mean `(b, n)` in each coordinate.

        The gradient of u^T mean is linear in u, and its derivative in u is what is sought: reverse mode twice, as
        forward mode runs much of its arithmetic in Python.
        """
        with torch.enable_grad():
            point = xi.detach().requires_grad_()
            mean = self.law.mean(self.parameters(point))
            u = torch.zeros_like(mean).requires_grad_()
            (gradient,) = torch.autograd.grad((u * mean).sum(), point, create_graph=True)
            totals = gradient.sum(0).unbind()
        found = [torch.autograd.grad(total, u, retain_graph=True)[0] for total in totals]
        return [column.detach() for column in found]

    def _observed(self, xi: Tensor) -> LowRankGaussian:
        return self.law(self.parameters(xi)).noisy(self.noise)
