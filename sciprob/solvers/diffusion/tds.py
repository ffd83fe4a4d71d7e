"""Twisted diffusion sampling: `tds`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sciprob.solvers.checks import one_of
from sciprob.solvers.diffusion.ensemble_setup import EnsembleMethod
from sciprob.solvers.diffusion.particle_solver import ParticleSolver


@dataclass(frozen=True, kw_only=True)
class TwistedDiffusion(ParticleSolver):
    r"""Sequential Monte Carlo with the twist exp(-phi), phi = r(D)^T S_v^{-1} r(D) / 2 at the denoised particles D.

    The ancestral steps of the prior are shifted by -T grad phi, whose gradient goes through the network, and weighted
    by what the shift does not account for: exact for any number of steps as particles become many. The twist decides
    how many that are: with S_v = I (`variance="noise"`) it is far too sure of itself at large noise levels.

    Args:
        particles, steps, weights, threshold, sigma_max, sigma_min, noise_level, direct_limit, corrections,
            correction_sigma: As of `ParticleSolver`; each level takes one network call, forward and backward.
        tempering: Has no effect, weights are known after a step only.
        variance: `inflated`: S_v = I + v c / (v + c) A A^T for linear operators, c the mean variance of the
            prior's surrogate, 1 without one; `noise`: S_v = I, for any operator.

    Raises:
        ConfigError: If a setting is out of range.

    Source: Wu, Trippe, Naesseth, Blei, Cunningham, NeurIPS 2023, arXiv 2306.17775.
    """

    variance: Literal["inflated", "noise"] = "inflated"

    name: ClassVar[str] = "tds"
    citations: ClassVar[tuple[str, ...]] = ("wu2023tds",)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "variance", ("inflated", "noise"))

    @property
    def _method(self) -> EnsembleMethod:
        return EnsembleMethod("twisted", "surrogate" if self.variance == "inflated" else "constant")
