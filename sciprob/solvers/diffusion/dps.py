"""Diffusion posterior sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciprob.operators.base import Capability
from sciprob.random import randn
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.diffusion.annealing import Annealing
from sciprob.solvers.diffusion.latent_problem import LatentProblem


@dataclass(frozen=True, kw_only=True)
class DPS(Annealing):
    r"""Ancestral sampling with gradient steps on the misfit of the denoised members.

    One step is x_s = (ancestral step of DDPM) - zeta grad_{x_t} |y - G(D)|^2, in the variance-preserving coordinate
    x = z / (1 + sigma^2)^{1/2}. The law of the data given x_t is replaced by the one given x_0 = D: the
    covariance of x_0 given x_t is set to zero.

    - `guidance="normalised"`, the paper's algorithm: zeta = scale / |y - G(D)|, in the units of the data.
    - `guidance="likelihood"`, the paper's approximation of the score: D is replaced by
      D + sigma^2 grad_z log N(y; G(D), noise), with `scale` as factor. Explicit, so that it diverges where a step
      in sigma^2 exceeds the noise variance over the square of G's slope.

    It is no posterior sampler: the limit of many steps is not the posterior even if all is Gaussian and D exact. For
    x ~ N(0, 1), y = x + N(0, 0.3^2) = 1.2 the flow with the likelihood guidance ends with mean 1.36 and variance
    1.5e-5 where the posterior has 1.10 and 0.083: over-confident by a factor of 5500. With the normalised
    step, spread and bias are whatever `scale`, `steps` and the units make them. Use it for single reconstructions.

    Args:
        scale: zeta', 0.1 to 1 in the paper for images in [-1, 1].
        guidance: `normalised` or `likelihood`.
        ancestral: Whether the step is ancestral; without, it is DDIM.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Chung, Kim, McCann, Klasky, Ye, ICLR 2023, arXiv 2209.14687, algorithm 1 and eq. 16.
    """

    scale: float = 1.0
    guidance: Literal["normalised", "likelihood"] = "normalised"
    ancestral: bool = True

    name: ClassVar[str] = "dps"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.DENOISER, Capability.VJP, Capability.GAUSSIAN_NOISE})
    citations: ClassVar[tuple[str, ...]] = ("chung2023",)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "scale")
        one_of(self, "guidance", ("normalised", "likelihood"))

    def move(self, latent: LatentProblem, z: Tensor, start: float, end: float, generator: torch.Generator) -> Tensor:
        """One network call with its gradient, one forward and one adjoint solve."""
        denoised, gradient = self._guide(latent, z, start)
        share = (end / start) ** 2 if self.ancestral else end / start
        moved = denoised + share * (z - denoised) - self._factor(start, end, share) * gradient
        spread = end * math.sqrt(1 - share) if self.ancestral else 0.0
        return moved + spread * randn(tuple(z.shape), z, generator) if spread > 0 else moved

    def _guide(self, latent: LatentProblem, z: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D and the gradient in z of the data's energy: |y - G(D)| or half its square in units of the noise."""
        point = z.detach().requires_grad_()
        with torch.enable_grad():
            denoised = latent.denoiser(point, sigma)
            if self.guidance == "normalised":
                gap = (latent.operator(denoised) - latent.data).flatten(1)
                energy = (
                    gap.square().sum(-1).sqrt().sum()
                )  # |y - G(D)|, whose gradient is that of its square over 2 |.|
            else:
                energy = latent.residual(denoised).square().sum() / 2
        (gradient,) = torch.autograd.grad(energy, point)
        return denoised.detach(), gradient

    def _factor(self, start: float, end: float, share: float) -> float:
        """Factor of the gradient in z.

        With x = alpha z, alpha = (1 + sigma^2)^{-1/2}, a step of -zeta grad_x in x_s is one of
        -zeta / (alpha_t alpha_s) grad_z in z_s.
        """
        if self.guidance == "likelihood":
            return self.scale * (1 - share) * start**2
        return 2 * self.scale * math.sqrt((1 + start**2) * (1 + end**2))
