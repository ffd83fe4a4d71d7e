"""Weighted particles with a diffusion prior: `diffusion-ensemble`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sciprob.solvers.checks import at_least, between, one_of
from sciprob.solvers.diffusion.ensemble_setup import EnsembleMethod
from sciprob.solvers.diffusion.particle_solver import ParticleSolver


@dataclass(frozen=True, kw_only=True)
class DiffusionEnsemble(ParticleSolver):
    r"""Weighted particles that follow a diffusion prior's noise levels down to the posterior.

    Particles z at the noise variance v represent p_v(z) exp(-phi(z, v)), where p_v is the prior's law of x + sqrt(v) e
    and phi brings the data in, phi(z, 0) = -log p(y | z). They move, gather log-weights for what the move does not
    account for, and are resampled where the weights become uneven. No approximation of p(y | z) enters the target:
    errors come from the denoiser, the steps and the number of particles, and the weights say when particles do not
    suffice. The evidence comes with it.

    Moves:
        `conditioned`: the optimal Gaussian step towards the data, for linear operators. With a Gaussian prior that is
            its own surrogate it is exact for any number of steps, weights and evidence included.
        `denoised`: steps that compare the denoised particles with the data; for nonlinear operators, one shared
            linearisation guides all particles, and the weights make up for it.
        `renoised`: x is drawn given z and the data, linearised at each particle with a noise for what that leaves
            out, and the noise of the next level is added; equal weights. Exact for Gaussians and linear operators at
            any number of levels. Correctors repeat it at the same level.
        `continuous`: Euler steps of the guided stochastic equation; `kappa=1` is the published AFDPS-SDE, `kappa=0.5`
            the Feynman-Kac corrector, None adapts kappa.
        `flow`: the probability flow, with correctors: the published AFDPS-ODE.
        `auto`: `conditioned` for linear operators, else `renoised`, or `denoised` where `weights="path"`; `renoised`
            with a `start`.

    Twists phi, for linear operators: `surrogate` (the prior's Gaussian surrogate, or the variance 1 where it has none)
    and `inflation` (S_v = I + v A A^T); for any: `isotropic` (noise variance 1 + gamma^2 |A|^2 v), `linear`
    (1 - sigma / sigma_max) and `constant`. The last two are unstable at large noise levels; they are for comparison.

    Args:
        particles, steps, weights, threshold, tempering, sigma_max, sigma_min, noise_level, direct_limit, corrections,
            correction_sigma: As of `ParticleSolver`; a level takes one network call (two for `flow` and
            `renoised`) and as many for each corrector step (one for `flow`).
        move: How particles step.
        twist: phi.
        kappa: Strength of guidance of the move `continuous`; None adapts it to the ensemble.
        gamma: Of the twist `isotropic`.
        correctors: Corrector steps at each level.
        corrector: `langevin` (preconditioned, unadjusted) or `renoising` (a Gibbs step, stable for any size).
        corrector_step: Step size in (0, 1): delta of `langevin` (0.3 to 0.6 is usual), 1 - v''/v of `renoising`.
        products: Most products with the derivative and its transpose in a draw of `renoised`; thousands of precise
            data, as of a scan, want 40 or more.
        start: Folder of an earlier run with the same unknown, from whose draws `renoised` begins, with the noise of
            `sigma_max`, by default 1 then. It brings particles to where the data are fitted, which few particles do not
            find from pure noise when data are many and precise. What it had decided at scales above `sigma_max` stays,
            its other features have to survive under this prior.

    Raises:
        ConfigError: If a setting is out of range, or settings contradict each other.

    Sources: Chen, Ren, Min, Ying, Izzo, arXiv 2506.03979 (2025); Skreta et al., arXiv 2503.02819 (2025); Cardoso,
    Janati, Le Corff, Moulines, ICLR 2024, arXiv 2308.07983.
    """

    move: Literal["auto", "conditioned", "denoised", "renoised", "continuous", "flow"] = "auto"
    twist: Literal["surrogate", "inflation", "isotropic", "linear", "constant"] = "surrogate"
    kappa: float | None = None
    gamma: float = 1.0
    correctors: int = 0
    corrector: Literal["langevin", "renoising"] = "renoising"
    corrector_step: float = 0.8
    products: int = 12
    start: str = ""

    name: ClassVar[str] = "diffusion-ensemble"
    citations: ClassVar[tuple[str, ...]] = ("chen2025afdps",)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "move", ("auto", "conditioned", "denoised", "renoised", "continuous", "flow"))
        one_of(self, "twist", ("surrogate", "inflation", "isotropic", "linear", "constant"))
        one_of(self, "corrector", ("langevin", "renoising"))
        at_least(self, 0, "correctors", "gamma")
        at_least(self, 1, "products")
        between(self, 0, 1, "corrector_step")
        _ = self._method  # says if settings contradict each other

    @property
    def _method(self) -> EnsembleMethod:
        return EnsembleMethod(
            self.move,
            self.twist,
            self.kappa,
            self.gamma,
            self.correctors,
            self.corrector,
            self.corrector_step,
            self.weights == "path",
            self.products,
            self.start,
        )
