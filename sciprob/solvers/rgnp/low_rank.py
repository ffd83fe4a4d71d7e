"""Gaussians whose covariance is a diagonal plus a few factors: density, entropy, draws, conditioning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sciprob.errors import ShapeError
from sciprob.random import randn
from sciprob.spaces.shapes import broadcast_shapes


@dataclass(frozen=True)
class LowRankGaussian:
    r"""N(m, diag(s^2) + C C^T) over n numbers; every operation costs O(n k^2).

    A draw is m + s e + C l: e white noise of the entries, l the k latents that all entries share. The
    latents make draws at different points belong to one function, so what is learned of them at some
    points counts at others.

    Args:
        mean: m `(*batch, n)`.
        std: s `(*batch, n)`, >= 0; densities and entropy need s > 0, or noise added to them.
        factors: C `(*batch, n, k)`; k may be 0.

    Raises:
        ShapeError: If the shapes do not fit each other.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    mean: Tensor
    std: Tensor
    factors: Tensor

    def __post_init__(self) -> None:
        event = self.mean.shape[-1:]
        if self.std.shape[-1:] != event or self.factors.ndim < 2 or self.factors.shape[-2:-1] != event:
            message = (
                "mean (*batch, n), std (*batch, n) and factors (*batch, n, k) should have one n, "
                f"got {tuple(self.mean.shape)}, {tuple(self.std.shape)} and {tuple(self.factors.shape)}."
            )
            raise ShapeError(message)

    @property
    def rank(self) -> int:
        """Number k of latents."""
        return self.factors.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        """Leading axes that the three tensors have together."""
        shape: torch.Size = broadcast_shapes(self.mean.shape[:-1], self.std.shape[:-1], self.factors.shape[:-2])
        return shape

    @property
    def variance(self) -> Tensor:
        """Marginal variances `(*batch, n)`."""
        return self.std.square() + self.factors.square().sum(-1)

    def covariance(self) -> Tensor:
        """Dense covariance `(*batch, n, n)`; for small n."""
        return torch.diag_embed(self.std.square()) + self.factors @ self.factors.mT

    def affine(self, shift: Tensor, scale: Tensor) -> LowRankGaussian:
        """The law of shift + scale u, both `(*batch, n)`."""
        return LowRankGaussian(shift + scale * self.mean, scale.abs() * self.std, scale[..., None] * self.factors)

    def noisy(self, noise: Tensor | float) -> LowRankGaussian:
        """The law of u plus independent noise of standard deviation `noise`, a number or `(*batch, n)`."""
        return LowRankGaussian(self.mean, (self.std**2 + noise**2) ** 0.5, self.factors)

    def log_prob(self, u: Tensor) -> Tensor:
        """Normalised log density `(*batch,)` of u `(*batch, n)`."""
        deviation = (u - self.mean) / self.std
        projected = torch.linalg.solve_triangular(self._root, self._projection(deviation)[..., None], upper=False)
        quadratic = deviation.square().sum(-1) - projected.square().sum((-2, -1))
        density: Tensor = -0.5 * (quadratic + self._log_det + self.mean.shape[-1] * math.log(2 * math.pi))
        return density

    def solve(self, v: Tensor) -> Tensor:
        """(diag(s^2) + C C^T)^{-1} v for v `(*batch, n)`."""
        scaled = v / self.std
        inner = torch.cholesky_solve(self._projection(scaled)[..., None], self._root)
        return (scaled - (self._scaled @ inner)[..., 0]) / self.std

    def entropy(self) -> Tensor:
        """-E log density, in closed form, `(*batch,)`."""
        n = self.mean.shape[-1]
        return 0.5 * (self._log_det + n * (1 + math.log(2 * math.pi))).expand(self.batch_shape)

    def draw(self, noise: Tensor, latents: Tensor) -> Tensor:
        """The value m + s e + C l for white noise e `(*batch, n)` and latents l `(*batch, k)`."""
        return self.mean + self.std * noise + (self.factors @ latents[..., None])[..., 0]

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws `(*shape, *batch, n)`."""
        lead = (*shape, *self.batch_shape)
        noise = randn((*lead, self.mean.shape[-1]), self.mean, generator)
        return self.draw(noise, randn((*lead, self.rank), self.mean, generator))

    def latents_given(self, y: Tensor, noise: Tensor | float) -> Latents:
        """The latents after y `(*batch, n)`, measurements of u with noise of that standard deviation.

        With R = diag(s^2 + noise^2) and S = (I + C^T R^-1 C)^-1 they are N(S C^T R^-1 (y - m), S).
        """
        observed = self.noisy(noise)
        root = observed._root
        score = observed._projection((y - observed.mean) / observed.std)[..., None]
        half = torch.linalg.solve_triangular(root, score, upper=False)
        mean = torch.linalg.solve_triangular(root.mT, half, upper=True)[..., 0]
        identity = torch.eye(self.rank, dtype=root.dtype, device=root.device).expand(root.shape)
        return Latents(mean, torch.linalg.solve_triangular(root.mT, identity, upper=True))

    def given(self, latents: Latents) -> LowRankGaussian:
        """This law, at any points, once the latents are known from measurements at other points."""
        mean = self.mean + (self.factors @ latents.mean[..., None])[..., 0]
        return LowRankGaussian(mean, self.std, self.factors @ latents.root)

    def conditioned(self, y: Tensor, noise: Tensor | float) -> LowRankGaussian:
        """This law at the points of the measurements y themselves, where the entries' own noise s e is learned too."""
        latent = self.given(self.latents_given(y, noise))
        gain = self.std**2 / (self.std**2 + noise**2)
        rest = 1 - gain
        return LowRankGaussian(
            rest * latent.mean + gain * y, rest.sqrt() * latent.std, rest[..., None] * latent.factors
        )

    @cached_property
    def _scaled(self) -> Tensor:
        return self.factors / self.std[..., None]

    @cached_property
    def _root(self) -> Tensor:
        """Cholesky factor of W = I + C^T diag(s^-2) C."""
        gram = self._scaled.mT @ self._scaled
        # W >= I is never singular; where it is NaN so are density and entropy, instead of an error for all the batch
        identity = torch.eye(self.rank, dtype=gram.dtype, device=gram.device)
        root: Tensor = torch.linalg.cholesky_ex(gram + identity).L
        return root

    @cached_property
    def _log_det(self) -> Tensor:
        return 2 * self.std.log().sum(-1) + 2 * self._root.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def _projection(self, deviation: Tensor) -> Tensor:
        """C^T diag(1 / s) applied to a deviation in units of s."""
        return (self._scaled.mT @ deviation[..., None])[..., 0]


@dataclass(frozen=True)
class Latents:
    """A Gaussian over shared latents: mean `(*batch, k)` and a root of the covariance `(*batch, k, k)`."""

    mean: Tensor
    root: Tensor
