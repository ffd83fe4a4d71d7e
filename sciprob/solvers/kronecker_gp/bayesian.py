"""Fully Bayesian kernels: Hamiltonian Monte Carlo over their parameters, and the mixture of the Gaussians they give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import ConvergenceError
from sciprob.metrics import mcmc
from sciprob.pde.functionals import TensorPoints
from sciprob.pde.jet import Jet
from sciprob.posteriors.ensemble import Ensemble
from sciprob.priors.kernels.hyperpriors import KernelPrior
from sciprob.random import Streams, randn
from sciprob.solvers.hamiltonian import ChainRun, adapted, transitions, warm_up
from sciprob.solvers.kronecker_gp.candidates import Packed, unpack
from sciprob.solvers.kronecker_gp.hyperparameters import softened
from sciprob.solvers.kronecker_gp.kernel_density import KernelDensity
from sciprob.solvers.kronecker_gp.newton import LinearAlgebra
from sciprob.solvers.kronecker_gp.rows_of_problem import ProblemRows
from sciprob.spaces import Space

_ACCEPTANCE = 0.8
_DEPTH = 6  # in whitened coordinates a few leapfrog steps suffice
_BLOCK = 10  # draws of each chain in one step of the driver
_HALVINGS = 20


@dataclass
class KernelChains:
    """State of the chains.

    Attributes:
        origin: Parameters of the best fit, `(d,)`.
        root: theta = origin + root z, `(d, d)`.
        positions: z of each chain, `(chains, d)`.
        step_sizes: `(chains,)`.
        inverse_mass: `(chains, d)`.
        parameters: Draws of theta, `(chains, samples, d)`.
        fields: For each theta two draws of the field, mirrored at its mean, `(chains, samples, 2, *grid)`.
        warmed: Chains that are warm.
        kept: Draws of each chain.
        divergences: Of all chains, without warm-up.
        gradients: Evaluations of evidence and gradient.
        acceptance: Sum of the acceptance statistics of draws.
    """

    origin: Tensor
    root: Tensor
    positions: Tensor
    step_sizes: Tensor
    inverse_mass: Tensor
    parameters: Tensor
    fields: Tensor
    warmed: int = 0
    kept: int = 0
    divergences: int = 0
    gradients: int = 0
    acceptance: float = 0.0

    def progress(self) -> dict[str, float]:
        """For the log."""
        return {"warmed": float(self.warmed), "draws": float(self.kept), "gradients": float(self.gradients)}


@dataclass(frozen=True, eq=False)
class KernelSampler:
    r"""Samples p(u | y) = \int p(u | y, theta) p(theta | y) d theta.

    No-U-turn sampling (Pyro) of theta in coordinates whitened by the curvature at the best fit; for each theta two
    exact draws of the Gaussian p(u | y, theta), mirrored at its mean, so that the mean of all draws is that
    of the conditional means. Labels of components and signs of frequencies may switch: the field does not
    depend on them, R-hat of the parameters does.

    It suits noisy data, a handful of parameters and ranks up to some hundreds: every leapfrog step is a factorisation
    with its gradient. With exact data the evidence is so peaked, and so dependent on where spectra are cut, that chains
    barely move; divergences, R-hat and effective sample size tell.

    Args:
        density: Of theta.
        grid: Where fields are drawn.
        samples: Draws of theta kept in each chain.
        warm_up: Transitions that adapt step size and diagonal mass matrix.
        chains: One after the other.

    Sources: Hoffman and Gelman, J. Mach. Learn. Res. 15 (2014); Murray and Adams, NeurIPS 2010 (sampling kernels).
    """

    density: KernelDensity
    grid: TensorPoints
    samples: int
    warm_up: int
    chains: int = 2

    @staticmethod
    def steps(samples: int, chains: int = 2) -> int:
        """Calls of `step` to the end: one, one per warm-up, and one per block of draws."""
        return chains - (-samples // _BLOCK)

    def begin(self, streams: Streams) -> KernelChains:
        """Chains at draws of the Gaussian with the curvature at the best fit, drawn in where the density is not finite.

        Raises:
            ConvergenceError: If the density is not finite around the best fit.
        """
        origin, root = self.density.origin, self.density.whitening()
        d = len(origin)
        z = randn((self.chains, d), origin, streams["kernel-chains"])
        positions = torch.stack([self._inside(origin, root, start) for start in z])
        return KernelChains(
            origin,
            root,
            positions,
            torch.ones(self.chains, dtype=torch.float64),
            torch.ones_like(positions),
            origin.new_zeros(self.chains, self.samples, d),
            origin.new_zeros(self.chains, self.samples, 2, *self.grid.shape),
            gradients=2 * d,
        )

    def step(self, state: KernelChains, streams: Streams) -> KernelChains:
        """The warm-up of one chain, or a block of draws of every chain and their fields."""
        return self._warm(state, streams) if state.warmed < self.chains else self._draw(state, streams)

    def finished(self, state: KernelChains) -> bool:
        """Whether all draws are made."""
        return state.kept == self.samples

    def _inside(self, origin: Tensor, root: Tensor, z: Tensor) -> Tensor:
        for _ in range(_HALVINGS):
            try:
                self.density.value_and_slope(origin + root @ z)
                break
            except ConvergenceError:
                z = z / 2
        else:
            self.density.value_and_slope(origin)
            z = torch.zeros_like(z)
        return z

    def _warm(self, state: KernelChains, streams: Streams) -> KernelChains:
        chain = state.warmed
        run = warm_up(
            self._potential(state),
            state.positions[chain],
            _seed(streams),
            steps=self.warm_up,
            target=_ACCEPTANCE,
            depth=_DEPTH,
        )
        return replace(state, **adapted(state, run))

    def _draw(self, state: KernelChains, streams: Streams) -> KernelChains:
        kept = min(state.kept + _BLOCK, self.samples)
        runs = [self._run(state, chain, kept - state.kept, streams) for chain in range(self.chains)]
        for chain, run in enumerate(runs):
            thetas = state.origin + run.positions @ state.root.mT
            state.parameters[chain, state.kept : kept] = thetas
            pairs = [self._pair(theta, streams["fields"]) for theta in thetas]
            state.fields[chain, state.kept : kept] = torch.stack(pairs)
        return replace(
            state,
            positions=torch.stack([run.positions[-1] for run in runs]),
            kept=kept,
            divergences=state.divergences + sum(run.divergences for run in runs),
            gradients=state.gradients + sum(run.gradients for run in runs),
            acceptance=state.acceptance + (kept - state.kept) * sum(run.acceptance for run in runs) / len(runs),
        )

    def _run(self, state: KernelChains, chain: int, count: int, streams: Streams) -> ChainRun:
        return transitions(
            self._potential(state),
            state.positions[chain],
            _seed(streams),
            count=count,
            step_size=float(state.step_sizes[chain]),
            inverse_mass=state.inverse_mass[chain],
            depth=_DEPTH,
        )

    def _potential(self, state: KernelChains) -> Any:
        return lambda z: self.density.potential(state.origin + state.root @ z)

    def _pair(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        process = self.density.process(theta)
        mean, draw = process.mean(self.grid), process.sample(self.grid, 1, generator)[0]
        return torch.stack([draw, 2 * mean - draw])


def kernel_sampler(
    algebra: LinearAlgebra, rows: ProblemRows, best: Packed, first: Packed, u: Jet | None, samples: int, warm_up: int
) -> KernelSampler:
    """The sampler around the kernels of a best fit, with priors about those before any step on the evidence.

    A nonlinear equation stays linearised at `u`. Noise levels of exact rows are those of the best fit, at least 1e-6.
    """
    kernels, c = unpack(best), rows.collocation
    bounds = zip(unpack(first), c.lower, c.upper, strict=True)
    priors = tuple(KernelPrior.around(kernel, b - a) for kernel, a, b in bounds)
    density = KernelDensity(algebra, kernels, softened(kernels, rows.at(kernels, u)), priors)
    return KernelSampler(density, c.points(), samples, warm_up)


def mixture(space: Space, state: KernelChains) -> Ensemble:
    """The draws of the field so far, chain after chain; at least one block has to be drawn."""
    return Ensemble(space, state.fields[:, : state.kept].flatten(0, 2), chains=len(state.fields))


def figures(state: KernelChains) -> dict[str, Any]:
    """R-hat and effective sample sizes of the parameters, R-hat of the conditional means, cost, divergences."""
    found: dict[str, Any] = {
        "chains": len(state.fields),
        "draws_per_chain": state.kept,
        "hyperparameters": len(state.origin),
        "divergences": state.divergences,
        "gradients": state.gradients,
    }
    if state.kept:
        found["acceptance"] = state.acceptance / state.kept
    if state.kept >= 4:
        summary = mcmc.summary(state.parameters[:, : state.kept])
        means = mcmc.summary(state.fields[:, : state.kept].mean(2))
        found |= {**summary, "field_rhat_max": means["rhat_max"], "field_ess_bulk_min": means["ess_bulk_min"]}
        found |= mcmc.advice(summary)
    return found


def _seed(streams: Streams) -> int:
    generator = streams["kernel-nuts"]
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
