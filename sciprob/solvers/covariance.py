"""Posterior covariance around one point: in closed form, as a low-rank root, or as draws."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.linear import LinearMap
from sciprob.operators.low_rank import LowRankRoot
from sciprob.posteriors.base import Posterior
from sciprob.posteriors.ensemble import Ensemble
from sciprob.posteriors.gaussian import GaussianPosterior
from sciprob.posteriors.transformed import TransformedPosterior
from sciprob.priors.base import GaussianPrior, Prior
from sciprob.priors.transformed import TransformedPrior
from sciprob.problems.problem import Problem
from sciprob.random import randn
from sciprob.solvers.linear_algebra import block_conjugate_gradients
from sciprob.solvers.whitened import LocalModel


def perturbed_deviations(
    data_map: LinearMap, like: Tensor, generator: torch.Generator, *, count: int, tolerance: float, max_iterations: int
) -> tuple[Tensor, dict[str, float]]:
    """Draws of N(0, (I + B^T B)^{-1}) by perturb-and-optimise, `(count, *white.shape)`, and figures.

    With z and e standard normal on white space and white data, d = z + c with
    (I + B^T B) c = B^T (e - B z), all draws together. Solved on white space even where the data
    space is smaller: there an early iterate of d is already between the prior's draw z and the
    posterior's, so that stopping early errs on the wide side, while an early iterate of
    d = z + B^T (I + B B^T)^{-1} (e - B z) can be many times wider than the prior.

    Args:
        data_map: B.
        like: Tensor whose dtype and device are used.
        generator: Source of z and e.
        count: Number of draws.
        tolerance: Root-mean-square residual that ends the iteration, in units of the prior's std (1).
        max_iterations: Bound on the iterations.

    Sources: Papandreou and Yuille, NeurIPS (2010); Bardsley et al., SIAM J. Sci. Comput. 36 (2014).
    """
    white, data = data_map.domain, data_map.codomain
    z, e = (randn((count, *space.shape), like, generator) for space in (white, data))
    rhs = data_map.T(e - data_map(z))
    bound = tolerance * math.sqrt(white.size)
    cg = block_conjugate_gradients(lambda v: v + data_map.T(data_map(v)), rhs, bound, max_iterations)
    worst = float(cg.residual.max()) / math.sqrt(white.size)
    return z + cg.solution, {"cg_iterations": float(cg.iterations), "cg_residual": worst}


@dataclass(frozen=True)
class Draws:
    """Independent draws of a posterior's deviations, made in blocks that are solved together.

    Args:
        block: Draws per step.
        tolerance: As in `perturbed_deviations`.
        max_iterations: As in `perturbed_deviations`.
    """

    block: int
    tolerance: float
    max_iterations: int

    def next_block(
        self, problem: Problem, local: LocalModel, draws: Tensor, drawn: int, generator: torch.Generator
    ) -> tuple[int, dict[str, float]]:
        """Fill rows from `drawn` on of `draws (n, *shape)`; how many are filled now, and figures.

        Args:
            problem: Its prior tells how deviations are stored.
            local: The posterior around its mode.
            draws: Changed in place.
            drawn: Rows that are filled already.
            generator: Source of the draws.
        """
        count = min(self.block, len(draws) - drawn)
        spread, figures = perturbed_deviations(
            local.data_map,
            local.gradient,
            generator,
            count=count,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        draws[drawn : drawn + count] = Unwhitened.of(problem.prior).store(spread)
        return drawn + count, figures | {"drawn": float(drawn + count)}


def advice_on_draws(figures: Mapping[str, float], tolerance: float, setting: str) -> dict[str, str]:
    """`{"advice": ...}` if draws were stopped before their tolerance, else nothing.

    Args:
        figures: Those of the last block of draws.
        tolerance: What the residual should have reached.
        setting: Setting that bounds the iterations.
    """
    residual = figures.get("cg_residual", 0.0)
    if residual <= tolerance:
        return {}
    words = f"The draws stopped at a residual of {residual:.2g} prior std, above {tolerance:g}, so that"
    return {"advice": f"{words} the std is too wide; raise `{setting}`."}


@dataclass(frozen=True)
class Unwhitened:
    """A whitened prior taken apart: m = transform(mean + root xi), as far as it has that form.

    Attributes:
        gaussian: The Gaussian prior of m, or of the latent variable; None for other whitenings.
        transformed: The transformed prior, if m is a transform of the latent variable.
        prior: The prior itself.
    """

    gaussian: GaussianPrior | None
    transformed: TransformedPrior | None
    prior: Prior

    @classmethod
    def of(cls, prior: Prior) -> Unwhitened:
        """Recognise the form of a prior."""
        if isinstance(prior, GaussianPrior):
            return cls(prior, None, prior)
        if isinstance(prior, TransformedPrior) and isinstance(prior.latent, GaussianPrior):
            return cls(prior.latent, prior, prior)
        return cls(None, None, prior)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of stored deviations: of the Gaussian field where there is one, else of xi."""
        shape: tuple[int, ...]
        shape = self.prior.whitening.domain.shape if self.gaussian is None else self.gaussian.space.shape
        return shape

    def store(self, deviations: Tensor) -> Tensor:
        """Deviations of xi as they are stored, `(n, *shape)`."""
        return deviations if self.gaussian is None else self.gaussian.root(deviations).detach()

    def posterior_from_root(self, xi: Tensor, vectors: Tensor, values: Tensor, spread: Tensor | None) -> Posterior:
        """Posterior with covariance L (I + V^T lam V)^{-1} L^T around xi.

        Args:
            xi: Mean, or most probable point.
            vectors: V `(r, *white.shape)`.
            values: lam `(r,)`.
            spread: Deviations of xi `(n, *white.shape)`, for whitenings that are not Gaussian.
        """
        if self.gaussian is None:
            return self._pushed(xi, spread)
        root = LowRankRoot(self.gaussian.root, vectors, values)
        variance = root.variance(self.gaussian.variance().to(xi))
        mean = self._mean(xi)
        return self._wrap(GaussianPosterior(self.gaussian.space, mean=mean, root=root, variance=variance))

    def posterior_from_draws(self, xi: Tensor, deviations: Tensor) -> Posterior:
        """Posterior from stored deviations `(n, *shape)` around xi."""
        if self.gaussian is None:
            return self._pushed(xi, deviations)
        mean = self._mean(xi)
        return self._wrap(GaussianPosterior(self.gaussian.space, mean=mean, draws=mean + deviations))

    def _mean(self, xi: Tensor) -> Tensor:
        assert self.gaussian is not None
        mean: Tensor = self.gaussian.mean.to(xi) + self.gaussian.root(xi).detach()
        return mean

    def _pushed(self, xi: Tensor, deviations: Tensor | None) -> Posterior:
        if deviations is None or len(deviations) == 0:
            message = "this prior is no function of a Gaussian field, its posterior needs draws and there are none yet."
            raise UnsupportedProblemError(message)
        with torch.no_grad():
            return Ensemble(self.prior.space, self.prior.whitening(xi + deviations))

    def _wrap(self, base: GaussianPosterior) -> Posterior:
        if self.transformed is None:
            return base
        return TransformedPosterior(base, self.transformed.transform, self.prior.space)


def low_rank_deviations(
    vectors: Tensor, values: Tensor, like: Tensor, generator: torch.Generator, count: int
) -> Tensor:
    """Draws of N(0, (I + V^T lam V)^{-1}), `(count, *white.shape)`."""
    z = randn((count, *like.shape), like, generator)
    return scale_along(vectors, (1 + values).rsqrt(), z)


def scale_along(vectors: Tensor, factors: Tensor, x: Tensor) -> Tensor:
    """Multiply x `(n, *white.shape)` by `factors (r,)` along orthonormal `vectors (r, *white.shape)`."""
    flat, v = x.flatten(1), vectors.flatten(1)
    return x + (((flat @ v.T) * (factors - 1)) @ v).reshape(x.shape)
