"""Gaussian mixtures: exact denoiser, density and sampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.priors.diffusion.denoiser import Denoiser
from sciprob.priors.diffusion.gaussian import eigenpairs
from sciprob.random import randn
from sciprob.spaces import Space


class MixtureDenoiser(Denoiser):
    r"""Denoiser of x ~ sum_k w_k N(m_k, C_k), exact at every level.

    D(z, sigma) = sum_k r_k(z) (m_k + C_k (C_k + sigma^2 I)^{-1} (z - m_k)) with r_k proportional to
    w_k N(z; m_k, C_k + sigma^2 I), by log-sum-exp. One eigendecomposition per component serves every level.
    Computed in float64 whatever the dtype of z; memory of a call is batch x K x d.

    Args:
        weights: w, `(K,)`, positive; they are normalised.
        means: `(K, d)`.
        covariances: `(K, d, d)`, symmetric positive semi-definite.
        space: Space of x with d entries; default `(d,)`.

    Raises:
        ShapeError: If the shapes do not fit.
        ConfigError: If a weight is not positive or a covariance is not one.
    """

    log_weights: Tensor
    means: Tensor
    eigenvalues: Tensor
    vectors: Tensor

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor, space: Space | None = None) -> None:
        super().__init__(Space((means.shape[-1],)) if space is None else space)
        components, d = len(weights), self.space.size
        if tuple(means.shape) != (components, d) or tuple(covariances.shape) != (components, d, d):
            message = (
                f"{components} components on {self.space.shape} need means {(components, d)} and covariances "
                f"{(components, d, d)}, got {tuple(means.shape)} and {tuple(covariances.shape)}."
            )
            raise ShapeError(message)
        if not bool((weights > 0).all()) or not bool(torch.isfinite(weights).all()):
            message = "the weights of a mixture should be positive and finite; leave empty components out."
            raise ConfigError(message)
        eigenvalues, vectors = eigenpairs(covariances)
        self.register_buffer("log_weights", (weights / weights.sum()).to(torch.float64).log())
        self.register_buffer("means", means.detach().to(torch.float64))
        self.register_buffer("eigenvalues", eigenvalues)
        self.register_buffer("vectors", vectors)

    @property
    def mean(self) -> Tensor:
        """E x, `(*space.shape)`."""
        return (self.log_weights.exp() @ self.means).reshape(self.space.shape)

    @property
    def covariance(self) -> Tensor:
        """Cov x, `(d, d)`."""
        w = self.log_weights.exp()
        centred = self.means - w @ self.means
        within = (self.vectors * self.eigenvalues[:, None]) @ self.vectors.mT
        return torch.einsum("k,kij->ij", w, within) + (centred.mT * w) @ centred

    def responsibilities(self, z: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Probability of each component given z, `(*batch, K)`, float64; `sigma` broadcasts to `(*batch,)`."""
        batch = self.space.batch_shape(z, "z")
        level = torch.as_tensor(sigma, dtype=torch.float64, device=z.device).expand(batch).reshape(-1, 1)
        _, log_joint = self._joint(self.space.merge(z), level)
        return log_joint.softmax(-1).reshape(*batch, -1)

    def log_prob(self, z: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """Log density of z = x + sigma e, `(*batch,)`; `sigma` broadcasts to the batch."""
        batch = self.space.batch_shape(z, "z")
        level = torch.as_tensor(sigma, dtype=torch.float64, device=z.device).expand(batch).reshape(-1, 1)
        _, log_joint = self._joint(self.space.merge(z), level)
        return log_joint.logsumexp(-1).reshape(batch).to(z.dtype)

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Exact draws of x, `(*shape, *space.shape)`, float64."""
        count = math.prod(shape)
        uniform = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
        edges = self.log_weights.exp().cumsum(0)[:-1]
        chosen = torch.searchsorted(edges, uniform.to(edges.device), right=True)
        white = randn((count, self.space.size), self.means, generator)
        spread = self.eigenvalues.sqrt()[chosen] * white
        draws = self.means[chosen] + torch.einsum("bij,bj->bi", self.vectors[chosen], spread)
        return draws.reshape(*shape, *self.space.shape)

    def _denoise(self, z: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.reshape(-1, 1).to(torch.float64)
        modes, log_joint = self._joint(z, level)
        r = log_joint.softmax(-1)
        c, v = self.eigenvalues, level[:, None].square()
        gain = torch.where(c > 0, c / (c + v), 0.0)
        moved = torch.einsum("bk,kij,bkj->bi", r, self.vectors, gain * modes)
        denoised = (r @ self.means + moved).reshape(z.shape).to(z.dtype)
        return torch.where(sigma > 0, denoised, z)

    def _joint(self, z: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates in the components' eigenvectors `(B, K, d)`, and log w_k N(z; ...) `(B, K)`."""
        centred = z.reshape(len(z), 1, -1).to(torch.float64) - self.means
        modes = torch.einsum("bki,kij->bkj", centred, self.vectors)
        total = self.eigenvalues + level[:, None].square()
        energy = (modes.square() / total + total.log()).sum(-1)
        log_joint = self.log_weights - 0.5 * (energy + self.space.size * math.log(2 * math.pi))
        return modes, log_joint
