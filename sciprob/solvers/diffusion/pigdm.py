"""Pseudoinverse-guided diffusion."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciprob.errors import UnsupportedProblemError
from sciprob.operators.base import Capability
from sciprob.problems.problem import Problem
from sciprob.random import randn
from sciprob.solvers.checks import at_least, one_of
from sciprob.solvers.diffusion.annealing import Annealing, affine_data, latent_problem
from sciprob.solvers.diffusion.latent_problem import LatentProblem


@dataclass(frozen=True, kw_only=True)
class PiGDM(Annealing):
    r"""DDIM steps guided by the data's law given x_t, with a Gaussian of variance r^2 = sigma^2/(1 + sigma^2) for x_0.

    With r(x) = A x - b in units of the noise, the score gains g = -J^T A^T (I + r^2 A A^T)^{-1} (A D - b), J the
    Jacobian of D in z. The limit of no noise is the pseudo-inverse that gave the name.

    - `weighting="adaptive"`, the paper's algorithm: z_s = D + r^2 g + (DDIM's noise terms without guidance). The
      guidance of a step does not shrink with the step, so that more steps are more confident: for x ~ N(0, 1) and
      y = x + N(0, 0.3^2) the variance is 0.34, 0.17, 0.05 of the posterior's after 20, 100, 1000 steps.
    - `weighting="score"`, the score itself: D + sigma^2 g in place of D.

    The weighting by the score is exact for x ~ N(0, I) in the limit of many steps, with first order. Any other
    covariance of x makes r^2 wrong: too large, and the data count too little, where x varies less than 1; too small,
    and members too sure, where more. Modes of mixtures get wrong shares, because members are not weighted.

    Args:
        eta: 0 deterministic DDIM, 1 ancestral noise.
        weighting: `adaptive` or `score`.

    Raises:
        ConfigError: If a setting is out of range.

    Sources: Song, Vahdat, Mardani, Kautz, ICLR 2023, eqs. 7 and 8, algorithm 1.
    """

    steps: int = 100
    eta: float = 1.0
    weighting: Literal["adaptive", "score"] = "adaptive"

    name: ClassVar[str] = "pigdm"
    needs: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.DENOISER, Capability.LINEAR, Capability.GAUSSIAN_NOISE}
    )
    citations: ClassVar[tuple[str, ...]] = ("song2023",)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "eta")
        one_of(self, "weighting", ("adaptive", "score"))

    def check(self, problem: Problem) -> None:
        """Linear also after the prior's transform.

        Raises:
            UnsupportedProblemError: If the prior is a nonlinear map of its latent variable.
        """
        if not latent_problem(problem, self.noise_level).linear:
            message = f"`pigdm` needs data linear in the latent variable, those of `{problem.name}` are not; use `dps`."
            raise UnsupportedProblemError(message)

    def move(self, latent: LatentProblem, z: Tensor, start: float, end: float, generator: torch.Generator) -> Tensor:
        """One network call with its gradient, one solve with I + r^2 A A^T."""
        data, variance = affine_data(latent), start**2 / (1 + start**2)
        point = z.detach().requires_grad_()
        with torch.enable_grad():
            denoised: Tensor = latent.denoiser(point, start)
        clean = denoised.detach()
        pulled = data.adjoint(data.solve(data.residual(clean), variance))
        (gradient,) = torch.autograd.grad(denoised, point, -pulled)
        churn = min(1.0, self.eta * math.sqrt(1 - (end / start) ** 2)) * end
        rest = math.sqrt(end**2 - churn**2)
        moved: Tensor
        if self.weighting == "score":
            guided = clean + start**2 * gradient
            moved = guided + rest / start * (z - guided)
        else:
            moved = clean + variance * gradient + rest / start * (z - clean)
        return moved + churn * randn(tuple(z.shape), z, generator) if churn > 0 else moved
