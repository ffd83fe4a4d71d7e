"""A problem seen from the latent variable of its diffusion prior."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ShapeError, UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.operators.linear import FunctionMap, LinearMap
from sciprob.problems.problem import Problem
from sciprob.spaces import Space


class LatentProblem:
    r"""The data as a function of the latent x, where m = T(x), in units of their noise.

    The residual is r(x) = W^{1/2} (G(T(x)) - y), flattened to `(m,)`, with W the precision of the noise, so that
    -log p(y | x) = |r(x)|^2 / 2 - log_normaliser for Gaussian noise of any covariance. Where G o T is affine,
    r(x) = A x - b with one matrix A.

    Several data sets can be carried: `data` with leading axes `(*sets, *codomain.shape)` gives b `(*sets, m)`, and
    then x should be `(*sets, N, *latent.shape)`.

    Args:
        problem: A problem with data, Gaussian noise and a prior with a denoiser.
        data: Data sets in place of the problem's own.
        level: Variance factor of Gaussian noise of unknown level to condition on.

    Raises:
        UnsupportedProblemError: If the noise is not Gaussian, or its level is unknown and not given, or the prior has
            no denoiser.
        ShapeError: If prior and operator do not fit.
    """

    def __init__(self, problem: Problem, data: Tensor | None = None, level: float | None = None) -> None:
        if Capability.GAUSSIAN_NOISE not in problem.likelihood.capabilities:
            message = f"diffusion solvers need Gaussian noise, `{problem.name}` has {type(problem.likelihood.noise)}."
            raise UnsupportedProblemError(message)
        self.problem = problem
        self.prior = problem.prior.diffusion
        self.denoiser = self.prior.denoiser
        self.latent: Space = self.prior.latent
        if not problem.operator.domain.compatible(self.prior.space):
            message = (
                f"the prior's unknown has shape {self.prior.space.shape}, but the operator of `{problem.name}` takes "
                f"{problem.operator.domain.shape}; use a prior made for this size, or resize one of them."
            )
            raise ShapeError(message)
        transform = self.prior.transform
        self.operator: Any = problem.operator if transform is None else problem.operator @ transform
        self.noise = _known_level(problem, level)
        self.data = problem.observed if data is None else data
        self.sets = problem.operator.codomain.batch_shape(self.data, "data")
        self.linear = Capability.LINEAR in problem.operator.capabilities and (
            transform is None or bool(getattr(transform, "linear", False))
        )
        self._white_shape = tuple(self.noise.whiten(self.data, torch.zeros_like(self.data)).shape[len(self.sets) :])
        self.white = Space((math.prod(self._white_shape),), name="white_data")
        self._affine: tuple[LinearMap, Tensor] | None = None

    @property
    def size(self) -> int:
        """Number of latent variables."""
        return self.latent.size

    @property
    def like(self) -> Tensor:
        """An empty tensor with dtype and device of the data."""
        return self.data.new_empty(0)

    @property
    def log_normaliser(self) -> Tensor:
        """Log p(y | x) where the residual is zero."""
        normaliser: Tensor = self.noise.log_prob(self.data, self.data)
        return normaliser.flatten()[0]

    def whiten(self, values: Tensor) -> Tensor:
        """W^{1/2} v flattened, `(*batch, *codomain.shape)` -> `(*batch, m)`."""
        batch = self.operator.codomain.batch_shape(values, "values")
        white: Tensor = self.noise.whiten(values, values)
        return white.reshape(*batch, self.white.size)

    def whiten_adjoint(self, values: Tensor) -> Tensor:
        """(W^{1/2})^T v, `(*batch, m)` -> `(*batch, *codomain.shape)`."""
        shaped = values.reshape(*values.shape[:-1], *self._white_shape)
        pulled: Tensor = self.noise.whiten_adjoint(shaped, shaped)
        return pulled

    def residual(self, x: Tensor) -> Tensor:
        """R(x), `(*batch, m)`, one batched forward call."""
        return self.whiten(self.operator(x) - self._targets(x))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Log p(y | x), normalised, `(*batch,)` in float64."""
        square = self.residual(x).double().square().sum(-1)
        return self.log_normaliser.double() - square / 2

    def residual_and_pullback(self, x: Tensor, weigh: Any = None) -> tuple[Tensor, Tensor]:
        """R(x) `(*batch, m)` and J(x)^T w(r), shaped as x, by one forward and one adjoint call.

        Args:
            x: `(*batch, *latent.shape)`.
            weigh: r -> w, both `(*batch, m)`; the identity if not given, which makes the second result the gradient of
                |r|^2 / 2.
        """
        point = x.detach().requires_grad_()
        with torch.enable_grad():
            clean = self.operator(point)
        residual = self.whiten(clean.detach() - self._targets(x))
        weighted = residual if weigh is None else weigh(residual)
        (gradient,) = torch.autograd.grad(clean, point, self.whiten_adjoint(weighted))
        return residual, gradient

    def jvp(self, x: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        """R(x) and J(x) dx, `(*batch, m)` each."""
        clean, tangent = self.operator.jvp(x, dx)
        return self.whiten(clean - self._targets(x)), self.whiten(tangent)

    def affine(self) -> tuple[LinearMap, Tensor]:
        """A and b of r(x) = A x - b for an affine G o T: a map latent -> `(m,)`, and `(*sets, m)`.

        Raises:
            UnsupportedProblemError: If G o T is not affine.
        """
        if not self.linear:
            message = f"the forward operator of `{self.problem.name}` is not linear in the latent variable."
            raise UnsupportedProblemError(message)
        if self._affine is None:
            origin = self.data.new_zeros(self.latent.shape)
            clean, jacobian = self.operator.linearise(origin)
            self._affine = self._whitened(jacobian), self.whiten(self.data - clean.detach())
        return self._affine

    def linearised(self, x: Tensor) -> tuple[Tensor, LinearMap]:
        """R(x) and J(x) as a map latent -> `(m,)`, at one point x `(*latent.shape)`."""
        clean, jacobian = self.operator.linearise(x)
        return self.whiten(clean.detach() - self.data), self._whitened(jacobian)

    def decode(self, x: Tensor) -> Tensor:
        """The unknown m = T(x), without a graph."""
        with torch.no_grad():
            return self.prior.decode(x)

    def _targets(self, x: Tensor) -> Tensor:
        """The data with one axis for the members of each set."""
        if not self.sets:
            return self.data
        batch = self.latent.batch_shape(x, "x")
        if batch[: len(self.sets)] != self.sets:
            message = f"with data sets {tuple(self.sets)} `x` should be (*sets, N, *latent), got {tuple(x.shape)}."
            raise ShapeError(message)
        members = (1,) * (len(batch) - len(self.sets))
        return self.data.reshape(*self.sets, *members, *self.operator.codomain.shape)

    def _whitened(self, jacobian: LinearMap) -> LinearMap:
        return FunctionMap(
            self.latent,
            self.white,
            lambda x: self.whiten(jacobian(x)),
            lambda w: jacobian.T(self.whiten_adjoint(w)),
        )


def _known_level(problem: Problem, level: float | None) -> Any:
    noise: Any = problem.likelihood.noise
    if getattr(noise, "level", None) is None:
        return noise
    if level is None:
        message = (
            f"the noise level of `{problem.name}` is unknown, and diffusion solvers condition on one; give it "
            "(`noise_level`), for example as `laplace` estimates it."
        )
        raise UnsupportedProblemError(message)
    return noise.at_level(level)
