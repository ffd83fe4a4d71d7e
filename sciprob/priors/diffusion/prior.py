"""Priors given by a denoiser, and Gaussian priors seen as such."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from sciprob.errors import ConfigError, ShapeError
from sciprob.operators.base import Capability, ForwardOperator
from sciprob.priors.base import Prior
from sciprob.priors.diffusion.denoiser import Denoiser, StandardNormalDenoiser
from sciprob.random import randn
from sciprob.spaces import Space

if TYPE_CHECKING:
    from sciprob.priors.base import GaussianPrior


@runtime_checkable
class SampledDenoiser(Protocol):
    """A denoiser that knows exact draws of x."""

    def sample(self, shape: tuple[int, ...] = (), *, generator: torch.Generator) -> Tensor:
        """Draws of x, `(*shape, *space.shape)`."""
        ...


class DiffusionPrior(Prior):
    """The unknown m = T(x), where x is known by the denoiser D(z, sigma) = E[x | x + sigma e = z].

    The noise e is white in the coordinates of x. T carries everything that belongs between those and the
    unknown: units, a shift, or the root of a covariance, so that the noise on m has a trace-class covariance
    and refining the grid converges.

    Args:
        denoiser: D, on the latent space of x, scaled so that x has a standard deviation of about one.
        transform: T, latent space -> space of m; the identity if not given.
        surrogate: Gaussian approximation of the law of x (mean and covariance), used to guide ensembles
            and never as the prior itself.
        sigma_max: Largest noise level; well above the spread of x.
        sigma_min: Smallest noise level at which D is asked; below the finest detail of x.

    Raises:
        ShapeError: If denoiser, transform and surrogate do not fit.
        ConfigError: If not 0 < sigma_min < sigma_max.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        transform: ForwardOperator | None = None,
        *,
        surrogate: GaussianPrior | None = None,
        sigma_max: float = 80.0,
        sigma_min: float = 0.002,
    ) -> None:
        super().__init__(denoiser.space if transform is None else transform.codomain)
        for name, space in (
            ("transform", transform and transform.domain),
            ("surrogate", surrogate and surrogate.space),
        ):
            if space is not None and space.shape != denoiser.space.shape:
                message = f"`{name}` should act on the denoiser's {denoiser.space.shape}, got {space.shape}."
                raise ShapeError(message)
        if not 0 < sigma_min < sigma_max:
            message = f"noise levels should be 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}."
            raise ConfigError(message)
        self.denoiser = denoiser
        self.transform = transform
        self.surrogate = surrogate
        self.sigma_max = sigma_max
        self.sigma_min = sigma_min

    @property
    def latent(self) -> Space:
        """Space of x."""
        return self.denoiser.space

    @property
    def capabilities(self) -> frozenset[Capability]:
        """A denoiser."""
        return frozenset({Capability.DENOISER})

    @property
    def diffusion(self) -> DiffusionPrior:
        """Itself."""
        return self

    def decode(self, x: Tensor) -> Tensor:
        """The unknown m = T(x), `(*batch, *space.shape)`."""
        if self.transform is None:
            return x
        decoded: Tensor = self.transform(x)
        return decoded

    def sample(
        self,
        shape: tuple[int, ...] = (),
        *,
        generator: torch.Generator,
        sampler: str | None = None,
        calls: int = 50,
        members: int = 256,
    ) -> Tensor:
        """Draws of m, `(*shape, *space.shape)`, float64.

        Args:
            shape: Leading axes.
            generator: Noise; the draws depend on it and on the number of members at once.
            sampler: `ddim`, `dpm-solver`, `dpm-solver++` or `edm-heun`, started from N(0, sigma_max^2 I). By default
                exact draws where the denoiser knows them (Gaussians, mixtures), else `dpm-solver++`.
            calls: Network calls of the sampler.
            members: Members in one batch of the network.

        Raises:
            ConfigError: For an unknown sampler, or less than one call or member.
        """
        if sampler is None and isinstance(self.denoiser, SampledDenoiser):
            return self.decode(self.denoiser.sample(shape, generator=generator))
        from sciprob.priors.diffusion.presets import make_sampler

        method, levels = make_sampler(sampler or "dpm-solver++", calls, self.sigma_max, self.sigma_min)
        if members < 1:
            message = f"`members` should be at least 1, got {members}."
            raise ConfigError(message)
        like = next(itertools.chain(self.buffers(), self.parameters()), torch.empty(0, device=generator.device))
        start = torch.empty(0, dtype=torch.float64, device=like.device)
        draws = []
        with torch.no_grad():
            for count in _portions(math.prod(shape), members):
                z = self.sigma_max * randn((count, *self.latent.shape), start, generator)
                draws.append(self.decode(method.run(self.denoiser, z, levels, generator)))
        return torch.cat(draws).reshape(*shape, *self.space.shape)

    @classmethod
    def of_whitened(cls, prior: Prior) -> DiffusionPrior:
        """The prior m = W(xi) of standard normal xi, exact: its denoiser is xi / (1 + sigma^2)."""
        from sciprob.operators.linear import DiagonalMap
        from sciprob.priors.base import GaussianPrior

        whitening = prior.whitening
        white = whitening.domain
        one = torch.ones(white.shape, dtype=torch.float64)
        surrogate = GaussianPrior(torch.zeros_like(one), DiagonalMap(one, white))
        return cls(StandardNormalDenoiser(white), whitening, surrogate=surrogate, sigma_max=20.0)


def _portions(count: int, most: int) -> list[int]:
    """`count` in parts of at most `most`; one empty part if there is nothing."""
    return [min(most, count - first) for first in range(0, count, most)] or [0]
