"""Gaussian noise: independent or correlated, of known or unknown level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciprob.errors import ConfigError, ShapeError
from sciprob.likelihoods.checks import finite, positive
from sciprob.likelihoods.level import InverseGamma
from sciprob.operators.base import Capability
from sciprob.operators.linear import LinearMap
from sciprob.random import randn
from sciprob.spaces import Space


class GaussianNoise(nn.Module):
    r"""y = f + s D C xi, xi standard normal, D = diag(std); covariance s^2 D C C^T D.

    The level s is 1, or unknown with s^2 ~ InverseGamma(a, b). The unknown level is integrated out
    exactly in `log_prob`, `score` and `sample`: y is then multivariate Student t with 2a degrees
    of freedom, location f and scale matrix (b / a) D C C^T D. Gauss-Newton methods condition on a
    level instead: `whiten` uses `nominal_level`, and `at_level` fixes another.

    Args:
        space: Space of the data.
        std: Standard deviation at level 1, a number or a tensor that broadcasts to `space.shape`;
            in the unit of the data.
        root: Square map C onto `space` with `solve` and `log_abs_det`; default the identity.
        level: Distribution of s^2; default s = 1.

    Raises:
        DataError: If `std` is not positive and finite; the message names the entry.
        ShapeError: If `std` or `root` does not fit `space`.

    Source: Gelman et al., Bayesian Data Analysis, 3rd ed. (2013), chapter 3.
    """

    std: Tensor

    def __init__(
        self, space: Space, std: float | Tensor, *, root: LinearMap | None = None, level: InverseGamma | None = None
    ) -> None:
        super().__init__()
        self.space = space
        self.level = level
        self.root = root
        self.register_buffer("std", positive(std, space, "std"))
        if root is not None and not (space.compatible(root.codomain) and root.domain.size == space.size):
            message = f"`root` should map {space.size} white variables onto {space.shape}, got {root.extra_repr()}."
            raise ShapeError(message)

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Gaussian, given the level."""
        return frozenset({Capability.GAUSSIAN_NOISE})

    @property
    def nominal_level(self) -> float:
        """The s^2 that `whiten` uses: 1 / E[1/s^2] = b / a, or 1 where the level is known."""
        return 1.0 if self.level is None else 1.0 / self.level.precision

    def check(self, y: Tensor) -> None:
        """Refuse data that are not finite.

        Raises:
            DataError: Naming the first bad entry.
        """
        finite(y, self.space)

    def log_prob(self, clean: Tensor, y: Tensor) -> Tensor:
        """Log p(y | f), `(*batch,)`, normalised; with an unknown level the Student t marginal."""
        square, n = self._square(clean, y), self.space.size
        constant = -0.5 * n * math.log(2 * math.pi) - self._log_det().to(square.dtype)
        if self.level is None:
            return constant - 0.5 * square
        a, b = self.level.shape, self.level.rate
        constant = constant + a * math.log(b) - math.lgamma(a) + math.lgamma(a + n / 2)
        return constant - (a + n / 2) * (b + square / 2).log()

    def score(self, clean: Tensor, y: Tensor) -> Tensor:
        """D log p(y | f) / d f, `(*batch, *event)`: s^{-2} R^{-1} (y - f), with E[s^{-2} | y, f] for an unknown s."""
        pull = self._whiten_adjoint(self._whiten(y - clean))
        if self.level is None:
            return pull
        precision = (self.level.shape + self.space.size / 2) / (self.level.rate + self._square(clean, y) / 2)
        return pull * precision.reshape(*precision.shape, *(1 for _ in self.space.shape))

    def whiten(self, clean: Tensor, v: Tensor) -> Tensor:
        """W^{1/2} v = s^{-1} C^{-1} D^{-1} v at the nominal level, `(*batch, *root.domain.shape)`."""
        return self._whiten(v) / math.sqrt(self.nominal_level)

    def whiten_adjoint(self, clean: Tensor, v: Tensor) -> Tensor:
        """(W^{1/2})^T v = s^{-1} D^{-1} C^{-T} v at the nominal level."""
        return self._whiten_adjoint(v) / math.sqrt(self.nominal_level)

    def sample(self, clean: Tensor, *, generator: torch.Generator) -> Tensor:
        """Draw y, shaped as f; an unknown level is drawn once for each batch entry."""
        batch = self.space.batch_shape(clean, "clean")
        white = self.space if self.root is None else self.root.domain
        noise = randn((*batch, *white.shape), clean, generator)
        if self.root is not None:
            noise = self.root(noise)
        noise = noise * self.std.to(clean.dtype)
        if self.level is not None:
            scale = self.level.sample(tuple(batch), clean, generator).sqrt()
            noise = noise * scale.reshape(*batch, *(1 for _ in self.space.shape))
        return clean + noise

    def at_level(self, level: float) -> GaussianNoise:
        """The same noise with the known variance factor s^2 = `level`.

        Raises:
            ConfigError: If `level` is not positive and finite.
        """
        if not (math.isfinite(level) and level > 0):
            message = f"the noise level should be positive and finite, got {level}; check the residual for NaN."
            raise ConfigError(message)
        return GaussianNoise(self.space, self.std * math.sqrt(level), root=self.root)

    def _whiten(self, v: Tensor) -> Tensor:
        v = v / self.std.to(v.dtype)
        return v if self.root is None else self.root.solve(v)

    def _whiten_adjoint(self, v: Tensor) -> Tensor:
        v = v if self.root is None else self.root.T.solve(v)
        return v / self.std.to(v.dtype)

    def _square(self, clean: Tensor, y: Tensor) -> Tensor:
        """`|C^{-1} D^{-1} (y - f)|^2`, `(*batch,)`."""
        self.space.batch_shape(clean, "clean")
        self.space.batch_shape(y, "y")
        white: Space = self.space if self.root is None else self.root.domain
        return white.total(self._whiten(y - clean).square())

    def _log_det(self) -> Tensor:
        """Log determinant of D C."""
        log_det = self.std.expand(self.space.shape).log().sum()
        return log_det if self.root is None else log_det + self.root.log_abs_det()
