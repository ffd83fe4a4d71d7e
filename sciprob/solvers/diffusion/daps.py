"""Decoupled annealing posterior sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciprob.operators.base import Capability
from sciprob.priors.diffusion.levels import karras_levels
from sciprob.priors.diffusion.prior import DiffusionPrior
from sciprob.priors.diffusion.sampler import MultistepSampler
from sciprob.random import randn
from sciprob.solvers.checks import at_least, between
from sciprob.solvers.diffusion.annealing import Annealing
from sciprob.solvers.diffusion.latent_problem import LatentProblem
from sciprob.solvers.diffusion.proximal import proximal_draw


@dataclass(frozen=True, kw_only=True)
class DAPS(Annealing):
    r"""Each level draws x from the data's and the flow's view of it, and adds noise of the next level afresh.

    At level sigma the probability flow carries z to x_0(z); then x is drawn from
    p(x | z, y) ~ exp(-|r(x)|^2 / 2) N(x; x_0(z), sigma^2 I), and z at the next level is x + sigma' e. Large errors
    of early levels are forgotten, unlike those of guided flows.

    Draws of x are exact where the data are affine in the latent variable; else by Langevin dynamics, whose step
    is relative to the curvature of its target (the paper tunes a constant).

    Wrong by N(x_0(z), sigma^2 I) in the place of p(x | z): the flow's end is not the mean of x given z, and
    sigma^2 is too wide where x varies less than sigma. For x ~ N(0, C) and linear data the limit of many levels
    and an exact flow is the posterior of the prior N(0, 2 C): the prior counts half. Few levels or an inexact
    flow change that again, in either direction; well measured directions hardly notice.

    Args:
        flow_calls: Network calls of the flow at each level, by Euler steps in sigma.
        langevin_steps: For data that are not affine.
        langevin_rate: Langevin step relative to the inverse curvature.
        rho: Exponent of the levels' spacing.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Zhang, Chu, Berner, Meng, Anandkumar, Song, CVPR 2025, arXiv 2407.01521, algorithm 1.
    """

    steps: int = 200
    block: int = 5
    flow_calls: int = 5
    langevin_steps: int = 100
    langevin_rate: float = 0.5
    rho: float = 7.0

    name: ClassVar[str] = "daps"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DENOISER, Capability.JVP, Capability.VJP, Capability.GAUSSIAN_NOISE}
    )
    citations: ClassVar[tuple[str, ...]] = ("zhang2025daps",)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "flow_calls", "langevin_steps", "rho")
        between(self, 0, 1 + 1e-12, "langevin_rate")

    def levels(self, prior: DiffusionPrior) -> Tensor:
        """Karras levels, the last 0."""
        return karras_levels(self.steps, prior.sigma_max, prior.sigma_min, self.rho)

    def move(self, latent: LatentProblem, z: Tensor, start: float, end: float, generator: torch.Generator) -> Tensor:
        """The flow to zero, a draw given the data, and fresh noise."""
        with torch.no_grad():
            clean = self.flow(latent, z, start)
        x = proximal_draw(latent, clean, start**2, generator, self.langevin_steps, self.langevin_rate)
        return x + end * randn(tuple(x.shape), x, generator) if end > 0 else x

    def flow(self, latent: LatentProblem, z: Tensor, sigma: float) -> Tensor:
        """x_0(z) by `flow_calls` network calls; an Euler step in sigma is a step of DDIM."""
        smallest = latent.prior.sigma_min
        if self.flow_calls == 1 or sigma <= smallest:
            clean: Tensor = latent.denoiser(z, sigma)
            return clean
        levels = karras_levels(self.flow_calls, sigma, smallest, self.rho)
        return MultistepSampler(order=1).run(latent.denoiser, z, levels)
